//go:build linux

package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/httpload"
)

// These names and numbers describe the service behind the front proxies.
const (
	frontNamespace = "front"
	frontPods      = 12 // in each zone
	frontRate      = 1000
	frontClients   = 50
)

// usual is the Behaviour of each pod, unless a scenario sets another one.
var usual = pod.Behaviour{Shortest: 5 * time.Millisecond, Longest: 15 * time.Millisecond}

// Fronts is a test service with pods in two zones of one cluster. Front proxies run in the first
// zone, and a TCP balancer distributes the clients' connections over the front proxies. The front
// proxies run in the network of the node, as pods with hostNetwork do.
type Fronts struct {
	Cluster *lab.Cluster
	// Local is the node of the zone of the front proxies. Other is the node of another zone. Each
	// has frontPods pods of the service.
	Local, Other     *lab.Node
	Client, Balancer *lab.Machine
	Service          string
	NodePort         uint16

	kubeconfig string
	dir        string
	fronts     []*Front
	balancer   *lab.Process
}

// Front is a running front proxy.
type Front struct {
	*lab.Process
	// Clients send requests to Addr. The balancer sends its checks to Monitor.
	Addr, Monitor netip.AddrPort
	// Dir contains haproxy.cfg and HAProxy's sockets.
	Dir string
	// Policy is the policy file.
	Policy string

	admin string
}

