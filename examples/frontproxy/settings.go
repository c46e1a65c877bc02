package main

import (
	_ "embed"
	"errors"
	"net"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags.
type settings struct {
	service string
	ref     nodeselect.Ref // of service
	zone    string
	local   int

	kubeconfig, dir string
	discovery       cli.Strings
	tokenFile       string
	discoveryTLS    cli.ClientTLS

	listen, exporter cli.Strings
	acceptProxy      bool
	monitorPath      string

	policy, out, haproxy, reload string
	maxConns, threads            int

	drainDelay, drainTimeout time.Duration
	admin                    cli.AdminFlags
	logFormat                cli.LogFormat
}

// parseSettings reads the flags. If done is true, the program must exit with the exit status in
// code.
func parseSettings(inv cli.Invocation) (s settings, code int, done bool) {
	fs := cli.NewFlagSet(program)
	fs.StringVar(&s.service, "service", "", "`NAMESPACE/NAME[:PORT]` of the service; PORT is the name of a port, or the port number of the pods, and may be left out if there is only one")
	fs.StringVar(&s.zone, "zone", "", "`zone` of the clients; their requests stay in this zone while its pods have room; if empty, all pods are equal")
	fs.IntVar(&s.local, "local", 0, "`port` on 127.0.0.1 that gets all requests: the proxy is the sidecar of one pod, and needs no service; 0 means no sidecar")

	fs.StringVar(&s.kubeconfig, "kubeconfig", "", cli.Meaning("kubeconfig"))
	fs.Var(&s.discovery, "discovery", "`URL` of a server of the discovery API, which replaces the API server; may be given several times")
	fs.StringVar(&s.tokenFile, "discovery-token-file", "", "`file` with the bearer token for -discovery; if empty, no token")
	s.discoveryTLS.Register(fs, "discovery", "the discovery servers")
	fs.StringVar(&s.dir, "dir", "", cli.Meaning("dir", "frontproxy reads the EndpointSlices"))

	fs.Var(&s.listen, "listen", cli.Meaning("listen", "HTTP/1.1 and HTTP/2 without TLS; default :8080; may be given several times"))
	fs.BoolVar(&s.acceptProxy, "accept-proxy", false, "require a PROXY protocol header on each connection to -listen; only a trusted balancer may reach the address then")
	fs.StringVar(&s.monitorPath, "monitor-path", "", "`path` on -listen that HAProxy answers itself, for the checks of the balancer in front: 200, or 503 during a drain and without pods; if empty, no such path")
	fs.Var(&s.exporter, "exporter", cli.Meaning("exporter", "if empty, no such address"))

	fs.StringVar(&s.policy, "policy", "", cli.Meaning("policy", "time-outs, retries, ejection and limits; if empty, the defaults"))
	fs.StringVar(&s.out, "out", "", cli.Meaning("out", "haproxy.cfg and the sockets of HAProxy; only one frontproxy at a time can use it; if empty, a temporary directory"))
	fs.StringVar(&s.haproxy, "haproxy", "haproxy", cli.Meaning("haproxy"))
	fs.StringVar(&s.reload, "reload", "", cli.Meaning("reload", "this HAProxy runs with haproxy.cfg in -out, and frontproxy starts no HAProxy and stops none"))
	fs.IntVar(&s.maxConns, "max-connections", 10000, cli.Meaning("max-connections", "0 means the number that the limit of open files allows"))
	fs.IntVar(&s.threads, "threads", runtime.GOMAXPROCS(0), "`number` of threads of HAProxy; without it, as many as the CPU limit of the container allows")
	fs.Lookup("threads").DefValue = "" // the number differs from machine to machine

	fs.DurationVar(&s.drainDelay, "drain-delay", 10*time.Second, cli.Meaning("drain-delay"))
	fs.DurationVar(&s.drainTimeout, "drain-timeout", 15*time.Second, cli.Meaning("drain-timeout"))
	s.admin.Register(fs, "/metrics, /healthz, /readyz and /drain", "a drain")
	s.logFormat.Register(fs)
	if code, done := inv.Parse(fs); done {
		return s, code, done
	}
	if err := s.check(); err != nil {
		return s, inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err), true
	}
	return s, cli.ExitOK, false
}

// check returns an error for the first wrong flag, and parses -service.
func (s *settings) check() (err error) {
	if len(s.listen) == 0 {
		s.listen = cli.Strings{":8080"}
	}
	sources := 0
	for _, given := range []bool{s.kubeconfig != "", len(s.discovery) > 0, s.dir != ""} {
		if given {
			sources++
		}
	}
	switch {
	case s.service == "" && s.local == 0:
		return errors.New("-service or -local is needed")
	case s.local != 0 && (s.zone != "" || sources > 0):
		return errors.New("-local needs no -zone, -kubeconfig, -discovery or -dir")
	case s.local < 0 || s.local > 65535:
		return fail("local", "want a port, 1 to 65535")
	case sources > 1:
		return errors.New("-kubeconfig, -discovery and -dir exclude each other")
	case s.tokenFile != "" && len(s.discovery) == 0:
		return errors.New("-discovery-token-file needs -discovery")
	case s.discoveryTLS.Given() && len(s.discovery) == 0:
		return errors.New("-discovery-ca, -discovery-certificate and -discovery-key need -discovery")
	case s.discoveryTLS.Check() != nil:
		return s.discoveryTLS.Check()
	case s.reload != "" && s.out == "":
		return errors.New("-reload needs -out")
	case s.monitorPath != "" && (s.monitorPath[0] != '/' || path.Clean(s.monitorPath) != s.monitorPath):
		return fail("monitor-path", "%q: want a path such as /ready", s.monitorPath)
	case s.maxConns < 0 || s.threads < 0:
		return errors.New("-max-connections and -threads must not be negative")
	case s.drainDelay < 0 || s.drainTimeout < 0:
		return errors.New("-drain-delay and -drain-timeout must not be negative")
	}
	for flag, list := range map[string]cli.Strings{"listen": s.listen, "exporter": s.exporter} {
		for _, addr := range list {
			if _, _, err := net.SplitHostPort(addr); err != nil && !strings.HasPrefix(addr, "unix@/") {
				return fail(flag, "%v", err)
			}
		}
	}
	if s.service != "" {
		if s.ref, err = parseRef(s.service); err != nil {
			return fail("service", "%q: %v", s.service, err)
		}
	} else {
		s.ref = nodeselect.Ref{Namespace: "local", Service: strconv.Itoa(s.local)}
	}
	return s.admin.Check()
}

// objectName matches the names of namespaces, Services and ports.
var objectName = regexp.MustCompile("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")

// parseRef parses NAMESPACE/NAME[:PORT].
func parseRef(text string) (nodeselect.Ref, error) {
	namespace, rest, ok := strings.Cut(text, "/")
	name, port, hasPort := strings.Cut(rest, ":")
	if !ok || !objectName.MatchString(namespace) || !objectName.MatchString(name) || hasPort && !objectName.MatchString(port) {
		return nodeselect.Ref{}, errors.New("want NAMESPACE/NAME or NAMESPACE/NAME:PORT, of letters, digits and -")
	}
	return nodeselect.Ref{Namespace: namespace, Service: name, Port: port}, nil
}
