package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags. The method "resolve" makes the objects from them.
type settings struct {
	target
	app                         kubeapp.App
	createNamespace             bool
	command, args               cli.Strings
	ports, nodePorts            cli.Strings
	annotations                 cli.Strings
	allowChange                 string
	env, fromSecret, fromConfig cli.Strings
	readiness, liveness         string
	drainDelay                  time.Duration
	ingress                     string
	ingressClass, ingressTLS    string
	apply, dryRun, force        bool

	objects kubeapp.Objects
}

func parseSettings(inv cli.Invocation) (s *settings, code int, done bool) {
	fs := cli.NewFlagSet(program)
	s = &settings{}
	s.register(fs)
	if code, done := inv.Parse(fs); done {
		return nil, code, true
	}
	if err := s.resolve(inv); err != nil {
		return nil, inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err), true
	}
	return s, cli.ExitOK, false
}

func (s *settings) register(fs *flag.FlagSet) {
	fs.StringVar(&s.app.Name, "name", "", "`name` of the objects and of the container")
	fs.StringVar(&s.app.Namespace, "namespace", "", cli.Meaning("namespace"))
	fs.BoolVar(&s.createNamespace, "create-namespace", true, "also make the Namespace, except for the namespace default")
	fs.StringVar(&s.app.Image, "image", "", "`image` with a tag or a digest")
	fs.Var(&s.command, "command", "`word` of the command, instead of the entry point of the image; may be given several times")
	fs.Var(&s.args, "arg", "`argument` of the program; may be given several times")
	fs.IntVar(&s.app.Replicas, "replicas", 0, "`number` of pods; 0 means 2")
	fs.BoolVar(&s.app.Autoscaled, "autoscaled", false, "leave the number of pods to another program, such as a HorizontalPodAutoscaler")
	fs.Var(&s.ports, "port", "port of the container, as `NAME=NUMBER[,private][,app-protocol=PROTOCOL]`; a private port is not part of the Service; may be given several times")
	fs.Var(&s.nodePorts, "node-port", "`[NAME=]NUMBER` of a port on each node; auto lets Kubernetes choose it, and 0 means none; without a name it belongs to the first port that is not private; may be given several times")
	fs.Var(&s.annotations, "service-annotation", "annotation of the Service, as `NAME=VALUE`, such as headgate.dev/agent-port=9801; may be given several times")
	fs.StringVar(&s.allowChange, "allow-change", "", "`list` of the node ports and other words that the change may drop, separated by commas; the value of the annotation "+change.Annotation)
	fs.Var(&s.env, "env", "variable of the environment, as `NAME=VALUE`; may be given several times")
	fs.Var(&s.fromSecret, "env-from-secret", "`name` of a Secret with variables of the environment; may be given several times")
	fs.Var(&s.fromConfig, "env-from-configmap", "`name` of a ConfigMap with variables of the environment; may be given several times")
	fs.StringVar(&s.app.Resources.CPU, "cpu", "", "CPU request, as an `amount` such as 250m; 100m if empty")
	fs.StringVar(&s.app.Resources.Memory, "memory", "", "memory request, as an `amount` such as 256Mi; 128Mi if empty")
	fs.StringVar(&s.app.Resources.CPULimit, "cpu-limit", "", "CPU limit, as an `amount`; none if empty")
	fs.StringVar(&s.app.Resources.MemoryLimit, "memory-limit", "", "memory limit, as an `amount`; the memory request if empty")
	fs.Int64Var(&s.app.RunAsUser, "run-as-user", 0, "`number` of the user of the container; 0 means the user of the image, which must be a number other than 0")
	fs.BoolVar(&s.app.WritableRoot, "writable-root", false, "let the container write to its root file system, and not only to /tmp")
	fs.StringVar(&s.readiness, "readiness", "", "`check` that decides whether a pod gets traffic: [PORT]/PATH for HTTP, tcp[:PORT], grpc[:PORT] or none; tcp if empty")
	fs.StringVar(&s.liveness, "liveness", "", "`check` that decides whether the kubelet restarts a container, in the same form; none if empty")
	fs.DurationVar(&s.drainDelay, "drain-delay", kubeapp.DefaultDrainDelay, cli.Meaning("drain-delay", "the drain of a pod begins when somebody deletes the pod, and SIGTERM follows after the delay"))
	fs.DurationVar(&s.app.StopTime, "stop-time", 0, "time from SIGTERM to SIGKILL; 0 means 30s")
	fs.StringVar(&s.ingress, "ingress", "", "`HOST[/PATH]` of an Ingress; no Ingress if empty")
	fs.StringVar(&s.ingressClass, "ingress-class", "", "`name` of the IngressClass; the default class of the cluster if empty")
	fs.StringVar(&s.ingressTLS, "ingress-tls", "", "`name` of the Secret with the certificate of the Ingress; no TLS if empty")
	fs.BoolVar(&s.apply, "apply", false, "apply the objects instead of printing them, unless the change would hurt traffic")
	fs.BoolVar(&s.dryRun, "dry-run", false, cli.Meaning("dry-run", "with -apply, the API server checks the objects"))
	fs.BoolVar(&s.force, "force-conflicts", false, "with -apply: take fields that other programs have set")
	s.target.register(fs)
}

