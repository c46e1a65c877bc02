package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

// drain is "nodegate drain".
type drain struct {
	timeout     time.Duration
	maxRequests int
	holder      string
	json        bool
}

func (c *drain) register(fs *flag.FlagSet) {
	fs.DurationVar(&c.timeout, "timeout", 10*time.Minute, cli.Meaning("timeout", "nodegate waits until the last request to the node has ended, and a request may last minutes, so the default is long"))
	fs.IntVar(&c.maxRequests, "max-requests", 0, "`number` of requests and tunnels to the node that may be left")
	fs.StringVar(&c.holder, "holder", "nodegate-drain", cli.Meaning("holder", "it gets the grant if the node has no grant yet"))
	fs.BoolVar(&c.json, "json", false, cli.Meaning("json"))
}

func (c *drain) check(nodes []string) error {
	switch {
	case len(nodes) != 1:
		return errors.New("name one node")
	case c.timeout <= 0 || c.maxRequests < 0:
		return errors.New("-timeout must be more than 0, and -max-requests must not be negative")
	}
	return keeper.CheckTake(c.holder, keeper.DefaultTTL)
}

func (c *drain) run(ctx context.Context, inv cli.Invocation, s *settings, names []string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	p := inv.Progress("cordoning %s", names[0])
	defer p.Stop()
	config, err := load(s.conn)
	if err != nil {
		return 0, err
	}
	nodeClient, err := keeper.NewNodeClient(config)
	if err != nil {
		return 0, err
	}
	sources := make([]keeper.TrafficSource, len(s.reports))
	for i, report := range s.reports {
		url, client := httpSource(report)
		if url == "" {
			return 0, fmt.Errorf("-report %s: drain needs the URL or the socket of a terminator, and not a file", report)
		}
		if sources[i], err = keeper.TrafficURL(url, client); err != nil {
			return 0, err
		}
	}
	k, err := s.keeper()
	if err != nil {
		return 0, err
	}
	nodes := keeper.Nodes{Client: nodeClient}
	node, err := nodes.Get(ctx, names[0])
	if err != nil {
		return 0, err
	}
	if err := nodes.Cordon(ctx, names[0]); err != nil {
		return 0, err
	}
	// Record now that the node is away: if somebody uncordons the node before another program has
	// read its state, nothing else shows that the node was away.
	if err := k.Record(ctx, c.holder, names[0]); err != nil {
		return 0, fmt.Errorf("%s is cordoned, but nodegate cannot store that it is away: %w", names[0], err)
	}
	all, err := keeper.WaitDrained(ctx, node.Addrs, shown(sources, names[0], p.Set), c.maxRequests)
	if err != nil {
		return 0, fmt.Errorf("%s is cordoned, but after %v it is %w", names[0], c.timeout, err)
	}
	var lines []string
	for _, t := range all {
		lines = append(lines, t.String())
	}
	return cli.ExitOK, print(inv.Stdout, c.json, all, strings.Join(lines, "\n"))
}

// shown returns sources of the traffic of a node that pass on the answers of the given sources. After
// each answer, it calls the function "set" with a text: the sum of the last answers of all sources,
// or the error of one source. Only one goroutine may call the returned sources.
func shown(sources []keeper.TrafficSource, node string, set func(format string, args ...any)) []keeper.TrafficSource {
	last, errs := make([]keeper.Traffic, len(sources)), make([]error, len(sources))
	wrapped := make([]keeper.TrafficSource, len(sources))
	for i, source := range sources {
		wrapped[i] = func(ctx context.Context, addrs []netip.Addr) (keeper.Traffic, error) {
			last[i], errs[i] = source(ctx, addrs)
			accepting, sessions := 0, 0
			for _, t := range last {
				accepting, sessions = accepting+t.Accepting, sessions+t.Sessions
			}
			if err := cmp.Or(errs...); err != nil {
				set("%s: %v", node, err)
			} else {
				set("%s: %d servers get new requests, %d requests left", node, accepting, sessions)
			}
			return last[i], errs[i]
		}
	}
	return wrapped
}
