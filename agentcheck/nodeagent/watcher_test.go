package nodeagent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect"
)

// patience bounds how long a test waits for an event that must happen.
const patience = time.Minute

// watching is a Watcher that runs in the background, with its states so far.
type watching struct {
	*nodeagent.Watcher
	t     *testing.T
	stop  context.CancelFunc
	ended chan error

	mu     sync.Mutex
	states []nodeagent.State
}

func watch(t *testing.T, w *nodeagent.Watcher) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &watching{Watcher: w, t: t, stop: cancel, ended: make(chan error, 1)}
	go func() {
		r.ended <- w.Run(ctx, func(s nodeagent.State) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.states = append(r.states, s)
		})
	}()
	t.Cleanup(func() {
		cancel()
		err := <-r.ended
		r.ended <- err
	})
	return r
}

func (r *watching) last() nodeagent.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return nodeagent.State{}
	}
	return r.states[len(r.states)-1]
}

func (r *watching) eventually(what string, is func(nodeagent.State) bool) nodeagent.State {
	r.t.Helper()
	var s nodeagent.State
	if !assert.Eventually(r.t, func() bool { s = r.last(); return is(s) }, patience, 2*time.Millisecond) {
		require.FailNow(r.t, "not seen: "+what, "last %+v", r.last())
	}
	return s
}

// answers waits until the port gives the answer in the argument "want". If this answer is "", it
// waits until there is no such port.
func (r *watching) answers(port uint16, want string) nodeagent.State {
	r.t.Helper()
	return r.eventually(fmt.Sprintf("%d: %q", port, want), func(s nodeagent.State) bool {
		for _, a := range s.Answers {
			if a.Port == port {
				return a.Reply.String() == want
			}
		}
		return want == "" && s.Answers != nil
	})
}

// told returns all answers of the port so far.
func (r *watching) told(port uint16) (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		for _, a := range s.Answers {
			if a.Port == port {
				all = append(all, a.Reply.String())
			}
		}
	}
	return all
}

func agentPort(port, weight string) map[string]string {
	return map[string]string{"headgate.dev/agent-port": port, "headgate.dev/weight": weight, "example.com/other": strings.Repeat("x", 1000)}
}

func typed(s *corev1.Service, kind corev1.ServiceType) *corev1.Service {
	s.Spec.Type = kind
	return s
}

// cluster starts an API server with the nodes n0, n1, n2 and so on.
func cluster(t *testing.T, nodes int) *kubewatchtest.Server {
	t.Helper()
	server := kubewatchtest.New(t)
	for i := range nodes {
		server.Set(node(fmt.Sprint("n", i), nil))
	}
	return server
}

func cordoned(n *corev1.Node) { cordon(n, time.Now()) }

func TestWatcherFollowsTheCluster(t *testing.T) {
	server := cluster(t, 10)
	server.Set(
		service("tracks", agentPort("9801", "50"), 30001),
		typed(service("waves", agentPort("9802", "70"), 30002), corev1.ServiceTypeLoadBalancer),
		typed(service("inside", agentPort("9803", "70")), corev1.ServiceTypeClusterIP),
	)
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n3", HoldDown: -1, ZeroWeightDelay: -1}})
	s := r.answers(9801, "up ready 50%")
	require.Equal(t, []string{"9707 up ready", "9801 up ready 50%", "9802 up ready 70%"}, lines(s))
	require.Equal(t, nodeagent.DrainStatus{Limit: 3, Total: 10}, s.Drain)
	require.NoError(t, s.Err)
	require.Empty(t, s.Problems)
	require.WithinDuration(t, time.Now(), r.LastContact(), time.Minute)

	// Services are added, changed, moved to other ports, and deleted. Some ask for a used port.
	server.Set(service("tracks", agentPort("9801", "0"), 30001))
	r.answers(9801, "up ready 0%")
	server.Set(service("tracks", agentPort("9804", "0"), 30001))
	r.answers(9804, "up ready 0%")
	r.answers(9801, "")
	server.Set(service("plain", nil, 9804))
	s = r.answers(9804, "")
	require.Len(t, s.Problems, 1)
	require.ErrorContains(t, s.Problems[0], "it is a node port of Service media/plain")
	server.Delete(service("plain", nil))
	require.Empty(t, r.answers(9804, "up ready 0%").Problems)
	plain := service("plain", nil, 30009)
	plain.Spec.HealthCheckNodePort = 9804
	server.Set(plain)
	require.ErrorContains(t, r.answers(9804, "").Problems[0], "it is the health check node port of Service media/plain")
	server.Set(typed(service("plain", nil), corev1.ServiceTypeClusterIP))
	r.answers(9804, "up ready 0%")
	server.Delete(service("tracks", nil))
	r.answers(9804, "")

	// The node and its Services drain and return.
	server.Set(node("n3", cordoned))
	r.answers(9707, "up drain # cordoned")
	r.answers(9802, "up drain 70% # cordoned")
	server.Set(node("n3", nil))
	r.answers(9802, "up ready 70%")
	server.Set(node("n3", func(n *corev1.Node) { n.Annotations["headgate.dev/drain"] = "soon" }))
	require.ErrorContains(t, r.eventually("a problem", func(s nodeagent.State) bool { return len(s.Problems) == 1 }).Problems[0], "want true or false")

	// A deleted node drains. The Watcher does not fail, because the node existed before.
	server.Delete(node("n3", nil))
	s = r.answers(9707, "up drain # node is gone")
	require.Empty(t, s.Problems)
	server.Set(node("n3", nil))
	r.answers(9707, "up ready")

	r.stop()
	require.ErrorIs(t, <-r.ended, context.Canceled)
	r.ended <- nil
}