// newFronts creates the service with the given numbers of pods in the two zones. It starts no front
// proxy.
func newFronts(ctx context.Context, env *Env, service string, local, other int) (*Fronts, error) {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	c := clusters[0]
	f := &Fronts{Cluster: c, Local: c.Nodes()[0], Other: c.Nodes()[1], Service: service, dir: env.Lab.Dir("fronts", service)}
	if f.Client, err = env.Lab.Machine("client"); err != nil {
		return nil, err
	}
	if f.Balancer, err = env.Lab.Machine("balancer"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	// These manifests contain the account of discovery, which may read the EndpointSlices of all
	// namespaces.
	if err := applyShipped(ctx, c, "discovery"); err != nil {
		return nil, err
	}
	if f.kubeconfig, err = c.AccountKubeconfig(ctx, "headgate-discovery", "headgate-discovery"); err != nil {
		return nil, err
	}
	deployed, err := c.Deploy(ctx, lab.App{Namespace: frontNamespace, Name: service, Pods: -1})
	if err != nil {
		return nil, err
	}
	f.NodePort = uint16(deployed.NodePort)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for range local {
		group.Go(func() error { return f.addPod(gctx, f.Local) })
	}
	for range other {
		group.Go(func() error { return f.addPod(gctx, f.Other) })
	}
	return f, group.Wait()
}

func (f *Fronts) addPod(ctx context.Context, n *lab.Node) error {
	p, err := n.RunPod(ctx, frontNamespace, f.Service)
	if err != nil {
		return err
	}
	return p.Behave(ctx, usual)
}

// pods returns the pods of the service on a node.
func (f *Fronts) pods(n *lab.Node) []*lab.Pod {
	return slices.DeleteFunc(n.Pods(), func(p *lab.Pod) bool {
		return p.Namespace != frontNamespace || !strings.HasPrefix(p.Name, f.Service+"-")
	})
}

// behave changes how pods answer.
func behave(ctx context.Context, pods []*lab.Pod, b pod.Behaviour) error {
	var errs []error
	for _, p := range pods {
		errs = append(errs, p.Behave(ctx, b))
	}
	return errors.Join(errs...)
}

// start starts a front proxy in the zone of f with a policy, and waits until it is ready.
func (f *Fronts) start(ctx context.Context, policy string, flags ...string) (*Front, error) {
	return f.startOn(ctx, f.Local, policy, flags...)
}

// startOn starts a front proxy with a policy, as start does, but on the node n, which may be in any
// zone.
func (f *Fronts) startOn(ctx context.Context, n *lab.Node, policy string, flags ...string) (*Front, error) {
	i := len(f.fronts)
	name := fmt.Sprintf("frontproxy-%s-%d", f.Service, i+1)
	front := &Front{
		Addr:    netip.AddrPortFrom(n.Addr, uint16(8001+i)),
		Monitor: netip.AddrPortFrom(n.Addr, uint16(8101+i)),
		Dir:     filepath.Join(f.dir, fmt.Sprint(i+1)),
		Policy:  filepath.Join(f.dir, fmt.Sprintf("policy-%d.yaml", i+1)),
		admin:   "unix:" + filepath.Join(f.dir, fmt.Sprintf("%d.sock", i+1)),
	}
	if err := os.WriteFile(front.Policy, []byte(policy), 0o644); err != nil {
		return nil, err
	}
	argv := []string{
		"frontproxy", "-service", frontNamespace + "/" + f.Service + ":http", "-zone", n.Spec.Zone,
		"-listen", front.Addr.String(), "-exporter", front.Monitor.String(), "-admin", front.admin,
		"-policy", front.Policy, "-out", front.Dir, "-threads", "1",
	}
	if !slices.Contains(flags, "-discovery") {
		argv = append(argv, "-kubeconfig", f.kubeconfig)
	}
	var err error
	if front.Process, err = n.Start(name, append(argv, flags...)...); err != nil {
		return nil, err
	}
	f.fronts = append(f.fronts, front)
	_, err = lab.Until(ctx, name+" to be ready", patience, func(ctx context.Context) error {
		status, body, err := adminPage(ctx, f.Client, front.Monitor, "/ready")
		return readyz(status, body, err, "")
	}, front.Process)
	return front, err
}

// balance starts a TCP balancer in front of targets, and returns its address. The balancer checks
// each target every second, by a connection or by the path /ready on the target's check port. After
// two failed checks, it sends no more connections to the target, as the balancers of many clouds
// do. A check must connect within 1 s, but the answer may take longer, because the machine may be
// busy.
func (f *Fronts) balance(ctx context.Context, algorithm string, targets []target) (string, error) {
	addr := net.JoinHostPort(f.Balancer.Addr.String(), "80")
	socket := filepath.Join(f.dir, "balancer.sock")
	var text bytes.Buffer
	fmt.Fprintf(&text, "global\n    stats socket %s level admin\ndefaults\n    mode tcp\n    timeout connect 1s\n    timeout check 5s\n    timeout client 1m\n    timeout server 1m\n    retries 0\nlisten balancer\n    bind %s\n    balance %s\n", socket, addr, algorithm)
	if len(targets) > 0 && targets[0].check != 0 {
		text.WriteString("    option httpchk GET /ready\n")
	}
	for i, t := range targets {
		fmt.Fprintf(&text, "    server s%d %s check inter 1s rise 1 fall 2", i, t.addr)
		if t.check != 0 {
			fmt.Fprintf(&text, " port %d", t.check)
		}
		text.WriteByte('\n')
	}
	config := filepath.Join(f.dir, "balancer.cfg")
	if err := os.WriteFile(config, text.Bytes(), 0o644); err != nil {
		return "", err
	}
	var err error
	f.balancer, err = f.Balancer.Start("balancer-"+f.Service+"-"+algorithm, "haproxy", "-db", "-f", config)
	if err != nil {
		return "", err
	}
	_, err = lab.Until(ctx, "the balancer", patience, func(ctx context.Context) error {
		conn, err := f.Client.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}, f.balancer)
	return addr, err
}

// target is a server behind the TCP balancer.
type target struct {
	addr  netip.AddrPort
	check uint16 // port of the check; 0 means that the balancer only connects to addr
}

// balanceFronts starts a TCP balancer in front of n front proxies. They may start later.
func (f *Fronts) balanceFronts(ctx context.Context, algorithm string, n int) (string, error) {
	var targets []target
	for i := range n {
		targets = append(targets, target{netip.AddrPortFrom(f.Local.Addr, uint16(8001+i)), uint16(8101 + i)})
	}
	return f.balance(ctx, algorithm, targets)
}

// withFronts returns the Run function of a scenario. The function creates the service with the
// given numbers of pods in the two zones, runs f, and removes everything.
func withFronts(service string, local, other int, run func(context.Context, *Fronts, *scenario.Report) error) func(context.Context, *Env, *scenario.Report) error {
	return func(ctx context.Context, env *Env, report *scenario.Report) error {
		f, err := newFronts(ctx, env, service, local, other)
		if err == nil {
			err = run(ctx, f, report)
		}
		if f != nil {
			err = errors.Join(err, f.close(context.WithoutCancel(ctx)))
		}
		return err
	}
}

// close stops everything that f has started, and deletes the pods.
func (f *Fronts) close(ctx context.Context) error {
	var errs []error
	if f.balancer != nil {
		errs = append(errs, f.balancer.Stop())
	}
	for _, front := range f.fronts {
		front.Kill()
	}
	for _, n := range f.Cluster.Nodes() {
		for _, p := range f.pods(n) {
			// Retry: shortly after its start, an API server can be so slow that the request times
			// out.
			_, err := lab.Until(ctx, "the end of "+p.Name, time.Minute, p.Delete)
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, f.Cluster.DeleteService(ctx, frontNamespace, f.Service))...)
}

// load starts clients that never repeat a request. 30% of the requests are POST.
func (f *Fronts) load(ctx context.Context, addr string, change func(*loadConfig)) *loadRun {
	c := loadConfig{
		Dial: f.Client.DialContext, Address: addr, Host: "web.example.com", Rate: frontRate, Kept: frontClients, Posts: 0.3,
		StartOver: time.Second, Timeout: 10 * time.Second, Parse: parseAnswer,
	}
	if change != nil {
		change(&c)
	}
	return httpload.Start(ctx, c)
}

// socket is the socket of the HAProxy worker of a front proxy.
func (f *Front) socket() runtimeapi.Socket {
	return runtimeapi.Socket{Path: filepath.Join(f.Dir, "stats.sock"), Timeout: 5 * time.Second}
}

// stats returns HAProxy's statistics of a front proxy.
func (f *Front) stats(ctx context.Context) ([]runtimeapi.Stat, error) { return f.socket().Stats(ctx) }

// setPolicy replaces the policy file.
func (f *Front) setPolicy(policy string) error {
	if err := os.WriteFile(f.Policy+".new", []byte(policy), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Policy+".new", f.Policy)
}

// byPod counts the answered requests of each pod, with 0 for a pod without requests.
func byPod(log *httpload.Log[pod.Answer], from, to time.Time, pods []*lab.Pod) map[string]int {
	counts := log.Shares(from, to, func(r request) string { return r.Answer.Pod })
	for _, p := range pods {
		counts[p.Name] += 0
	}
	return counts
}

// variation returns the coefficient of variation: the standard deviation divided by the mean.
func variation(counts map[string]int) float64 {
	var sum, squares float64
	for n := range maps.Values(counts) {
		sum += float64(n)
	}
	mean := sum / float64(len(counts))
	for n := range maps.Values(counts) {
		squares += (float64(n) - mean) * (float64(n) - mean)
	}
	return math.Sqrt(squares/float64(len(counts))) / mean
}

// The method "row" returns a row of the report about the requests between two times: their number,
// and how many of them failed. One failed request makes the row fail.
func (f *Fronts) row(log *httpload.Log[pod.Answer], from, to time.Time, what string) scenario.Row {
	return scenario.Row{What: what, Requests: log.Count(from, to), Failed: len(log.Failures(from, to)), Err: log.Err(from, to)}
}

// serversUp returns the number of servers that get requests from HAProxy. It counts only the
// servers of the backend whose name ends with suffix.
func (f *Front) serversUp(ctx context.Context, suffix string) (int, error) {
	stats, err := f.stats(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, s := range stats {
		if strings.HasSuffix(s.Proxy, suffix) && s.Addr != "" && (strings.HasPrefix(s.Status, "UP") || s.Status == "no check") {
			n++
		}
	}
	return n, nil
}
