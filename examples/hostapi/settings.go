package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags.
type settings struct {
	hosts                       string
	routes                      cli.Strings
	endpointFlags, clusterFlags cli.Strings
	endpoints                   map[string]string // the addresses in endpointFlags, by cluster
	clusters                    map[string]string // the directories in clusterFlags, by cluster
	prefix                      string
	poll                        time.Duration

	api       cli.APIFlags
	admin     cli.AdminFlags
	logFormat cli.LogFormat

	maxAge, negativeMaxAge time.Duration
	maxRemovedFlag         string
	maxRemoved             float64 // of maxRemovedFlag
	maxWaiting             int
}

func register(fs *flag.FlagSet) *settings {
	s := &settings{endpoints: map[string]string{}, clusters: map[string]string{}}
	fs.StringVar(&s.hosts, "hosts", "", cli.Meaning("hosts"))
	fs.Var(&s.routes, "routes", cli.Meaning("routes"))
	fs.Var(&s.endpointFlags, "endpoint", "`NAME=ADDR`: address of a cluster, with or without port; may be given several times")
	fs.Var(&s.clusterFlags, "cluster", cli.Meaning("cluster", "hostapi reads the services, and only from dir:DIR; may be given several times"))
	fs.StringVar(&s.prefix, "annotation-prefix", nodeselect.DefaultPrefix, cli.Meaning("annotation-prefix"))
	fs.DurationVar(&s.poll, "poll", time.Second, cli.Meaning("poll"))

	s.api.Register(fs, "127.0.0.1:9000", 4096)
	s.admin.Register(fs, "/metrics, /healthz and /readyz", "")
	s.logFormat.Register(fs)

	fs.DurationVar(&s.maxAge, "max-age", 30*time.Second, "how long clients may keep the endpoint of a host, in whole seconds; 0 means that they ask each time")
	fs.DurationVar(&s.negativeMaxAge, "negative-max-age", 5*time.Second, "how long clients may remember that a host is not found, in whole seconds; 0 means that they ask each time")
	fs.StringVar(&s.maxRemovedFlag, "max-removed", "50%", "largest `share` of the hosts that one change may remove; a change that removes fewer than 10 hosts is always accepted")
	fs.IntVar(&s.maxWaiting, "max-waiting", 1024, cli.Meaning("max-waiting"))
	return s
}

// check returns an error for the first wrong flag. It also parses the flags that contain several
// values.
func (s *settings) check() (err error) {
	switch {
	case s.hosts == "" && len(s.routes) == 0:
		return errors.New("-hosts or -routes is needed")
	case len(s.routes) > 0 && len(s.endpointFlags) == 0:
		return errors.New("-routes needs -endpoint for its clusters")
	case len(s.routes) == 0 && len(s.endpointFlags)+len(s.clusterFlags) > 0:
		return errors.New("-endpoint and -cluster are for -routes")
	case s.api.Check() != nil:
		return s.api.Check()
	case s.maxAge < 0 || s.negativeMaxAge < 0 || s.maxAge%time.Second+s.negativeMaxAge%time.Second != 0:
		return errors.New("-max-age and -negative-max-age: want whole seconds")
	case s.admin.Check() != nil:
		return s.admin.Check()
	case s.poll <= 0:
		return errors.New("-poll must be more than 0")
	case s.maxWaiting < 1:
		return errors.New("-max-waiting must be 1 or more")
	}
	if s.maxRemoved, err = cli.ParseShare(s.maxRemovedFlag); err != nil {
		return fmt.Errorf("-max-removed: %q: %w", s.maxRemovedFlag, err)
	}
	for _, text := range s.endpointFlags {
		name, addr, ok := strings.Cut(text, "=")
		if !ok || name == "" || s.endpoints[name] != "" {
			return fmt.Errorf("-endpoint: %q: want NAME=ADDR, once for each cluster", text)
		}
		if err := (hostlookup.Endpoint{Addr: addr}).Validate(); err != nil {
			return fmt.Errorf("-endpoint: %s: %w", name, err)
		}
		s.endpoints[name] = addr
	}
	for _, text := range s.clusterFlags {
		name, source, _ := strings.Cut(text, "=")
		dir, ok := strings.CutPrefix(source, "dir:")
		switch {
		case !ok || name == "" || dir == "" || s.clusters[name] != "":
			return fmt.Errorf("-cluster: %q: want NAME=dir:DIR, once for each cluster", text)
		case s.endpoints[name] == "":
			return fmt.Errorf("-cluster: %s has no -endpoint", name)
		}
		s.clusters[name] = dir
	}
	return nil
}