func lines(s nodeagent.State) []string {
	var lines []string
	for _, a := range s.Answers {
		lines = append(lines, fmt.Sprint(a.Port, " ", a.Reply))
	}
	return lines
}

func TestWatcherWaitsForOthers(t *testing.T) {
	server := cluster(t, 10)
	excluded := func(n *corev1.Node) { n.Labels[nodeselect.ExcludeLabel] = "" }
	server.Set(node("n7", excluded), node("n8", excluded), node("n9", excluded))
	rules := nodeagent.Rules{Node: "n0", MaxDrain: 0.2, HoldDown: -1}
	rules.Signals = append(nodeagent.DefaultSignals(nodeselect.Annotations{}), nodeagent.Labelled("example.com/repair"))
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: rules})
	require.Equal(t, nodeagent.DrainStatus{Limit: 1, Total: 7}, r.answers(9707, "up ready").Drain)

	repair := func(n *corev1.Node) { n.Labels["example.com/repair"] = "disk" }
	server.Set(node("n5", repair))
	r.eventually("another drains", func(s nodeagent.State) bool { return s.Drain.Draining == 1 })
	server.Set(node("n0", func(n *corev1.Node) { cordon(n, time.Now().Add(time.Minute)) }))
	s := r.answers(9707, "up ready # cordoned; waits: 1 of 7 nodes drains, no more than 1 may (20%)")
	require.Equal(t, 1, s.Drain.Waiting)

	// With four more nodes, two may drain. The Watcher counts the nodes again from time to time.
	for i := range 4 {
		server.Set(node(fmt.Sprint("new", i), nil))
	}
	server.Set(node("n6", func(n *corev1.Node) { cordon(n, time.Now().Add(2*time.Minute)) })) // makes the Watcher count the nodes
	r.eventually("the drain, and all nodes counted", func(s nodeagent.State) bool {
		return s.Answers != nil && s.Node().String() == "up drain # cordoned" && s.Drain.Total == 11
	})

	server.Set(node("n5", nil))
	r.eventually("n6 drains instead of n5", func(s nodeagent.State) bool { return s.Drain.Draining == 2 && s.Drain.Waiting == 0 })
	server.Set(node("n0", nil))
	r.answers(9707, "up ready")
}

// If the API server loses all its nodes, none of them drains. A single deleted node drains as soon
// as the Watcher has counted the others again, even if the last count was long ago.
func TestWatcherAfterTheStoreLosesAllNodes(t *testing.T) {
	server := cluster(t, 10)
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n0", HoldDown: -1}, CountInterval: time.Hour})
	r.answers(9707, "up ready")
	server.Forget("nodes")
	r.answers(9707, "up ready # node is gone; waits: 10 of 10 nodes are gone, no more than 3 are believed at once (30%)")
	for i := range 10 {
		server.Set(node(fmt.Sprint("n", i), nil))
	}
	r.answers(9707, "up ready")
	server.Delete(node("n0", nil))
	r.answers(9707, "up drain # node is gone")

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states[:len(r.states)-1] {
		require.Equal(t, agentcheck.Ready, s.Node().Admin, "%+v", s)
	}
}

