//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// secondEdge is another HAProxy with a terminator of its own, and a load on it. The terminator runs
// on a machine without HAProxy. So a test can disconnect the terminator from the API servers, while
// HAProxy and its checks continue.
type secondEdge struct {
	haproxy    *HAProxy
	terminator *Terminator
	control    *lab.Machine // runs the terminator
	socket     string       // the admin listener of the terminator
	load       *loadRun
}

// startSecondEdge starts a secondEdge. The argument "size" is the number of nodes that its
// terminator selects for each service.
func (s *System) startSecondEdge(ctx context.Context, size int) (*secondEdge, error) {
	machine, err := s.env.Lab.Machine("edge-2")
	if err != nil {
		return nil, err
	}
	control, err := s.env.Lab.Machine("control-2")
	if err != nil {
		return nil, err
	}
	dir := s.env.Lab.Dir("edge-2")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	e := &secondEdge{haproxy: NewHAProxy(machine, dir), control: control, socket: filepath.Join(dir, "admin.sock")}
	flags := s.terminatorFlags(e.haproxy, e.socket, size)
	if e.terminator, err = StartTerminator(control, "terminator-2", e.haproxy.Out, flags...); err != nil {
		return nil, err
	}
	if err := e.haproxy.StartWhenConfigured(ctx, e.terminator.Process); err != nil {
		return e, errors.Join(err, e.stop())
	}
	if _, err := lab.Until(ctx, "the servers of the second HAProxy", patience, func(ctx context.Context) error {
		stats, err := e.haproxy.Stats(ctx)
		for _, stat := range stats {
			// Do not wait for spare servers, which the terminator adds from HAProxy 3.0 on: they
			// stay in maintenance.
			addr, parseErr := netip.ParseAddrPort(stat.Addr)
			if parseErr == nil && addr.Addr() != haproxycfg.SpareAddr && !isUp(stat) {
				err = fmt.Errorf("%s/%s is %s", stat.Proxy, stat.Server, stat.Status)
			}
		}
		return err
	}, e.terminator.Process, e.haproxy.Process); err != nil {
		return e, errors.Join(err, e.stop())
	}
	e.load = startLoad(ctx, loadConfig{Dial: s.Client.DialContext, Address: machine.Addr.String() + ":80", Host: tracksHost, Path: tracksPath, Rate: loadRate})
	return e, nil
}

func (e *secondEdge) stop() error {
	if e.load != nil {
		e.load.Stop()
	}
	err := errors.Join(e.control.Plug(), e.terminator.Stop())
	if e.haproxy.Process != nil {
		err = errors.Join(err, e.haproxy.Stop())
	}
	return err
}

func isUp(stat runtimeapi.Stat) bool {
	return strings.HasPrefix(stat.Status, "UP") || stat.Status == "no check"
}

// backendsOf returns, for each backend of a service in HAProxy, the nodes of the cluster that have
// a server in it. The value of a node says whether HAProxy sends new requests to its server.
func backendsOf(ctx context.Context, h *HAProxy, c *lab.Cluster) (map[string]map[*lab.Node]bool, error) {
	stats, err := h.Stats(ctx)
	if err != nil {
		return nil, err
	}
	backends := map[string]map[*lab.Node]bool{}
	for _, stat := range stats {
		addr, err := netip.ParseAddrPort(stat.Addr)
		if err != nil || strings.HasPrefix(stat.Proxy, nodesProxy) {
			continue
		}
		n := nodeAt(c, addr.Addr())
		if n == nil {
			continue
		}
		if backends[stat.Proxy] == nil {
			backends[stat.Proxy] = map[*lab.Node]bool{}
		}
		backends[stat.Proxy][n] = isUp(stat)
	}
	if len(backends) == 0 {
		return nil, fmt.Errorf("HAProxy has no servers of %s", c.Name)
	}
	return backends, nil
}

// serverWatch counts the servers of a cluster that are up in one HAProxy.
type serverWatch struct {
	stop    func()
	lowest  int    // fewest servers of a backend that were up. Read it only after a call of stop
	where   string // the backend with lowest, and the time
	samples int
}

// watchServers counts the servers that are up in each backend with servers of the cluster, again
// and again, until somebody calls the function in the field "stop".
func watchServers(ctx context.Context, h *HAProxy, c *lab.Cluster) *serverWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &serverWatch{lowest: 1 << 30}
	var counting sync.WaitGroup
	w.stop = func() { cancel(); counting.Wait() }
	counting.Go(func() {
		tick := time.Tick(50 * time.Millisecond)
		for ctx.Err() == nil {
			backends, err := backendsOf(ctx, h, c)
			for name, servers := range backends {
				up := 0
				for _, ok := range servers {
					if ok {
						up++
					}
				}
				if up < w.lowest {
					w.lowest, w.where = up, name+" at "+time.Now().Format("15:04:05.000")
				}
			}
			if err == nil {
				w.samples++
			}
			select {
			case <-ctx.Done():
			case <-tick:
			}
		}
	})
	return w
}

// The method "err" returns an error if, at some time, fewer than atLeast servers of a backend were
// up. Call it after a call of w.stop.
func (w *serverWatch) err(h *HAProxy, atLeast int) error {
	if w.samples == 0 {
		return fmt.Errorf("%s: no sample", h.machine.Name)
	}
	if w.lowest < atLeast {
		return fmt.Errorf("%s: %s had %d servers up, and the limit is %d", h.machine.Name, w.where, w.lowest, atLeast)
	}
	return nil
}

// sharing returns the names of the nodes that have a server in the same backend as the node n, in
// at least one of the HAProxies. It returns an error if one of these servers is not up.
func sharing(ctx context.Context, n *lab.Node, haproxies ...*HAProxy) (names []string, err error) {
	for _, h := range haproxies {
		backends, err := backendsOf(ctx, h, n.Cluster)
		if err != nil {
			return nil, err
		}
		for backend, servers := range backends {
			if _, ok := servers[n]; !ok {
				continue
			}
			for other, up := range servers {
				if other == n {
					continue
				}
				if !up {
					return nil, fmt.Errorf("%s: the server of %s on %s is not up", h.machine.Name, backend, other.Name)
				}
				names = append(names, other.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
