//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// terminatorAdminPort is the admin port of every terminator. All terminators can have the same
// port, because each of them runs on its own machine.
const terminatorAdminPort = 9709

// Terminator is a running terminator.
type Terminator struct {
	*lab.Process
	// Out is the output directory.
	Out string
}

// StartTerminator starts a terminator on a machine with the output directory out, and does not wait
// until it is ready. With -max-interval 0, the many changes of a scenario do not make the pause
// between reloads grow.
func StartTerminator(m *lab.Machine, name, out string, flags ...string) (*Terminator, error) {
	argv := append([]string{"terminator", "-out", out, "-admin", fmt.Sprintf(":%d", terminatorAdminPort), "-max-interval", "0"}, flags...)
	p, err := m.Start(name, argv...)
	return &Terminator{Process: p, Out: out}, err
}

// Report reads report.json.
func (t *Terminator) Report() (report kube.Report, err error) {
	b, err := os.ReadFile(filepath.Join(t.Out, "report.json"))
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal(b, &report)
}

// Subset returns the nodes of a service in report.json, sorted.
func (t *Terminator) Subset(cluster, service string) ([]string, error) {
	report, err := t.Report()
	if err != nil {
		return nil, err
	}
	for _, s := range report.Services {
		if s.Cluster == cluster && s.Service == service {
			return s.Nodes, nil
		}
	}
	return nil, fmt.Errorf("report.json does not contain the service %s of %s", service, cluster)
}

// Admin requests a page of the terminator's admin listener. The argument "from" is the machine that
// sends the request. A bad HTTP status is not an error.
func (t *Terminator) Admin(ctx context.Context, from *lab.Machine, path string) (status int, body string, err error) {
	return adminPage(ctx, from, netip.AddrPortFrom(t.Machine.Addr, terminatorAdminPort), path)
}

// HAProxy is a HAProxy in master-worker mode on a machine. A terminator makes its configuration.
type HAProxy struct {
	*lab.Process
	// Out is the directory of the configuration.
	Out string

	machine                *lab.Machine
	stats, master, stateOf string
}

// NewHAProxy returns a HAProxy that keeps its files in dir. It does not start HAProxy.
func NewHAProxy(m *lab.Machine, dir string) *HAProxy {
	return &HAProxy{
		machine: m, Out: filepath.Join(dir, "haproxy"),
		stats: filepath.Join(dir, "stats.sock"), master: filepath.Join(dir, "master.sock"), stateOf: filepath.Join(dir, "server-state"),
	}
}

// TerminatorFlags returns the flags with which a terminator reloads this HAProxy and changes its
// servers.
func (h *HAProxy) TerminatorFlags() []string {
	return []string{"-haproxy", "haproxy", "-reload", h.master, "-stats-socket", h.stats, "-state-file", h.stateOf}
}

// StartWhenConfigured waits until the terminator has written a configuration, and then starts
// HAProxy. While HAProxy does not run, the terminator fails to reload it, and tries again by
// itself.
func (h *HAProxy) StartWhenConfigured(ctx context.Context, logs ...*lab.Process) error {
	config := filepath.Join(h.Out, "haproxy.cfg")
	if _, err := lab.Until(ctx, config, patience, func(context.Context) error {
		_, err := os.Stat(config)
		return err
	}, logs...); err != nil {
		return err
	}
	var err error
	h.Process, err = h.machine.Start("haproxy-"+h.machine.Name, "haproxy", "-W", "-S", h.master, "-f", config)
	if err != nil {
		return err
	}
	_, err = lab.Until(ctx, "HAProxy's socket", patience, func(ctx context.Context) error {
		_, err := h.Stats(ctx)
		return err
	}, h.Process)
	return err
}

// Stats returns the answer of HAProxy to "show stat". It leaves out removed servers, which HAProxy
// before 3.0 keeps in maintenance until the next reload. It does not leave out a server in
// maintenance that is still in the configuration.
func (h *HAProxy) Stats(ctx context.Context) ([]runtimeapi.Stat, error) {
	stats, err := runtimeapi.Socket{Path: h.stats, Timeout: 5 * time.Second}.Stats(ctx)
	if err != nil || !slices.ContainsFunc(stats, inMaintenance) {
		return stats, err
	}
	config, err := os.ReadFile(filepath.Join(h.Out, "haproxy.cfg"))
	if err != nil {
		return nil, err
	}
	configured := map[string]bool{} // keys have the form "backend/server"
	backend := ""
	for line := range strings.Lines(string(config)) {
		switch words := strings.Fields(line); {
		case len(words) > 1 && words[0] == "backend":
			backend = words[1]
		case len(words) > 1 && words[0] == "server":
			configured[backend+"/"+words[1]] = true
		}
	}
	return slices.DeleteFunc(stats, func(s runtimeapi.Stat) bool {
		return inMaintenance(s) && !configured[s.Proxy+"/"+s.Server]
	}), nil
}

