package drill_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/drill"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

var start = manifesttest.Epoch.Add(100 * 24 * time.Hour)

// newRunner returns a Runner with one cluster, whose nodes are in three zones.
func newRunner(tb testing.TB, nodes, services, size int, change func(*controller.Controller)) drill.Runner {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "routes.yaml")
	require.NoError(tb, os.WriteFile(file, manifesttest.Routes(services), 0o600))
	return drill.Runner{
		Controller: func() *controller.Controller {
			c := &controller.Controller{
				Routes:  &controller.RouteFiles{Names: []string{file}},
				Builder: kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}, Selector: nodeselect.Selector{Size: size}},
			}
			if change != nil {
				change(c)
			}
			return c
		},
		Clusters: []drill.Cluster{{Name: "eu-1", Objects: nodeselect.NewObjects(manifesttest.Nodes(nodes), manifesttest.Services(services))}},
		Start:    start,
	}
}

// outcome is the part of a Result that TestStandard compares.
type outcome struct {
	Reloads, Refusals, Lowest, After int
	Drains                           bool
}

// TestStandard checks that each fault has the effect that the documentation of the other packages
// promises.
func TestStandard(t *testing.T) {
	for _, test := range []struct {
		health edge.NodeHealth
		drill  string
		want   outcome
		log    string // a part of the log or the status; "" for none
	}{
		{edge.NodeAgent, "zone eu-west-1a", outcome{2, 0, 2, 6, false}, "Node ip-10-0-0-1.internal: removed"},
		{edge.NodeAgent, "api-away", outcome{0, 0, 6, 6, false}, "the cluster has not answered yet"},
		{edge.NodeAgent, "api-empty", outcome{0, 0, 6, 6, false}, "lists no nodes, which is not trusted at the start"},
		{edge.NodeAgent, "flapping", outcome{0, 0, 6, 6, false}, ""},
		{edge.NodeAgent, "registering", outcome{10, 0, 6, 6, false}, "applied"},
		{edge.NodeAgent, "burst", outcome{2, 0, 3, 6, false}, "Node drill-new-1: status.conditions[Ready]"},
		{edge.NodeAgent, "node-port", outcome{2, 0, 0, 6, false}, "Service team-000/service-0000"},
		{edge.NodeAgent, "agents", outcome{0, 0, 0, 6, false}, ""},
		{edge.NodeAgent, "cordon", outcome{0, 0, 2, 6, true}, ""},
		{edge.NodeAgentAndKubeProxy, "agents", outcome{0, 0, 6, 6, false}, ""},
		{edge.KubeProxyOnly, "cordon", outcome{0, 0, 6, 6, false}, ""},
	} {
		t.Run(fmt.Sprint(test.drill, " ", test.health), func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, 30, 20, 6, func(c *controller.Controller) { c.Builder.Edge.NodeHealth = test.health })
			x := runStandard(t, r, test.drill)
			worst := x.Worst[0]
			require.Equal(t, test.want, outcome{x.Reloads, len(x.Refusals), worst.Lowest, worst.After, x.Drained > 0})
			require.Equal(t, 20, x.Services)
			require.Equal(t, 6, worst.Before)
			var log strings.Builder
			for _, l := range x.Log {
				fmt.Fprintln(&log, l.At, l.Text)
			}
			require.Contains(t, log.String()+x.Status, test.log)
			if test.log == "" {
				require.Empty(t, x.Log)
			}
		})
	}
}

// The Controller refuses a change above its limit, with an ID and the hint how to force the change.
// The change stays refused until the recovery.
func TestRefusal(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 30, 20, 6, func(c *controller.Controller) {
		c.Limit = controller.MaxShare(0.2)
		c.ForceHint = func(id string) string { return "force " + id }
	})
	x := runStandard(t, r, "zone eu-west-1a")
	require.Zero(t, x.Reloads)
	require.Len(t, x.Refusals, 1)
	refusal := x.Refusals[0]
	require.Equal(t, "+10m0.1s", refusal.At.String())
	require.Equal(t, "+20m0.1s", refusal.Until.String())
	require.Contains(t, refusal.Reason, "the limit is 20.0%")
	require.Contains(t, refusal.Reason, "force "+refusal.ID)
	require.Contains(t, x.Status, refusal.Reason)
	violations := drill.DefaultPolicy().Judge(x)
	require.Len(t, violations, 2)
	require.Equal(t, "min-servers", violations[0].Limit)
	require.Contains(t, violations[0].Text, "for 20m0s, from +0s on")
	require.Equal(t, "max-refusals", violations[1].Limit)
	lenient := drill.Policy{All: drill.Limits{MinServers: 0.1, MaxRefusals: 1, MaxReloads: -1}}
	require.Empty(t, lenient.Judge(x))
	// The limits for the name of a drill take precedence over the limits for its kind.
	lenient.Drills = map[string]drill.Limits{"zone": drill.DefaultLimits, "zone eu-west-1a": lenient.All}
	require.Empty(t, lenient.Judge(x))
	delete(lenient.Drills, "zone eu-west-1a")
	require.Len(t, lenient.Judge(x), 2)
	drills, err := r.Standard()
	require.NoError(t, err)
	require.NoError(t, lenient.Check(drills))
	lenient.Drills["nodes"] = drill.DefaultLimits
	require.ErrorContains(t, lenient.Check(drills), "drills.nodes: no such drill; there are agents, ")
}

