package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// settings is what a user asks for, checked.
type settings struct {
	hosts      string
	routeFiles []string
	endpoints  map[string]string // by cluster
	clusters   map[string]string // directory by cluster
	prefix     string
	poll       time.Duration

	listen, admin          string
	token                  func(context.Context) (string, error)
	certificate, key, auth string

	maxAge, negativeMaxAge time.Duration
	maxRemoved             float64
	maxConns, maxFollowers int
}

// flags are the settings as they are typed.
type flags struct {
	settings
	routes, endpointTexts, clusterTexts cli.Strings
	tokenFile, maxRemovedText           string
}

func parseSettings(inv cli.Invocation) (s *settings, code int, done bool) {
	fs := cli.NewFlagSet(program, "hostapi -hosts hosts.json -listen 127.0.0.1:9000 -admin 127.0.0.1:9001")
	f := register(fs)
	if code, done := inv.Parse(fs); done {
		return nil, code, true
	}
	if err := f.check(); err != nil {
		return nil, inv.Fail(cli.ExitUsage, program, "%v (-h shows the flags)", err), true
	}
	return &f.settings, cli.ExitOK, false
}

func register(fs *flag.FlagSet) *flags {
	f := &flags{}
	fs.StringVar(&f.hosts, "hosts", "", "JSON `file` with an array of {\"app\", \"host\", \"endpoint\"}")
	fs.Var(&f.routes, "routes", "`file` of declarations; may be given several times")
	fs.Var(&f.endpointTexts, "endpoint", "`NAME=ADDR`: address of a cluster, with or without port; may be given several times")
	fs.Var(&f.clusterTexts, "cluster", "`NAME=dir:DIR`: directory with the cluster's services as kubectl get -o yaml or -o json prints them; may be given several times")
	fs.StringVar(&f.prefix, "annotation-prefix", nodeselect.DefaultPrefix, "`prefix` of the annotations that are followed")
	fs.DurationVar(&f.poll, "poll", time.Second, "time between two looks at the files of -hosts and -routes")

	fs.StringVar(&f.listen, "listen", "127.0.0.1:9000", "`address` of the API")
	fs.StringVar(&f.admin, "admin", "", "`address` of /metrics, /healthz and /readyz; none if empty")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the bearer token that requests must have; none if empty")
	fs.StringVar(&f.certificate, "certificate", "", "PEM `file` with the certificate to serve HTTPS with")
	fs.StringVar(&f.key, "key", "", "PEM `file` with its key")
	fs.StringVar(&f.auth, "client-ca", "", "PEM `file` with the authorities of client certificates, which are then required")

	fs.DurationVar(&f.maxAge, "max-age", 30*time.Second, "how long an answer may be kept, in whole seconds; 0 is not at all")
	fs.DurationVar(&f.negativeMaxAge, "negative-max-age", 5*time.Second, "the same of a host that is not found")
	fs.StringVar(&f.maxRemovedText, "max-removed", "50%", "largest `share` of the hosts that a change may remove, where that is 10 or more")
	fs.IntVar(&f.maxConns, "max-connections", 4096, "`number` of connections at one time; more wait")
	fs.IntVar(&f.maxFollowers, "max-followers", 1024, "`number` of requests that may wait for changes at one time; more are turned away")
	return f
}

