package keeper

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/internal/kubeclient"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

// Report is a function that returns the configuration which a terminator has applied to its
// HAProxy. Any number of goroutines may call it.
type Report func(context.Context) (gate.Applied, error)

// While a terminator applies a change, it answers a request for its report with 503. A Report from
// a URL then sends the request again every reportRetry, and gives up after reportTimeout.
const (
	reportTimeout = 10 * time.Second
	reportRetry   = 300 * time.Millisecond
)

// URL returns a Report that reads the page /report.json of a terminator's admin listener. While the
// terminator answers 503, the Report tries again for up to 10 s. c is the HTTP client; nil means a
// new client.
func URL(url, cluster string, c *http.Client) Report {
	if c == nil {
		c = apiclient.New(nil)
	}
	return func(ctx context.Context) (gate.Applied, error) {
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		defer cancel()
		for {
			resp, body, err := apiclient.Get(ctx, c, apiclient.Request{URL: url, UserAgent: "headgate-nodegate", MaxBody: gate.MaxReport})
			switch {
			case err != nil:
				return gate.Applied{}, fmt.Errorf("%s: %w", url, err)
			case resp.StatusCode == http.StatusOK:
				return gate.ParseReport(url, body, cluster)
			}
			err = fmt.Errorf("%s: %s: %.200q", url, resp.Status, body)
			if resp.StatusCode != http.StatusServiceUnavailable || !apiclient.Sleep(ctx, reportRetry) {
				return gate.Applied{}, err
			}
		}
	}
}

// File returns a Report that reads a terminator's report.json from a file. A file older than maxAge
// is an error; 0 means any age. Prefer URL: a file does not show whether HAProxy runs the
// configuration now.
func File(path, cluster string, maxAge time.Duration) Report {
	return func(context.Context) (gate.Applied, error) {
		info, err := inputfile.Stat(path)
		if err != nil {
			return gate.Applied{}, err
		}
		if age := time.Since(info.ModTime()); maxAge > 0 && age > maxAge {
			return gate.Applied{}, fmt.Errorf("%s: stale: it was modified %v ago, and the limit is %v", path, age.Round(time.Second), maxAge)
		}
		data, err := inputfile.Read(path, gate.MaxReport)
		if err != nil {
			return gate.Applied{}, err
		}
		return gate.ParseReport(path, data, cluster)
	}
}

// NodeClient is a client of the nodes of a cluster, safe for concurrent use. NewNodeClient returns
// a NodeClient; a NodeInterface of client-go's clientset is a NodeClient too.
type NodeClient interface {
	Get(context.Context, string, metav1.GetOptions) (*corev1.Node, error)
	List(context.Context, metav1.ListOptions) (*corev1.NodeList, error)
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*corev1.Node, error)
}

// NewNodeClient returns a NodeClient. It does not connect yet, and does not change config.
func NewNodeClient(config *rest.Config) (NodeClient, error) { return kubeclient.NewNodes(config) }

// Nodes reads and cordons the nodes of a cluster.
type Nodes struct {
	// Client is the client of the cluster. Required.
	Client NodeClient
	// Signals say which nodes are drained. nil means nodeagent.DefaultSignals.
	Signals []nodeagent.Signal
}

// nodesPage is the number of nodes in one answer of the API server.
const nodesPage = 500

// List returns the states of all nodes.
func (n Nodes) List(ctx context.Context) ([]gate.Node, error) {
	signals := n.signals()
	var nodes []gate.Node
	options := metav1.ListOptions{Limit: nodesPage}
	for {
		page, err := n.Client.List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			nodes = append(nodes, State(&page.Items[i], signals))
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return nodes, nil
		}
	}
}

// Get returns the state of one node.
func (n Nodes) Get(ctx context.Context, name string) (gate.Node, error) {
	node, err := n.Client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return gate.Node{}, err
	}
	return State(node, n.signals()), nil
}

func (n Nodes) signals() []nodeagent.Signal {
	if n.Signals == nil {
		return nodeagent.DefaultSignals(nodeselect.Annotations{})
	}
	return n.Signals
}

// Cordon makes a node unschedulable. The node agent then drains the node.
func (n Nodes) Cordon(ctx context.Context, name string) error {
	_, err := n.Client.Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	return err
}

// State returns the state of a node. The node counts as away if one of the signals drains it, or if
// its condition Ready is not true.
func State(n *corev1.Node, signals []nodeagent.Signal) gate.Node {
	s := gate.Node{Node: nodeselect.Node{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], Identity: n.Name}}
	s.Addrs = []netip.Addr{}
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			s.Addrs = append(s.Addrs, addr.Unmap())
		}
	}
	s.Addr, _ = nodeselect.AddressPolicy{}.Choose(n)
	for _, signal := range signals {
		if request, ok := signal.Request(n); ok {
			s.Away, s.Since = request.Reason, request.Since
			return s
		}
	}
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type != corev1.NodeReady:
		case c.Status == corev1.ConditionTrue:
			s.ReadySince = c.LastTransitionTime.Time
		default:
			s.Away, s.Since = "not Ready", c.LastTransitionTime.Time
		}
	}
	return s
}

// AgentUp returns a function for Keeper.Up. The function connects to the agent at the node's
// address and the given port, and reads its answer. It returns true if the agent answers, and if
// the answer has none of the words down, fail, stopped, drain and maint.
func AgentUp(port uint16) func(context.Context, gate.Node) bool {
	c := &agentcheck.Client{Timeout: 2 * time.Second}
	return func(ctx context.Context, n gate.Node) bool {
		if !n.Addr.IsValid() {
			return false
		}
		reply, err := c.Check(ctx, net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(port))))
		return err == nil && reply.State != agentcheck.Down && reply.State != agentcheck.Fail && reply.State != agentcheck.Stopped &&
			reply.Admin != agentcheck.Drain && reply.Admin != agentcheck.Maint
	}
}