func (s *settings) resolve(inv cli.Invocation) error {
	if !s.apply {
		for name, given := range map[string]bool{"-dry-run": s.dryRun, "-force-conflicts": s.force, "-routes": len(s.routes) > 0} {
			if given {
				return fmt.Errorf("%s needs -apply", name)
			}
		}
	}
	if err := s.target.resolve(inv); err != nil {
		return err
	}
	if !s.where.Live() {
		return errors.New("-cluster: a directory is not a cluster that objects can be applied to")
	}
	a := &s.app
	a.ExistingNamespace, a.Command, a.Args = !s.createNamespace, s.command, s.args
	a.DrainDelay = cli.NoneIfZero(s.drainDelay)
	for _, step := range []func() error{s.resolvePorts, s.resolveEnv, s.resolveAnnotations, s.resolveProbes, s.resolveIngress} {
		if err := step(); err != nil {
			return err
		}
	}
	var err error
	s.objects, err = a.Objects()
	return byFlag(err)
}

func (s *settings) resolvePorts() error {
	for _, text := range s.ports {
		p, err := parsePort(text)
		if err != nil {
			return fmt.Errorf("-port: %q: %w", text, err)
		}
		s.app.Ports = append(s.app.Ports, p)
	}
	given := map[int]bool{}
	for _, text := range s.nodePorts {
		name, value, named := strings.Cut(text, "=")
		if !named {
			name, value = "", text
		}
		number, err := strconv.ParseInt(value, 10, 32)
		if value == "auto" {
			number, err = kubeapp.AutoNodePort, nil
		} else if number < 0 {
			err = strconv.ErrRange
		}
		if err != nil {
			return fmt.Errorf("-node-port: %q: want a number such as 30080, NAME=30080, auto or 0", text)
		}
		i := s.portIndex(name)
		switch {
		case i < 0:
			return fmt.Errorf("-node-port: %q: no such port; -port defines ports", text)
		case given[i]:
			return fmt.Errorf("-node-port: %q: port %s has two node ports", text, s.app.Ports[i].Name)
		}
		given[i] = true
		s.app.Ports[i].NodePort = int32(number)
	}
	return nil
}

// portIndex returns the index of a port by its name, or -1. The empty name means the first port that
// is not private.
func (s *settings) portIndex(name string) int {
	for i, p := range s.app.Ports {
		if p.Name == name || name == "" && !p.Private {
			return i
		}
	}
	return -1
}

func parsePort(text string) (p kubeapp.Port, err error) {
	first, options, _ := strings.Cut(text, ",")
	name, value, ok := strings.Cut(first, "=")
	number, err := strconv.ParseInt(value, 10, 32)
	if !ok || err != nil {
		return p, errors.New("want NAME=NUMBER, such as http=8080")
	}
	p = kubeapp.Port{Name: name, Number: int32(number)}
	for option := range strings.SplitSeq(options, ",") {
		protocol, isProtocol := strings.CutPrefix(option, "app-protocol=")
		switch {
		case option == "" && options == "":
		case option == "private":
			p.Private = true
		case isProtocol:
			p.AppProtocol = protocol
		default:
			return p, fmt.Errorf("%q: want private or app-protocol=PROTOCOL", option)
		}
	}
	return p, nil
}

