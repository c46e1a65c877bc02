package fleetflags

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/canary"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// canaryFlags are the values of the flags for a canary, which tries new routes on one terminator
// first.
type canaryFlags struct {
	wanted bool
	length time.Duration
	probes cli.Strings
}

func (f *canaryFlags) register(fs *flag.FlagSet) {
	fs.BoolVar(&f.wanted, "canary", false, "try new routes on one terminator first: if a probe fails, or HAProxy counts more errors than in the minutes before, they are withdrawn; otherwise all terminators of -fleet follow. Needs -reload")
	fs.DurationVar(&f.length, "canary-for", canary.DefaultFor, "with -canary, time for which new routes are tried")
	fs.Var(&f.probes, "probe", "with -canary, `URL[=STATUS]` of a request that HAProxy must answer with this status, 200 by default, such as https://api.example.com/tracks=200. The terminator sends the request to its own HAProxy; may be given several times")
}

// CheckCanary returns an error if the flags of the canary cannot be used. The argument "follows" says
// whether the program follows changes, and "reloads" whether it reloads an HAProxy.
func (f *Flags) CheckCanary(follows, reloads bool) error {
	c := &f.canary
	switch {
	case !c.wanted && len(c.probes) > 0:
		return errors.New("-probe needs -canary")
	case !c.wanted:
		return nil
	case !follows:
		return errors.New("-canary cannot be used with -once, -diff or -simulate, which do not wait for a trial")
	case !reloads:
		return errors.New("-canary needs -reload: only a running HAProxy shows whether new routes do harm")
	case c.length <= 0:
		return errors.New("-canary-for must be more than 0")
	case len(c.probes) > canary.MaxProbes:
		return fmt.Errorf("-probe: there are more than %d", canary.MaxProbes)
	}
	_, err := c.parse()
	return err
}

func (f *canaryFlags) parse() (probes []canary.Probe, err error) {
	for _, text := range f.probes {
		p, err := canary.ParseProbe(text)
		if err != nil {
			return nil, fmt.Errorf("-probe: %w", err)
		}
		probes = append(probes, p)
	}
	return probes, nil
}

// Canary returns the Canary that the flags describe. Without -canary, it returns nil. The argument
// "out" is the directory of the configuration. The probes go to the first HTTP address and to the
// first HTTPS address of the edge. The function "worker" returns the socket of the HAProxy worker
// that serves new connections.
func (f *Flags) Canary(out string, e edge.Edge, worker func(context.Context) (runtimeapi.Socket, error)) *controller.Canary {
	if !f.canary.wanted {
		return nil
	}
	probes, _ := f.canary.parse() // CheckCanary has returned the error
	k := &controller.Canary{
		Name: f.name(out), Policy: canary.Policy{For: f.canary.length}, Counters: controller.CanaryCounters(worker),
	}
	if len(probes) > 0 {
		k.Probe = (&canary.Prober{Probes: probes, HTTP: firstAddress(e.HTTP), HTTPS: firstAddress(e.HTTPS)}).Run
	}
	return k
}

// name returns the name of this terminator in the fleet. Terminators with the same Lease share one
// directory, so they also share one name.
func (f *Flags) name(out string) string {
	if f.lease != "" {
		return "lease " + f.lease
	}
	host, _ := os.Hostname()
	if path, err := filepath.Abs(out); err == nil {
		out = path
	}
	return host + ":" + out
}

// firstAddress returns the address at which a client on this machine reaches the first listener. It
// returns "" without a listener.
func firstAddress(listeners []haproxycfg.Bind) string {
	if len(listeners) == 0 {
		return ""
	}
	address, err := cli.LocalAddress(listeners[0].Address)
	if err != nil {
		return "" // a socket in a file, to which a Prober cannot connect
	}
	return address
}