func (f *flags) check() error {
	switch {
	case f.hosts == "" && len(f.routes) == 0:
		return errors.New("-hosts or -routes is needed")
	case len(f.routes) > 0 && len(f.endpointTexts) == 0:
		return errors.New("-routes needs -endpoint for its clusters")
	case len(f.routes) == 0 && len(f.endpointTexts)+len(f.clusterTexts) > 0:
		return errors.New("-endpoint and -cluster are for -routes")
	case (f.certificate == "") != (f.key == "") || f.auth != "" && f.key == "":
		return errors.New("-certificate and -key go together, and -client-ca needs both")
	case f.maxAge < 0 || f.negativeMaxAge < 0 || f.maxAge%time.Second+f.negativeMaxAge%time.Second != 0:
		return errors.New("-max-age and -negative-max-age: want whole seconds")
	case f.poll <= 0:
		return errors.New("-poll must be more than 0")
	case f.maxConns < 1 || f.maxFollowers < 1:
		return errors.New("-max-connections and -max-followers must be 1 or more")
	}
	f.routeFiles = f.routes
	if f.tokenFile != "" {
		f.token = httpapi.TokenFile(f.tokenFile)
	}
	var err error
	if f.maxRemoved, err = cli.ParseShare(f.maxRemovedText); err != nil {
		return fmt.Errorf("-max-removed: %q: %w", f.maxRemovedText, err)
	}
	return f.places()
}

// places reads what is given for each cluster.
func (f *flags) places() error {
	f.endpoints, f.clusters = map[string]string{}, map[string]string{}
	for _, text := range f.endpointTexts {
		name, addr, ok := strings.Cut(text, "=")
		if !ok || name == "" || f.endpoints[name] != "" {
			return fmt.Errorf("-endpoint: %q: want NAME=ADDR, once for each cluster", text)
		}
		if err := (hostlookup.Endpoint{Addr: addr}).Validate(); err != nil {
			return fmt.Errorf("-endpoint: %s: %w", name, err)
		}
		f.endpoints[name] = addr
	}
	for _, text := range f.clusterTexts {
		name, where, _ := strings.Cut(text, "=")
		dir, ok := strings.CutPrefix(where, "dir:")
		switch {
		case !ok || name == "" || dir == "" || f.clusters[name] != "":
			return fmt.Errorf("-cluster: %q: want NAME=dir:DIR, once for each cluster", text)
		case f.endpoints[name] == "":
			return fmt.Errorf("-cluster: %s has no -endpoint", name)
		}
		f.clusters[name] = dir
	}
	return nil
}

// api returns the handler without hosts. The flags have 0 where the handler wants a negative
// number, because its 0 is a default.
func (s *settings) api(m *metrics, log *slog.Logger) *httpapi.Handler {
	api := &httpapi.Handler{
		MaxAge: cmp.Or(s.maxAge, -1), NegativeMaxAge: cmp.Or(s.negativeMaxAge, -1), MaxRemoved: cmp.Or(s.maxRemoved, -1),
		MaxWaiting: s.maxFollowers, Instrument: m.instrument,
	}
	if s.token != nil {
		api.Token = func(ctx context.Context) (string, error) {
			token, err := s.token(ctx)
			if err != nil {
				log.Error("token", "err", err)
			}
			return token, err
		}
	}
	return api
}

func (s *settings) sources(api *httpapi.Handler, m *metrics, log *slog.Logger) *sources {
	src := &sources{
		routeFiles: s.routeFiles, clusterDirs: s.clusters, poll: s.poll,
		api: api, metrics: m, log: log, ready: make(chan struct{}),
		declared: declared{
			endpoints:   s.endpoints,
			clusters:    map[string]nodeselect.Objects{},
			annotations: nodeselect.Annotations{Prefix: s.prefix},
		},
	}
	if s.hosts != "" {
		src.file = &hostlookup.File{Path: s.hosts, Interval: s.poll}
	}
	return src
}

// tlsConfig is nil for plain HTTP.
func (s *settings) tlsConfig() (*tls.Config, error) {
	if s.certificate == "" {
		return nil, nil
	}
	if _, err := tls.LoadX509KeyPair(s.certificate, s.key); err != nil {
		return nil, err
	}
	conf := &tls.Config{
		// Routers keep their connections, so the files may be read for each handshake,
		// and a renewed certificate is used at once.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(s.certificate, s.key)
			return &cert, err
		},
	}
	if s.auth != "" {
		pem, err := os.ReadFile(s.auth)
		if err != nil {
			return nil, err
		}
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", s.auth)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}
