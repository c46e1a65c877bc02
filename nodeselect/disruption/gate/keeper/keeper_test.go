package keeper_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/kubeclient/leasestest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/leases"
)

// lab is a cluster with the nodes n0 to n9, and a terminator. Each service m/s0 to m/s9 has three
// nodes.
type lab struct {
	mu      sync.Mutex
	nodes   []gate.Node
	applied gate.Applied
	err     error
	fake    *leasestest.Leases
}

func newLab() *lab {
	l := &lab{fake: leasestest.New(), applied: gate.Applied{Source: "edge", ID: "1", Time: time.Now(), Subsets: nodeselect.Subsets{}}}
	for i := range 10 {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		l.nodes = append(l.nodes, gate.Node{Node: nodeselect.Node{Name: fmt.Sprint("n", i), Addr: addr, Identity: addr.String()}})
	}
	for i := range 10 {
		key := fmt.Sprint("m/s", i)
		for _, k := range []int{0, 1, 3} {
			l.applied.Subsets[key] = append(l.applied.Subsets[key], l.nodes[(i+k)%10].Node)
		}
	}
	return l
}

// keeper returns a new Keeper, as after a restart.
func (l *lab) keeper() *keeper.Keeper {
	return &keeper.Keeper{
		Reports: []keeper.Report{func(context.Context) (gate.Applied, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.applied, l.err
		}},
		Nodes: func(context.Context) ([]gate.Node, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.nodes), nil
		},
		Store:  &leases.Store{Client: l.fake, Cluster: "eu-1"},
		Budget: disruption.Budget{Service: 1},
	}
}

// set sets the reason why a node is away. "" makes the node present.
func (l *lab) set(node int, away string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[node].Away = away
}

func TestAGrantSurvivesARestartAndEndsWhenTheNodeIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		answer, err := l.keeper().Take(t.Context(), "kured", time.Hour, "n0")
		require.NoError(t, err)
		require.True(t, answer.OK)
		var up atomic.Bool
		k := l.keeper()
		k.Up = func(_ context.Context, n gate.Node) bool { return n.Name == "n0" && up.Load() }
		answer, err = k.May(t.Context(), "n1")
		require.NoError(t, err)
		require.False(t, answer.OK)
		require.Contains(t, answer.String(), "n0 (granted to kured since")

		l.set(0, "cordoned")
		_, err = k.Refresh(t.Context())
		require.NoError(t, err)
		time.Sleep(3 * time.Hour) // longer than the TTL
		l.set(0, "")
		for range 10 {
			grants, err := k.Refresh(t.Context())
			require.NoError(t, err)
			require.Len(t, grants, 1, "the agent does not answer up")
			time.Sleep(time.Minute)
		}
		up.Store(true)
		grants, err := k.Refresh(t.Context())
		require.NoError(t, err)
		require.Len(t, grants, 1, "the hold-down begins")
		time.Sleep(gate.DefaultHoldDown)
		var why string
		k.Ended = func(_ gate.Grant, reason string) { why = reason }
		answer, err = k.Take(t.Context(), "other", time.Hour, "n1")
		require.NoError(t, err)
		require.True(t, answer.OK, answer)
		require.Equal(t, "the node is back", why)
	})
}