func (s *settings) resolveEnv() error {
	for _, text := range s.env {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("-env: %q: want NAME=VALUE", text)
		}
		s.app.Env = append(s.app.Env, corev1.EnvVar{Name: name, Value: value})
	}
	for _, name := range s.fromSecret {
		s.app.EnvFrom = append(s.app.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
	}
	for _, name := range s.fromConfig {
		s.app.EnvFrom = append(s.app.EnvFrom, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
	}
	return nil
}

func (s *settings) resolveAnnotations() error {
	annotations := map[string]string{}
	if s.allowChange != "" {
		annotations[change.Annotation] = s.allowChange
	}
	for _, text := range s.annotations {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("-service-annotation: %q: want NAME=VALUE", text)
		}
		if _, ok := annotations[name]; ok {
			return fmt.Errorf("-service-annotation: %q: the annotation is given twice", text)
		}
		annotations[name] = value
	}
	if len(annotations) > 0 {
		s.app.ServiceAnnotations = maps.Clone(annotations)
	}
	return nil
}

func (s *settings) resolveProbes() (err error) {
	if s.app.Readiness, err = parseProbe(s.readiness); err != nil {
		return fmt.Errorf("-readiness: %q: %w", s.readiness, err)
	}
	if s.app.Liveness, err = parseProbe(s.liveness); err != nil {
		return fmt.Errorf("-liveness: %q: %w", s.liveness, err)
	}
	return nil
}

// parseProbe parses [PORT]/PATH, tcp[:PORT], grpc[:PORT] or none. "" is the zero Probe.
func parseProbe(text string) (kubeapp.Probe, error) {
	if port, path, ok := strings.Cut(text, "/"); ok {
		return kubeapp.Probe{Kind: kubeapp.ProbeHTTP, Port: port, Path: "/" + path}, nil
	}
	kind, port, colon := strings.Cut(text, ":")
	p := kubeapp.Probe{Kind: kubeapp.ProbeKind(kind), Port: port}
	switch p.Kind {
	case kubeapp.ProbeTCP, kubeapp.ProbeGRPC:
		if !colon || port != "" {
			return p, nil
		}
	case kubeapp.ProbeNone, "":
		if !colon {
			return p, nil
		}
	}
	return p, errors.New("want /PATH, PORT/PATH, tcp, tcp:PORT, grpc, grpc:PORT or none")
}

func (s *settings) resolveIngress() error {
	if s.ingress == "" {
		if s.ingressClass != "" || s.ingressTLS != "" {
			return errors.New("-ingress-class and -ingress-tls need -ingress")
		}
		return nil
	}
	host, path, ok := strings.Cut(s.ingress, "/")
	if ok {
		path = "/" + path
	}
	s.app.Ingress = &kubeapp.Ingress{Host: host, Path: path, Class: s.ingressClass, TLSSecret: s.ingressTLS}
	return nil
}

// flagOf contains the flag that sets each field of App, by the path of the field. Elements of a
// list have no index: "Ports.Name" stands for the names of all ports.
var flagOf = map[string]string{
	"Name": "name", "Namespace": "namespace", "Image": "image", "Replicas": "replicas",
	"Ports": "port", "Ports.Name": "port", "Ports.Number": "port", "Ports.AppProtocol": "port", "Ports.NodePort": "node-port",
	"Env.Name": "env", "EnvFrom.SecretRef.Name": "env-from-secret", "EnvFrom.ConfigMapRef.Name": "env-from-configmap",
	"Resources.CPU": "cpu", "Resources.Memory": "memory", "Resources.CPULimit": "cpu-limit", "Resources.MemoryLimit": "memory-limit",
	"RunAsUser": "run-as-user", "Readiness.Port": "readiness", "Readiness.Path": "readiness", "Liveness.Port": "liveness", "Liveness.Path": "liveness",
	"DrainDelay": "drain-delay", "StopTime": "stop-time", "ServiceAnnotations": "service-annotation",
	"Ingress.Host": "ingress", "Ingress.Path": "ingress", "Ingress.Class": "ingress-class", "Ingress.TLSSecret": "ingress-tls",
}

var index = regexp.MustCompile(`\[\d+\]`)

// byFlag replaces the names of fields in the error of App.Objects by the names of flags.
func byFlag(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		if f, ok := errors.AsType[*kubeapp.FieldError](err); ok && flagOf[index.ReplaceAllString(f.Field, "")] != "" {
			err = fmt.Errorf("-%s: %s", flagOf[index.ReplaceAllString(f.Field, "")], f.Message)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