func inMaintenance(s runtimeapi.Stat) bool {
	return s.Addr != "" && strings.HasPrefix(s.Status, "MAINT")
}

// nodesProxy is the prefix of the names of backends in which HAProxy checks the nodes of a cluster.
const nodesProxy = "nodes."

// NodeStat returns the statistics of the server with which HAProxy checks a node.
func (h *HAProxy) NodeStat(ctx context.Context, n *lab.Node) (runtimeapi.Stat, error) {
	stats, err := h.Stats(ctx)
	if err != nil {
		return runtimeapi.Stat{}, err
	}
	for _, s := range stats {
		if s.Proxy == nodesProxy+n.Cluster.Name && at(s, n) {
			return s, nil
		}
	}
	return runtimeapi.Stat{}, fmt.Errorf("HAProxy has no server %s", n.Name)
}

// Servers returns the statistics of the servers, in all backends, that have the address of a node
// of the cluster and the given node port.
func (h *HAProxy) Servers(ctx context.Context, c *lab.Cluster, port int32) ([]runtimeapi.Stat, error) {
	stats, err := h.Stats(ctx)
	if err != nil {
		return nil, err
	}
	var found []runtimeapi.Stat
	for _, s := range stats {
		addr, err := netip.ParseAddrPort(s.Addr)
		if err == nil && int32(addr.Port()) == port && nodeAt(c, addr.Addr()) != nil {
			found = append(found, s)
		}
	}
	return found, nil
}

// The function "at" reports whether a server has the address of a node.
func at(s runtimeapi.Stat, n *lab.Node) bool {
	addr, err := netip.ParseAddrPort(s.Addr)
	return err == nil && addr.Addr() == n.Addr
}

func nodeAt(c *lab.Cluster, addr netip.Addr) *lab.Node {
	for _, n := range c.Nodes() {
		if n.Addr == addr {
			return n
		}
	}
	return nil
}

// route is one route in the file that the terminator reads. Its backends are services in the
// namespace media.
type route struct {
	host, path string
	shift      bool // the route can move between its clusters
	prefer     []preference
	backends   []backend
}

type backend struct{ cluster, service, port string }

// preference lists the clusters for the clients of a region, the preferred cluster first. HAProxy
// chooses the first cluster in which at least "quorum" percent of the servers can get requests. An
// empty region means all other clients.
type preference struct {
	region   string
	quorum   int
	clusters []string
}

// routesFile is a file of declarations.
type routesFile struct{ path string }

func newRoutesFile(path string, now []route) (*routesFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f := &routesFile{path: path}
	return f, f.set(now)
}

// set replaces all declarations.
func (f *routesFile) set(now []route) error {
	var b strings.Builder
	b.WriteString("routes:\n")
	for _, r := range now {
		fmt.Fprintf(&b, "- host: %q\n", r.host)
		if r.path != "" {
			fmt.Fprintf(&b, "  path: %s\n", r.path)
		}
		if r.shift {
			b.WriteString("  shift: true\n")
		}
		if len(r.prefer) > 0 {
			b.WriteString("  prefer:\n")
		}
		for _, p := range r.prefer {
			fmt.Fprintf(&b, "  - {clusters: [%s], quorum: %d", strings.Join(p.clusters, ", "), p.quorum)
			if p.region != "" {
				b.WriteString(", region: " + p.region)
			}
			b.WriteString("}\n")
		}
		b.WriteString("  backends:\n")
		for _, x := range r.backends {
			fmt.Fprintf(&b, "  - {cluster: %s, namespace: %s, service: %s, port: %s}\n", x.cluster, appNamespace, x.service, x.port)
		}
	}
	return replaceFile(f.path, b.String())
}

// replaceFile replaces a file in one step, so that the terminator never reads a half-written file.
func replaceFile(path, text string) error {
	temporary := path + ".new"
	return errors.Join(os.WriteFile(temporary, []byte(text), 0o600), os.Rename(temporary, path))
}

// The method "line" returns the number of the line on which the declaration of a host begins.
func (f *routesFile) line(host string) (int, error) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return 0, err
	}
	for i, line := range strings.Split(string(b), "\n") {
		if line == fmt.Sprintf("- host: %q", host) {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("%s does not declare %s", f.path, host)
}