// TestManyHoldersAsk: several holders, each with its own Keeper, ask at the same time, take nodes
// away and return them. No service ever has more than one node away.
func TestManyHoldersAsk(t *testing.T) {
	l := newLab()
	var mu sync.Mutex
	gone := map[string]bool{}
	check := func() {
		for service, members := range l.applied.Subsets {
			n := 0
			for _, m := range members {
				if gone[m.Name] {
					n++
				}
			}
			if n > 1 {
				t.Errorf("%s has %d nodes away: %v", service, n, gone)
			}
		}
	}
	var holders sync.WaitGroup
	for h := range 5 {
		holders.Go(func() {
			k, holder := l.keeper(), fmt.Sprint("holder-", h)
			for _, i := range []int{h, h + 5} {
				node := fmt.Sprint("n", i)
				for {
					answer, err := k.Take(t.Context(), holder, time.Hour, node)
					if err != nil && !errors.Is(err, leases.ErrBusy) {
						t.Error(err)
						return
					}
					if err == nil && answer.OK {
						break
					}
				}
				mu.Lock()
				gone[node] = true
				check()
				mu.Unlock()
				mu.Lock()
				delete(gone, node)
				mu.Unlock()
				for {
					_, err := k.Release(t.Context(), node, holder)
					if err == nil {
						break
					}
					if !errors.Is(err, leases.ErrBusy) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	holders.Wait()
}

func TestAReportThatCannotBeReadMeansNo(t *testing.T) {
	l := newLab()
	l.err = errors.New("edge: no answer")
	_, err := l.keeper().May(t.Context(), "n0")
	require.ErrorContains(t, err, "no answer")
	_, err = l.keeper().Take(t.Context(), "kured", time.Hour, "n0")
	require.ErrorContains(t, err, "no answer")
	k := l.keeper()
	k.Reports = nil
	_, err = k.May(t.Context(), "n0")
	require.ErrorIs(t, err, gate.ErrNoSubsets)
}

func TestHandler(t *testing.T) {
	l := newLab()
	h := &keeper.Handler{Keeper: l.keeper(), Token: func(context.Context) (string, error) { return "secret", nil }}
	srv := httptest.NewServer(h)
	defer srv.Close()
	do := func(method, path, body, token string) (int, http.Header, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := srv.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Header, string(text)
	}
	grant := func(node, holder string) string {
		return fmt.Sprintf(`{"nodes": [%q], "holder": %q, "ttl": "30m"}`, node, holder)
	}
	tests := []struct {
		name, method, path, body, token string
		status                          int
		text                            string
	}{
		{"no token", "GET", "/v1/may?node=n0", "", "", 401, "token"},
		{"may", "GET", "/v1/may?node=n0", "", "secret", 200, `"ok":true`},
		{"no node", "GET", "/v1/may", "", "secret", 400, "0 nodes"},
		{"two", "GET", "/v1/may?node=n0&node=n1", "", "secret", 409, `"service":"m/s0"`},
		{"wave", "GET", "/v1/wave", "", "secret", 200, `"nodes":[`},
		{"picture", "GET", "/v1/picture", "", "secret", 200, "<svg"},
		{"unknown field", "POST", "/v1/grants", `{"node": "n0"}`, "secret", 400, "unknown field"},
		{"no holder", "POST", "/v1/grants", grant("n0", ""), "secret", 400, "holder"},
		{"take", "POST", "/v1/grants", grant("n0", "one"), "secret", 201, `"ok":true`},
		{"take again", "POST", "/v1/grants", grant("n0", "one"), "secret", 201, "granted to one"},
		{"take of another", "POST", "/v1/grants", grant("n0", "two"), "secret", 409, `"holder":"one"`},
		{"blocked", "POST", "/v1/grants", grant("n1", "two"), "secret", 409, `"why":"granted to one"`},
		{"list", "GET", "/v1/grants", "", "secret", 200, `"ttl":"30m0s"`},
		{"release of another", "DELETE", "/v1/grants/n0?holder=two", "", "secret", 409, "one holds the grant"},
		{"release", "DELETE", "/v1/grants/n0?holder=one", "", "secret", 204, ""},
		{"released", "DELETE", "/v1/grants/n0", "", "secret", 404, "no grant"},
		{"not blocked", "POST", "/v1/grants", grant("n1", "two"), "secret", 201, `"ok":true`},
		{"another method", "PUT", "/v1/grants", "", "secret", 405, ""},
	}
	for _, tt := range tests {
		status, header, text := do(tt.method, tt.path, tt.body, tt.token)
		require.Equal(t, tt.status, status, "%s: %s", tt.name, text)
		require.Contains(t, text, tt.text, tt.name)
		if status == 409 && tt.name != "release of another" {
			require.NotEmpty(t, header.Get("Retry-After"), tt.name)
		}
	}
	l.mu.Lock()
	l.err = errors.New("edge: no answer")
	l.mu.Unlock()
	status, _, text := do("GET", "/v1/may?node=n9", "", "secret")
	require.Equal(t, 503, status)
	require.Contains(t, text, "cannot tell, so no: edge: no answer")
}

func reportText(t *testing.T) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"applied":  map[string]any{"id": "1", "time": time.Now()},
		"clusters": []any{map[string]any{"name": "eu-1", "nodes": []any{map[string]any{"name": "a", "addr": "10.0.0.1"}}}},
		"services": []any{map[string]any{"cluster": "eu-1", "namespace": "m", "service": "s", "nodes": []string{"a"}}},
	})
	require.NoError(t, err)
	return data
}

func TestReports(t *testing.T) {
	text := reportText(t)
	var busy atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if busy.Add(-1) >= 0 {
			http.Error(w, "a change is being applied", http.StatusServiceUnavailable)
			return
		}
		w.Write(text)
	}))
	defer srv.Close()
	busy.Store(2)
	a, err := keeper.URL(srv.URL, "eu-1", nil)(t.Context())
	require.NoError(t, err)
	require.Len(t, a.Subsets["m/s"], 1)
	busy.Store(1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = keeper.URL(srv.URL, "eu-1", nil)(ctx)
	require.Error(t, err)

	path := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, os.WriteFile(path, text, 0o644))
	_, err = keeper.File(path, "eu-1", time.Hour)(t.Context())
	require.NoError(t, err)
	old := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	_, err = keeper.File(path, "eu-1", time.Hour)(t.Context())
	require.ErrorContains(t, err, "stale")
	_, err = keeper.File(path, "eu-1", 0)(t.Context())
	require.NoError(t, err)
}