// The requests to the API server and its responses do not grow with the number of nodes.
func TestWatcherLoadsTheAPIServerLittle(t *testing.T) {
	server := cluster(t, 300)
	server.NoStreamedLists()
	server.Set(service("tracks", agentPort("9801", "50"), 30001))
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n3"}})
	require.Equal(t, 300, r.answers(9801, "up ready 50%").Drain.Total)
	server.Expire() // the Watcher lists everything again
	server.Set(service("tracks", agentPort("9801", "60"), 30001))
	r.answers(9801, "up ready 60%")

	counts := map[string]int{}
	for _, q := range server.Requests() {
		selector := strings.Join(append(q.Query["fieldSelector"], q.Query["labelSelector"]...), " ")
		if q.Resource == "nodes" && selector == "" {
			require.Equal(t, "list", q.Verb)
			require.Equal(t, []string{"1"}, q.Query["limit"])
			require.Empty(t, q.Query["resourceVersion"], "a cached list has no limit")
		}
		counts[q.Resource+" "+selector]++
	}
	require.Len(t, counts, 5, counts)
	for _, want := range []string{
		"nodes metadata.name=n3", "nodes spec.unschedulable=true", "nodes " + nodeselect.ExcludeLabel, "nodes ",
		"services spec.type!=ClusterIP,spec.type!=ExternalName",
	} {
		require.NotZero(t, counts[want], "%s: %v", want, counts)
	}
}

func TestWatcherWithoutTheAPIServer(t *testing.T) {
	server := cluster(t, 3)
	server.Set(service("tracks", agentPort("9801", "50"), 30001))
	file := filepath.Join(t.TempDir(), "drain")
	r := watch(t, &nodeagent.Watcher{
		Config: server.Config(), Files: []string{file},
		Rules: nodeagent.Rules{Node: "n0", MaxDrain: 0.7, HoldDown: 300 * time.Millisecond},
	})
	r.answers(9801, "up ready 50%")

	server.Down()
	s := r.eventually("an error", func(s nodeagent.State) bool {
		return s.Err != nil && strings.Contains(s.Err.Error(), "connection refused")
	})
	require.ErrorContains(t, s.Err, "the last good state stays in force")
	require.ErrorContains(t, s.Err, "since ")
	require.Equal(t, []string{"9707 up ready", "9801 up ready 50%"}, lines(s))

	// Files and hold-downs work without the API server.
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.answers(9707, "up drain # file "+file)
	require.NoError(t, os.Remove(file))
	r.answers(9707, "up ready")
	require.Contains(t, r.told(9707), "up drain # file "+file+"; no more, held for 300ms")

	// When the API server is back, the Watcher sees the changes.
	server.Set(service("tracks", agentPort("9801", "60"), 30001), node("n0", cordoned))
	server.Set(service("waves", agentPort("9802", "1"), 30002))
	server.Up()
	s = r.eventually("contact", func(s nodeagent.State) bool { return s.Err == nil && len(s.Answers) == 3 && s.Drain.Effective })
	require.Equal(t, []string{"9707 up drain # cordoned", "9801 up drain 60% # cordoned", "9802 up drain 1% # cordoned"}, lines(s))
}

func TestWatcherWaitsForTheServer(t *testing.T) {
	server := cluster(t, 3)
	server.Down()
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n0"}})
	s := r.eventually("an error", func(s nodeagent.State) bool { return s.Err != nil })
	require.ErrorContains(t, s.Err, "no state yet")
	require.Nil(t, s.Answers)
	require.Zero(t, r.LastContact())
	server.Up()
	require.NoError(t, r.eventually("a state", func(s nodeagent.State) bool { return s.Answers != nil && s.Err == nil }).Err)
}

func TestWatcherReportsARefusal(t *testing.T) {
	server := cluster(t, 3)
	server.Refuse("list", http.StatusForbidden)
	server.Refuse("watch", http.StatusForbidden)
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n0"}})
	s := r.eventually("an error", func(s nodeagent.State) bool { return s.Err != nil })
	require.ErrorContains(t, s.Err, "is refused with 403")
	server.Refuse("watch", 0)
	server.Refuse("list", 0)
	r.answers(9707, "up ready")
}

