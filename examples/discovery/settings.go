package main

import (
	_ "embed"
	"errors"
	"flag"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags.
type settings struct {
	kubeconfig, dir, namespace string
	allow                      cli.Networks
	quiet, maxWait             time.Duration

	api        cli.APIFlags
	admin      cli.AdminFlags
	logFormat  cli.LogFormat
	maxWaiting int
}

func register(fs *flag.FlagSet) *settings {
	s := &settings{}
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", cli.Meaning("kubeconfig"))
	fs.StringVar(&s.dir, "dir", "", cli.Meaning("dir", "discovery reads the EndpointSlices"))
	fs.StringVar(&s.namespace, "namespace", "", cli.Meaning("namespace", "all namespaces if empty"))
	fs.Var(&s.allow, "allow-pods", "`network` of pods that has a special meaning, such as 127.0.0.0/8; addresses in other special networks are ignored; may be given several times")
	fs.DurationVar(&s.quiet, "quiet", 100*time.Millisecond, cli.Meaning("quiet"))
	fs.DurationVar(&s.maxWait, "max-wait", time.Second, cli.Meaning("max-wait"))

	s.api.Register(fs, "127.0.0.1:9100", 8192)
	s.admin.Register(fs, "/metrics, /healthz and /readyz", "")
	s.logFormat.Register(fs)
	fs.IntVar(&s.maxWaiting, "max-waiting", 4096, cli.Meaning("max-waiting"))
	return s
}

// check returns an error for the first wrong flag.
func (s *settings) check() error {
	switch {
	case s.dir != "" && s.kubeconfig != "":
		return errors.New("-dir and -kubeconfig exclude each other")
	case s.api.Check() != nil:
		return s.api.Check()
	case s.admin.Check() != nil:
		return s.admin.Check()
	case s.quiet <= 0 || s.maxWait < s.quiet:
		return errors.New("-quiet must be more than 0, and -max-wait not less than -quiet")
	case s.maxWaiting < 1:
		return errors.New("-max-waiting must be 1 or more")
	}
	return nil
}