// A service whose routes all declare a check does not need the node agents.
func TestAgentsOfAServiceWithACheck(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 9, 2, 3, func(c *controller.Controller) {
		file := c.Routes.(*controller.RouteFiles).Names[0]
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if !strings.Contains(string(data), "check:") {
			text := strings.Replace(string(data), "- host:", "- check: {path: /health}\n  host:", 1)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		}
	})
	x := runStandard(t, r, "agents")
	require.Equal(t, 1, x.Empty)
	require.Equal(t, 3, x.Worst[1].Lowest)
}

// A drill does not change its inputs, and does not change the results of other drills.
func TestDrillsAreRepeatable(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 9, 2, 3, nil)
	drills, err := r.Standard()
	require.NoError(t, err)
	first, err := r.RunAll(t.Context(), drills, nil)
	require.NoError(t, err)
	again, err := r.RunAll(t.Context(), drills, nil)
	require.NoError(t, err)
	var a, b bytes.Buffer
	require.NoError(t, drill.NewReport(drill.DefaultPolicy(), first).WriteJSON(&a))
	require.NoError(t, drill.NewReport(drill.DefaultPolicy(), again).WriteJSON(&b))
	id := regexp.MustCompile(`[0-9a-f]{16}`) // depends on the directory
	require.Equal(t, id.ReplaceAllString(a.String(), "ID"), id.ReplaceAllString(b.String(), "ID"))
	require.Equal(t, nodeselect.NewObjects(manifesttest.Nodes(9), manifesttest.Services(2)), r.Clusters[0].Objects)

	var text bytes.Buffer
	report := drill.NewReport(drill.DefaultPolicy(), first)
	require.NoError(t, report.WriteTable(&text))
	require.NoError(t, report.WriteDetails(&text))
	for line := range strings.Lines(text.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 101, line)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.RunAll(ctx, drills, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// If the Controller applies no first configuration, there is nothing to lose, so Run returns an
// error.
func TestWithoutServers(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 9, 2, 3, nil)
	drills, err := r.Standard()
	require.NoError(t, err)
	r.Clusters[0].Objects.Services = nil
	_, err = r.Run(t.Context(), drills[0])
	require.ErrorIs(t, err, controller.ErrNoServers)
	require.ErrorContains(t, err, "drill zone eu-west-1a: before the first step: no configuration is in force")
}

func TestJoin(t *testing.T) {
	t.Parallel()
	o := nodeselect.NewObjects(manifesttest.Nodes(6), nil)
	joined, names := drill.Join(o, 3, start)
	require.Len(t, names, 3)
	require.Len(t, joined.Nodes, 9)
	addresses := map[string]bool{}
	for _, n := range joined.Nodes {
		addr, err := nodeselect.AddressPolicy{}.Choose(n)
		require.NoError(t, err)
		require.False(t, addresses[addr.String()])
		addresses[addr.String()] = true
	}
	require.Len(t, drill.Zones(joined), 3)
	findings := nodeselect.Selector{}.Pool(joined.Nodes, start).Findings()
	require.Len(t, findings, 3, "the new nodes are not ready")
	joined = drill.Ready(joined, names, start)
	require.Empty(t, nodeselect.Selector{}.Pool(joined.Nodes, start).Findings())
	_, names = drill.Join(nodeselect.Objects{}, 3, start)
	require.Empty(t, names)
}

// runStandard runs the standard drill with this name.
func runStandard(t *testing.T, r drill.Runner, name string) drill.Result {
	t.Helper()
	drills, err := r.Standard()
	require.NoError(t, err)
	for _, d := range drills {
		if d.Name == name {
			result, err := r.Run(t.Context(), d)
			require.NoError(t, err)
			return result
		}
	}
	t.Fatalf("no drill %q", name)
	return drill.Result{}
}