func TestWatcherFails(t *testing.T) {
	server := cluster(t, 3)
	broken := errors.New("broken")
	tests := []struct {
		name    string
		watcher *nodeagent.Watcher
		is      error
		want    string
	}{
		{"a node that never existed", &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n9"}}, nodeagent.ErrNoNode, `"n9"; the cluster has 3 others`},
		{"no node", &nodeagent.Watcher{Config: server.Config()}, nil, "Node is empty"},
		{"no cluster", &nodeagent.Watcher{Rules: nodeagent.Rules{Node: "n9"}}, nil, "neither Config nor Objects"},
		{"a bad configuration", &nodeagent.Watcher{Config: &rest.Config{Host: "http://[::1"}, Rules: nodeagent.Rules{Node: "n9"}}, nil, "host"},
		{"objects that fail", &nodeagent.Watcher{
			Rules:   nodeagent.Rules{Node: "n9"},
			Objects: func(context.Context, func(nodeselect.Objects, []nodeselect.Problem)) error { return broken },
		}, broken, "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.watcher.Run(t.Context(), func(s nodeagent.State) { t.Errorf("unexpected state %+v", s) })
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
}

func TestWatcherOfObjects(t *testing.T) {
	type seen struct {
		objects  nodeselect.Objects
		problems []nodeselect.Problem
	}
	feed := make(chan seen)
	r := watch(t, &nodeagent.Watcher{
		Rules: nodeagent.Rules{Node: "a", HoldDown: -1},
		Objects: func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error {
			for {
				select {
				case s := <-feed:
					changed(s.objects, s.problems)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	})
	nodes := func(change func(*corev1.Node)) nodeselect.Objects {
		return nodeselect.NewObjects([]*corev1.Node{node("a", change), node("b", nil)}, nil)
	}
	feed <- seen{objects: nodes(nil), problems: []nodeselect.Problem{{File: "x.yaml", Message: "odd"}}}
	require.ErrorContains(t, r.answers(9707, "up ready").Problems[0], "x.yaml: odd")
	feed <- seen{objects: nodes(cordoned)}
	require.Empty(t, r.answers(9707, "up drain # cordoned").Problems)

	// A request that does not come from objects.
	feed <- seen{objects: nodes(nil)}
	r.answers(9707, "up ready")
	r.SetRequests(nodeagent.DrainRequest{Reason: "maintenance", Since: time.Now()})
	r.answers(9707, "up drain # maintenance")
	r.SetRequests()
	r.answers(9707, "up ready")
}

// A hold-down ends although the cluster does not change.
func TestWatcherEndsAHoldDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var states []nodeagent.State
		w := nodeagent.Watcher{Rules: nodeagent.Rules{Node: "a"}}
		w.Objects = func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error {
			changed(nodeselect.NewObjects([]*corev1.Node{node("a", cordoned), node("b", nil)}, nil), nil)
			<-time.After(time.Minute)
			changed(nodeselect.NewObjects([]*corev1.Node{node("a", nil), node("b", nil)}, nil), nil)
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, w.Run(ctx, func(s nodeagent.State) { states = append(states, s) }), context.DeadlineExceeded)
		require.Len(t, states, 3)
		require.Equal(t, "up drain # cordoned", states[0].Node().String())
		require.Equal(t, "up drain # cordoned; no more, held for 10s", states[1].Node().String())
		require.Equal(t, states[1].Drain.HeldUntil.Sub(began).Round(time.Second), time.Minute+10*time.Second)
		require.Equal(t, "up ready", states[2].Node().String())
	})
}

// An old API server cannot select Services by type. The Watcher then reads all Services.
func TestWatcherOfAnOldServer(t *testing.T) {
	served := cluster(t, 3)
	served.Set(
		service("tracks", agentPort("9801", "50"), 30001),
		typed(service("inside", agentPort("9803", "70")), corev1.ServiceTypeClusterIP),
	)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Query().Get("fieldSelector"), "spec.type") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,"message":"field label not supported: spec.type"}`)
			return
		}
		served.ServeHTTP(w, r)
	}))
	t.Cleanup(old.Close)
	t.Cleanup(served.Disconnect)
	r := watch(t, &nodeagent.Watcher{Config: &rest.Config{Host: old.URL}, Rules: nodeagent.Rules{Node: "n0"}})
	s := r.answers(9801, "up ready 50%")
	r.eventually("contact", func(s nodeagent.State) bool { return s.Err == nil })
	require.Len(t, s.Answers, 2)
}

// The Watcher reports no state for changes that do not change an answer.
func TestWatcherIsQuiet(t *testing.T) {
	server := cluster(t, 3)
	r := watch(t, &nodeagent.Watcher{Config: server.Config(), Rules: nodeagent.Rules{Node: "n0"}})
	r.answers(9707, "up ready")
	for i := range 20 {
		server.Set(node("n0", func(n *corev1.Node) { n.Annotations["heartbeat"] = fmt.Sprint(i) }))
	}
	server.Set(service("plain", nil, 30007))
	server.Set(service("tracks", agentPort("9801", "50"), 30001))
	r.answers(9801, "up ready 50%")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(t, r.states, 2, "%+v", r.states)
}
