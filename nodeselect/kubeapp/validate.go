package kubeapp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/nodeselect"
)

// FieldError is a mistake in a field of an App.
type FieldError struct {
	// Field is the path of the field, such as "Ports[0].NodePort".
	Field string
	// Message describes the mistake in one line.
	Message string
}

// Error returns the field and the message.
func (e *FieldError) Error() string { return "kubeapp: " + e.Field + ": " + e.Message }

// maxReplicas is more than any cluster can run: a cluster has at most 150,000 pods
// (https://kubernetes.io/docs/setup/best-practices/cluster-large/).
const maxReplicas = 150_000

// checker collects the mistakes of an App.
type checker struct{ errs []error }

func (c *checker) add(field, format string, args ...any) {
	c.errs = append(c.errs, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// valid adds a mistake for each message of a validation function of Kubernetes.
func (c *checker) valid(field, value string, check func(string) []string) {
	if value == "" {
		c.add(field, "is missing")
		return
	}
	for _, message := range check(value) {
		c.add(field, "%q: %s", value, message)
	}
}

// Validate returns nil, or all mistakes of the App, as joined FieldErrors. errors.AsType finds the
// first of them.
func (a *App) Validate() error {
	c := &checker{}
	c.valid("Name", a.Name, validation.IsDNS1035Label)
	c.valid("Namespace", a.Namespace, validation.IsDNS1123Label)
	if strings.HasPrefix(a.Namespace, "kube-") {
		c.add("Namespace", "%q: namespaces that begin with kube- belong to Kubernetes", a.Namespace)
	}
	a.checkImage(c)
	switch {
	case a.Replicas < 0 || a.Replicas > maxReplicas:
		c.add("Replicas", "%d: want a number of pods from 1 to %d, or 0 for the default %d", a.Replicas, maxReplicas, DefaultReplicas)
	case a.Replicas > 0 && a.Autoscaled:
		c.add("Replicas", "%d: another program sets the number of pods, because Autoscaled is true", a.Replicas)
	}
	a.checkPorts(c)
	a.checkEnv(c)
	a.checkResources(c)
	if a.RunAsUser < 0 {
		c.add("RunAsUser", "%d: want a user number above 0, or 0 for the user of the image", a.RunAsUser)
	}
	a.checkProbe(c, "Readiness", a.Readiness)
	a.checkProbe(c, "Liveness", a.Liveness)
	wholeSeconds(c, "DrainDelay", a.DrainDelay)
	wholeSeconds(c, "StopTime", a.StopTime)
	if a.StopTime < 0 {
		c.add("StopTime", "%v: must not be negative", a.StopTime)
	}
	a.checkIngress(c)
	if len(c.errs) == 0 {
		a.checkAnnotations(c)
	}
	return errors.Join(c.errs...)
}

func (a *App) checkImage(c *checker) {
	name, digest, hasDigest := strings.Cut(a.Image, "@")
	_, tag := cutTag(name)
	switch {
	case a.Image == "":
		c.add("Image", "is missing")
	case strings.ContainsAny(a.Image, " \t\r\n") || name == "":
		c.add("Image", "%q: want an image such as registry.example.com/tracks:1.4.2", a.Image)
	case hasDigest && !strings.Contains(digest, ":"):
		c.add("Image", "%q: want a digest such as sha256:4355…", a.Image)
	case !hasDigest && (tag == "" || tag == "latest"):
		c.add("Image", "%q: want a tag or a digest that always means the same image, not latest", a.Image)
	}
}

// cutTag cuts an image without a digest into its name and its tag. A colon before the last slash is
// part of the registry's address.
func cutTag(image string) (name, tag string) {
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}
	return image, ""
}

func (a *App) checkPorts(c *checker) {
	if a.firstPublic() < 0 {
		c.add("Ports", "want at least one port that is not private")
	}
	names, numbers, nodePorts := map[string]bool{}, map[int32]bool{}, map[int32]bool{}
	for i, p := range a.Ports {
		field := fmt.Sprintf("Ports[%d]", i)
		c.valid(field+".Name", p.Name, validation.IsValidPortName)
		for _, message := range validation.IsValidPortNum(int(p.Number)) {
			c.add(field+".Number", "%d: %s", p.Number, message)
		}
		if p.NodePort != AutoNodePort && p.NodePort != 0 {
			for _, message := range validation.IsValidPortNum(int(p.NodePort)) {
				c.add(field+".NodePort", "%d: %s, or 0 for none", p.NodePort, message)
			}
		}
		if p.NodePort != 0 && p.Private {
			c.add(field+".NodePort", "%d: a private port has no node port", p.NodePort)
		}
		if names[p.Name] {
			c.add(field+".Name", "%q: another port has this name", p.Name)
		}
		if numbers[p.Number] {
			c.add(field+".Number", "%d: another port has this number", p.Number)
		}
		if p.NodePort > 0 && nodePorts[p.NodePort] {
			c.add(field+".NodePort", "%d: another port has this node port", p.NodePort)
		}
		names[p.Name], numbers[p.Number], nodePorts[p.NodePort] = true, true, true
		if p.AppProtocol != "" {
			c.valid(field+".AppProtocol", p.AppProtocol, validation.IsQualifiedName)
		}
	}
}

func (a *App) checkEnv(c *checker) {
	names := map[string]bool{}
	for i, e := range a.Env {
		field := fmt.Sprintf("Env[%d]", i)
		c.valid(field+".Name", e.Name, validation.IsEnvVarName)
		if names[e.Name] {
			c.add(field+".Name", "%q: another variable has this name", e.Name)
		}
		names[e.Name] = true
	}
	for i, e := range a.EnvFrom {
		field := fmt.Sprintf("EnvFrom[%d]", i)
		switch {
		case e.SecretRef != nil:
			c.valid(field+".SecretRef.Name", e.SecretRef.Name, validation.IsDNS1123Subdomain)
		case e.ConfigMapRef != nil:
			c.valid(field+".ConfigMapRef.Name", e.ConfigMapRef.Name, validation.IsDNS1123Subdomain)
		default:
			c.add(field, "want a Secret or a ConfigMap")
		}
	}
}

func (a *App) checkResources(c *checker) {
	r := a.Resources.withDefaults()
	amount := func(field, text string) (q resource.Quantity, ok bool) {
		if text == "" {
			return q, false
		}
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() <= 0 {
			c.add("Resources."+field, "%q: want an amount such as 250m or 256Mi", text)
			return q, false
		}
		return q, true
	}
	check := func(field, request, limit string) {
		q, ok := amount(field, request)
		l, limited := amount(field+"Limit", limit)
		if ok && limited && l.Cmp(q) < 0 {
			c.add("Resources."+field+"Limit", "%q: is less than the request %q", limit, request)
		}
	}
	check("CPU", r.CPU, r.CPULimit)
	check("Memory", r.Memory, a.Resources.MemoryLimit) // the default limit is the request
}

func (a *App) checkProbe(c *checker, field string, p Probe) {
	if p.Port != "" && !slices.ContainsFunc(a.Ports, func(x Port) bool { return x.Name == p.Port }) {
		c.add(field+".Port", "%q: no port has this name", p.Port)
	}
	switch p.Kind {
	case ProbeHTTP:
		if !strings.HasPrefix(p.Path, "/") {
			c.add(field+".Path", "%q: want a path such as /readyz", p.Path)
		}
	case ProbeTCP, ProbeGRPC:
		if p.Path != "" {
			c.add(field+".Path", "%q: only a check with HTTP has a path", p.Path)
		}
	case ProbeNone, "":
		if p.Port != "" || p.Path != "" {
			c.add(field+".Kind", "is missing")
		}
	default:
		c.add(field+".Kind", "%q: want http, tcp, grpc or none", p.Kind)
	}
}

func wholeSeconds(c *checker, field string, d time.Duration) {
	if d > 0 && d%time.Second != 0 {
		c.add(field, "%v: want whole seconds", d)
	}
	if d > time.Hour {
		c.add(field, "%v: want at most 1h", d)
	}
}

func (a *App) checkIngress(c *checker) {
	if a.Ingress == nil {
		return
	}
	check := validation.IsDNS1123Subdomain
	if strings.HasPrefix(a.Ingress.Host, "*") {
		check = validation.IsWildcardDNS1123Subdomain
	}
	c.valid("Ingress.Host", a.Ingress.Host, check)
	if p := a.Ingress.Path; p != "" && !strings.HasPrefix(p, "/") {
		c.add("Ingress.Path", "%q: want a path such as /tracks", p)
	}
	if a.Ingress.Class != "" {
		c.valid("Ingress.Class", a.Ingress.Class, validation.IsDNS1123Subdomain)
	}
	if a.Ingress.TLSSecret != "" {
		c.valid("Ingress.TLSSecret", a.Ingress.TLSSecret, validation.IsDNS1123Subdomain)
	}
}

// checkAnnotations checks the names of the annotations, and the values of headgate's own
// annotations.
func (a *App) checkAnnotations(c *checker) {
	for _, name := range slices.Sorted(maps.Keys(a.ServiceAnnotations)) {
		c.valid("ServiceAnnotations", strings.ToLower(name), validation.IsQualifiedName)
	}
	service := a.service()
	_, portErr := nodeselect.Annotations{}.AgentPort(service)
	_, weightErr := nodeselect.Annotations{}.WeightPercent(service)
	_, drainErr := nodeselect.Annotations{}.Drain(service)
	for _, err := range []error{portErr, weightErr, drainErr} {
		if p, ok := errors.AsType[nodeselect.Problem](err); ok {
			c.add("ServiceAnnotations", "%s: %s", p.Field, p.Message)
		}
	}
}