func TestState(t *testing.T) {
	now := metav1.Now()
	signals := nodeagent.DefaultSignals(nodeselect.Annotations{})
	tests := []struct {
		name   string
		change func(*corev1.Node)
		away   string
	}{
		{"present", func(*corev1.Node) {}, ""},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, "cordoned"},
		{"annotated", func(n *corev1.Node) { n.Annotations = map[string]string{"headgate.dev/drain": "true"} }, "annotated"},
		{"deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, "being deleted"},
		{"not Ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: now}}
		}, "not Ready"},
		{"Ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "a"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeExternalIP, Address: "192.0.2.1"}}
			tt.change(n)
			s := keeper.State(n, signals)
			require.Equal(t, tt.away, s.Away)
			require.Equal(t, "z", s.Zone)
			require.Equal(t, "10.0.0.1", s.Addr.String())
			require.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")}, s.Addrs)
		})
	}
}

func TestAgentUp(t *testing.T) {
	var reply atomic.Pointer[agentcheck.Reply]
	srv := httptest.NewUnstartedServer(nil) // only for a free address
	l := srv.Listener
	server := &agentcheck.Server{Handler: agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply { return *reply.Load() })}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	addr := netip.MustParseAddrPort(l.Addr().String())
	up := keeper.AgentUp(addr.Port())
	n := gate.Node{Node: nodeselect.Node{Name: "a", Addr: addr.Addr()}}
	for _, tt := range []struct {
		reply agentcheck.Reply
		want  bool
	}{
		{agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}, true},
		{agentcheck.Reply{Admin: agentcheck.Drain}, false},
		{agentcheck.Reply{State: agentcheck.Down}, false},
	} {
		reply.Store(&tt.reply)
		// On a busy machine, the agent may answer after the time-out of the function up.
		require.Eventually(t, func() bool { return up(t.Context(), n) == tt.want }, time.Minute, time.Millisecond, tt.reply)
	}
	require.NoError(t, server.Close())
	<-done
	require.False(t, up(t.Context(), n), "no answer")
	require.False(t, up(t.Context(), gate.Node{}), "no address")
}

// A node that somebody has drained without a grant counts as away like a granted one: until it has
// been back for the hold-down, or until no applied configuration has it.
func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		k := l.keeper()
		ended := map[string]string{}
		k.Ended = func(g gate.Grant, reason string) { ended[g.Node] = reason }
		may := func(want bool) {
			t.Helper()
			answer, err := k.May(t.Context(), "n1")
			require.NoError(t, err)
			require.Equal(t, want, answer.OK, answer)
		}
		for _, holder := range []string{"", "ada"} { // without and with a grant
			if holder != "" {
				answer, err := k.Take(t.Context(), holder, time.Hour, "n0")
				require.NoError(t, err)
				require.True(t, answer.OK)
			}
			l.set(0, "cordoned")
			require.NoError(t, k.Record(t.Context(), cmp.Or(holder, "drain"), "n0"))
			require.NoError(t, k.Record(t.Context(), "again", "n0"))
			l.set(0, "")
			may(false)
			grants, err := k.Refresh(t.Context())
			require.NoError(t, err)
			require.Len(t, grants, 1)
			require.Equal(t, cmp.Or(holder, "drain"), grants[0].Holder)
			time.Sleep(gate.DefaultHoldDown)
			may(true)
			require.Equal(t, map[string]string{"n0": "the node is back"}, ended)
			clear(ended)
		}

		// The node is drained, and another machine replaces it.
		l.set(0, "cordoned")
		require.NoError(t, k.Record(t.Context(), "drain", "n0"))
		l.mu.Lock()
		l.nodes = l.nodes[1:]
		l.mu.Unlock()
		time.Sleep(24 * time.Hour)
		may(false)
		l.mu.Lock()
		for key, members := range l.applied.Subsets {
			l.applied.Subsets[key] = slices.DeleteFunc(slices.Clone(members), func(n nodeselect.Node) bool { return n.Name == "n0" })
		}
		l.mu.Unlock()
		may(true)
		require.Equal(t, map[string]string{"n0": "no applied configuration has the node"}, ended)
		require.NoError(t, k.Record(t.Context(), "drain", "n0"))
		grants, err := k.Refresh(t.Context())
		require.NoError(t, err)
		require.Empty(t, grants, "no configuration has the node")

		l.mu.Lock()
		l.applied.Subsets = nil
		l.mu.Unlock()
		require.NoError(t, k.Record(t.Context(), "drain", "n1"), "no configuration has any node")
		require.Error(t, (&keeper.Keeper{}).Record(t.Context(), "drain", "n1"))
	})
}
