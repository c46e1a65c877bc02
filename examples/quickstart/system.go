package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/nodeselect"
)

const (
	nodesPerService = 3 // of the five nodes of a cluster
	nodesPerCluster = 5 // in system/
	// agentInterval is the pause between two checks of an agent by HAProxy. It is shorter than
	// HAProxy's default of 2 s, because the scenario waits for several checks.
	agentInterval = time.Second
)

// These are the parts of the system that the flag -break can break, so that a step of the scenario
// fails.
const (
	faultBackend = "backend" // a service does not answer on one of its nodes
	faultWeight  = "weight"  // the agents of a cluster answer 100%, whatever the annotation
	faultDrain   = "drain"   // a node's agent ignores the cordon
)

func validFault(f string) bool {
	return slices.Contains([]string{"", faultBackend, faultWeight, faultDrain}, f)
}

type options struct {
	haproxy string // path
	network int    // second byte of all loopback addresses
	fault   string
}

// system contains all running parts: clusters, terminator, HAProxy and clients.
type system struct {
	options
	tmp        string
	addr       string // the address of HAProxy's HTTP listener
	admin      string // the address of HAProxy's metrics
	clusters   map[string]*manifests
	nodes      map[string]*node // by name
	terminator *controller.Controller
	report     kube.Report // on the configuration in force
	process    *haproxyproc.Process
	journal    *journal
	client     *client

	held        []func() // release addr and admin
	stopTraffic context.CancelFunc
	traffic     sync.WaitGroup
}

// startSystem starts all parts, and returns when HAProxy answers requests. If it returns no error,
// the caller must call the method "stop".
func startSystem(ctx context.Context, o options) (_ *system, err error) {
	s := &system{options: o, clusters: map[string]*manifests{}, nodes: map[string]*node{}, journal: &journal{}}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.tmp, err = os.MkdirTemp("", "headgate-"); err != nil {
		return nil, err
	}
	if err := errors.Join(s.declare(""), os.WriteFile(s.path("regions.yaml"), []byte(regionsFile), 0o600)); err != nil {
		return nil, err
	}
	for _, name := range clusterNames {
		if s.clusters[name], err = newManifests(s.tmp, name, o.network); err != nil {
			return nil, err
		}
	}
	if err := s.configure(ctx); err != nil {
		return nil, err
	}
	for _, name := range clusterNames {
		for _, n := range s.clusters[name].objects.Nodes {
			if err := s.startNode(name, n.Name); err != nil {
				return nil, err
			}
		}
	}
	return s, s.startHAProxy(ctx)
}

// declare writes the file of routes: the routes of system/, shiftRoute, nearestRoute, and the argument
// "further".
func (s *system) declare(further string) error {
	text, err := readEmbedded("routes.yaml", s.network)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("routes.yaml"), append(text, shiftRoute+nearestRoute+further...), 0o600)
}

func (s *system) path(name string) string { return filepath.Join(s.tmp, name) }

// configure writes the first configuration, before HAProxy runs.
func (s *system) configure(ctx context.Context) error {
	if err := s.holdAddresses(); err != nil {
		return err
	}
	state := s.path("server-state")
	if err := os.WriteFile(state, []byte("1\n"), 0o600); err != nil {
		return err
	}
	master := runtimeapi.Socket{Path: s.path("master.sock")}
	reloader := deploy.Reloader{Master: master, StateFile: state, Config: s.path("haproxy/haproxy.cfg")}
	s.terminator = &controller.Controller{
		Routes: &controller.RouteFiles{Names: []string{s.path("routes.yaml")}, Regions: s.path("regions.yaml")},
		Builder: kube.Builder{
			Selector: nodeselect.Selector{Size: nodesPerService, Address: nodeselect.AddressPolicy{
				Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // all nodes of the demo
			}},
			Edge: edge.Edge{
				Global:        haproxycfg.Global{StatsSocket: s.stats().Path, StateFile: state, HardStopAfter: 5 * time.Second},
				HTTP:          []haproxycfg.Bind{{Address: s.addr}},
				Admin:         []haproxycfg.Bind{{Address: s.admin}},
				AgentInterval: agentInterval,
				CheckInterval: agentInterval,
				// When the scenario replaces a node, the services can begin to use at most this many
				// nodes that they did not use before. Each such node needs a spare server.
				SpareNodes: nodesPerCluster - nodesPerService + 1,
			},
		},
		Dir: &deploy.Dir{
			Path:  s.path("haproxy"),
			Check: deploy.Checker{Haproxy: s.haproxy}.Check,
			Reload: func(ctx context.Context) error {
				if s.process == nil {
					return nil
				}
				return reloader.Reload(ctx)
			},
			SetMap:      reloader.SetMap,
			ReplaceMaps: reloader.ReplaceMaps,
			CompareMaps: reloader.CompareMaps,
		},
	}
	for _, name := range clusterNames {
		s.terminator.Clusters = append(s.terminator.Clusters, controller.Cluster{
			Name: name, Source: controller.Manifests{Dir: s.clusters[name].dir()},
		})
	}
	version, err := deploy.Checker{Haproxy: s.haproxy}.Version(ctx)
	if err != nil {
		return err
	}
	s.terminator.Builder.Edge.Global.Version = version
	if _, err := s.apply(ctx); err != nil {
		return err
	}
	s.terminator.Dir.Runtime = &deploy.Runtime{
		Stats: s.stats(), Master: master, ChangedOnly: true, Wait: 100 * time.Millisecond,
	}
	return nil
}

// config is the path of the configuration.
func (s *system) config() string { return filepath.Join(s.terminator.Dir.Path, "haproxy.cfg") }

// startHAProxy starts HAProxy with the present configuration. Before this call, the method "apply"
// only writes the configuration; afterwards it also reloads HAProxy.
func (s *system) startHAProxy(ctx context.Context) (err error) {
	s.process, err = haproxyproc.Start(ctx, haproxyproc.Options{
		Path: s.haproxy, Config: s.config(),
		StatsSocket: s.stats().Path, MasterSocket: s.path("master.sock"),
	})
	return err
}

// holdAddresses reserves two loopback addresses with ports, on which HAProxy will listen.
func (s *system) holdAddresses() error {
	for _, addr := range []*string{&s.addr, &s.admin} {
		port, release, err := freeport.Hold("127.0.0.1", 0)
		if err != nil {
			return err
		}
		s.held = append(s.held, release)
		*addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return nil
}

func (s *system) startNode(cluster, name string) error {
	m := s.clusters[cluster]
	n := newNode(cluster, m.objects.Node(name), m.dir(), s.faultOf(cluster, name))
	s.nodes[name] = n
	return n.start(m.objects.Services)
}

// faultOf returns the fault that -break causes on a node. It returns "" if nothing on this node is
// broken.
func (s *system) faultOf(cluster, name string) string {
	subset := s.subset(webService)
	switch s.fault {
	case faultDrain:
		if name == subset[0] { // the scenario cordons this node
			return s.fault
		}
	case faultBackend:
		if name == subset[len(subset)-1] {
			return s.fault
		}
	case faultWeight:
		if cluster == "eu-2" {
			return s.fault
		}
	}
	return ""
}

// worker returns the process ID of the HAProxy worker that serves new connections.
func (s *system) worker(ctx context.Context) (string, error) {
	worker, err := (&deploy.Runtime{Master: runtimeapi.Socket{Path: s.path("master.sock")}}).Worker(ctx)
	return strings.TrimPrefix(worker.Worker, "@!"), err
}

// apply writes the configuration for the present routes, shifts and manifests, and makes HAProxy use
// it: over HAProxy's socket if HAProxy permits it, and by a reload otherwise. If the routes or
// manifests cause a problem in the report, apply changes nothing and returns the problem.
func (s *system) apply(ctx context.Context) (*controller.Change, error) {
	change, err := s.terminator.Plan(ctx, program)
	if err != nil {
		return nil, err
	}
	for _, p := range change.Report.Problems {
		return nil, p
	}
	_, err = s.terminator.Apply(ctx, change)
	s.report = change.Report
	return change, err
}

// shift replaces the shifts of routes, as "terminator shift" does, and applies them.
func (s *system) shift(ctx context.Context, shifts shift.State) error {
	data, err := fleet.State{Shifts: shifts}.AppendJSON(nil)
	if err != nil {
		return err
	}
	if _, err := s.terminator.Dir.WriteAuxiliary(ctx, haproxycfg.RenderedFile{Name: controller.FleetFile, Data: data}); err != nil {
		return err
	}
	_, err = s.apply(ctx)
	return err
}

// preferred returns the first backend that nearestRoute prefers.
func (s *system) preferred() (edge.Preferred, error) {
	preferences, err := s.terminator.Dir.MapInForce(edge.PreferMap)
	for _, value := range preferences {
		if list, ok := edge.ParsePreferred(value); ok && len(list) > 0 {
			return list[0], nil
		}
	}
	return edge.Preferred{}, errors.Join(errors.New("no preference is in force"), err)
}

func (s *system) stats() runtimeapi.Socket { return runtimeapi.Socket{Path: s.path("stats.sock")} }

// usable returns the names of the servers of a backend that can get requests.
func (s *system) usable(ctx context.Context, backend string) (servers []string, err error) {
	rows, err := s.stats().ServerStats(ctx, backend)
	for _, row := range rows {
		if row.Status == "UP" {
			servers = append(servers, row.Server)
		}
	}
	return servers, err
}

// setState sets the state of servers in the running HAProxy, as an operator does over HAProxy's
// socket. The state is "maint" or "ready".
func (s *system) setState(ctx context.Context, backend string, servers []string, state string) error {
	for _, server := range servers {
		command := fmt.Sprintf("set server %s/%s state %s", backend, server, state)
		answer, err := s.stats().Do(ctx, command)
		if err == nil && strings.TrimSpace(answer) != "" {
			err = fmt.Errorf("%s: %s", command, answer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// subset returns the names of the nodes that are selected for a service, sorted. service is
// "cluster/namespace/name".
func (s *system) subset(service string) []string {
	for _, r := range s.report.Services {
		if r.Cluster+"/"+r.Namespace+"/"+r.Service == service {
			return r.Nodes
		}
	}
	return nil
}

// agents returns the agents that HAProxy checks for the given services ("cluster/namespace/name").
// Each selected node has its own agent. If a service has an agent port, each of its nodes has a
// second agent for this service.
func (s *system) agents(services ...string) []agent {
	var agents []agent
	for _, service := range services {
		cluster, name, _ := strings.Cut(service, "/")
		namespace, short, _ := strings.Cut(name, "/")
		svc := s.clusters[cluster].objects.Service(namespace, short)
		for _, n := range s.subset(service) {
			agents = append(agents, agent{node: s.nodes[n]})
			if svc.Annotations["headgate.dev/agent-port"] != "" {
				agents = append(agents, agent{s.nodes[n], name})
			}
		}
	}
	return agents
}

// startTraffic starts clients that send requests until the system stops.
func (s *system) startTraffic() {
	s.client = newClient(s.addr, s.journal)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopTraffic = cancel
	for range 3 {
		s.traffic.Go(func() {
			s.client.stream(ctx, 10*time.Millisecond, shopURL, tracksURL, searchURL)
		})
	}
}

// stop stops all parts, and returns when they have ended. It also works if startSystem has started
// only some of the parts.
func (s *system) stop() {
	if s.stopTraffic != nil {
		s.stopTraffic()
		s.traffic.Wait()
		s.client.http.CloseIdleConnections()
	}
	if s.process != nil {
		s.process.Stop()
	}
	var stopping sync.WaitGroup
	for _, n := range s.nodes {
		stopping.Go(n.stop)
	}
	stopping.Wait()
	for _, release := range s.held {
		release()
	}
	if s.tmp != "" {
		_ = os.RemoveAll(s.tmp)
	}
}

// describe prints commands that the user can try while the system runs. curl is the only program in
// these commands that a minimal Debian lacks.
func (s *system) describe(w io.Writer) {
	node := s.subset(webService)[0]
	fmt.Fprintf(w, `
The system runs until Ctrl-C. Try in another terminal:

  # send requests; the answer names the node
  curl -H 'Host: shop.example.com' http://%[1]s/
  curl -H 'Host: api.example.com' http://%[1]s/tracks/1

  # read the answer of the agent of node %[2]s
  bash -c 'cat < /dev/tcp/%[3]s/%[4]d'

  # cordon this node, read the agent's answer again, send requests, and uncordon the node
  sed -i '/name: %[2]s$/,/spec:/ s/spec: {}/spec: {unschedulable: true}/' %[5]s
  sed -i 's/spec: {unschedulable: true}/spec: {}/' %[5]s

  # set the weight of /tracks in eu-2 to 0
  sed -i 's/weight: "50"/weight: "0"/' %[6]s

  # read the configuration, and HAProxy's metrics
  less %[7]s
  curl http://%[8]s/metrics
`, s.addr, node, addrOf(s.clusters["eu-1"].objects.Node(node)), edge.DefaultNodeAgentPort,
		s.clusters["eu-1"].file, s.clusters["eu-2"].file, s.config(), s.admin)
}
