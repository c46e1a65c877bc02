package nodeagent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/nodeselect"
)

func TestWeightThatFalls(t *testing.T) {
	const held = " # weight falls to 0, held for 2.5s"
	drained := func(weight string) map[string]string {
		a := agentPort("9801", weight)
		a["headgate.dev/drain"] = "true"
		return a
	}
	type step struct {
		at          float64 // seconds
		annotations map[string]string
		cordoned    bool
		want        string  // "" for no answer
		next        float64 // seconds, 0 for none
	}
	weight := func(w string) map[string]string { return agentPort("9801", w) }
	tests := []struct {
		name  string
		delay time.Duration
		steps []step
	}{
		{"0 from the start", 0, []step{
			{0, weight("0"), false, "up ready 0%", 0},
			{1, weight("70"), false, "up ready 70%", 0},
		}},
		{"falls", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{10, weight("0"), false, "up ready 100%" + held, 12.5},
			{12.4, weight("0"), false, "up ready 100%" + held, 12.5},
			{12.5, weight("0"), false, "up ready 0%", 0},
			{13, weight("0"), false, "up ready 0%", 0},
		}},
		{"falls in steps", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("50"), false, "up ready 50%", 0},
			{2, weight("0"), false, "up ready 50%" + held, 4.5},
			{9, weight("0"), false, "up ready 0%", 0},
		}},
		{"rises again", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("0"), false, "up ready 100%" + held, 3.5},
			{2, weight("20"), false, "up ready 20%", 0},
			{4, weight("0"), false, "up ready 20%" + held, 6.5}, // the whole delay again
			{6.5, weight("0"), false, "up ready 0%", 0},
			{7, weight("30"), false, "up ready 30%", 0},
			{8, weight("0"), false, "up ready 30%" + held, 10.5},
		}},
		{"the node drains during the delay", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("0"), true, "up drain 100% # cordoned", 3.5},
			{3.5, weight("0"), true, "up drain 0% # cordoned", 0},
		}},
		{"the service drains during the delay", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, drained("0"), false, "up drain 100% # service is annotated", 3.5},
			{2, weight("0"), false, "up ready 100%" + held, 3.5},
			{4, drained("0"), false, "up drain 0% # service is annotated", 0},
		}},
		{"no agent port during the delay", 0, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("0"), false, "up ready 100%" + held, 3.5},
			{2, nil, false, "", 0},
			{3, weight("0"), false, "up ready 0%", 0},
		}},
		{"an invalid weight counts as 100%", 0, []step{
			{0, weight("none"), false, "up ready 100%", 0},
			{1, weight("0"), false, "up ready 100%" + held, 3.5},
		}},
		{"another delay", time.Second, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("0"), false, "up ready 100% # weight falls to 0, held for 1s", 2},
			{2, weight("0"), false, "up ready 0%", 0},
		}},
		{"no delay", -1, []step{
			{0, weight("100"), false, "up ready 100%", 0},
			{1, weight("0"), false, "up ready 0%", 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracker := nodeagent.Tracker{Rules: nodeagent.Rules{Node: "a", HoldDown: -1, ZeroWeightDelay: tt.delay}}
			at := func(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }
			for _, s := range tt.steps {
				n := node("a", func(n *corev1.Node) { n.Spec.Unschedulable = s.cordoned })
				services := []*corev1.Service{service("tracks", s.annotations, 30001), service("waves", agentPort("9802", "0"), 30002)}
				state, err := tracker.State(at(s.at), nodeselect.NewObjects([]*corev1.Node{n, node("b", nil)}, services))
				require.NoError(t, err)
				got := ""
				for _, a := range state.Answers {
					if a.Service == "media/tracks" {
						got = a.Reply.String()
					}
				}
				require.Equal(t, s.want, got, "at %v", s.at)
				next := time.Time{}
				if s.next != 0 {
					next = at(s.next)
				}
				require.Equal(t, next, tracker.Next(), "at %v", s.at)
			}
		})
	}
}

// The delay ends although the cluster does not change.
func TestWatcherEndsTheDelayOfAWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type told struct {
			after  time.Duration
			answer string
		}
		var all []told
		began := time.Now()
		w := nodeagent.Watcher{Rules: nodeagent.Rules{Node: "a"}}
		w.Objects = func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error {
			for _, weight := range []string{"50", "0"} {
				changed(nodeselect.NewObjects([]*corev1.Node{node("a", nil)}, []*corev1.Service{service("tracks", agentPort("9801", weight))}), nil)
				<-time.After(time.Minute)
			}
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, w.Run(ctx, func(s nodeagent.State) {
			all = append(all, told{time.Since(began).Truncate(time.Second / 2), s.Answers[1].Reply.String()})
		}), context.DeadlineExceeded)
		require.Equal(t, []told{
			{0, "up ready 50%"},
			{time.Minute, "up ready 50% # weight falls to 0, held for 2.5s"},
			{time.Minute + nodeagent.DefaultZeroWeightDelay, "up ready 0%"},
		}, all)
	})
}

// TestWeightsSwap moves a Service from one cluster to another. It first annotates the weight that
// falls, and a moment later the weight that rises. Like HAProxy, it checks one agent in each
// cluster once in each interval, at different moments. With the delay, HAProxy has a weight above 0
// for at least one cluster at all times. Without the delay, there are times with no such weight.
func TestWeightsSwap(t *testing.T) {
	const (
		tick     = 200 * time.Millisecond
		interval = 2 * time.Second // the default agent-inter
		between  = 2 * tick        // the two annotations
	)
	type agent struct {
		tracker nodeagent.Tracker
		asked   time.Duration // time of the first check
		changes time.Duration // time of the new annotation
		weights [2]string     // before and after
		known   int           // the weight that HAProxy knows
	}
	gap := func(t *testing.T, delay, falling, rising time.Duration) (gap time.Duration) {
		agents := []*agent{
			{asked: falling, weights: [2]string{"100", "0"}, known: 100},
			{asked: rising, weights: [2]string{"0", "100"}, changes: between},
		}
		for _, a := range agents {
			a.tracker.Rules = nodeagent.Rules{Node: "a", ZeroWeightDelay: delay}
			a.changes += interval
		}
		for at := time.Duration(0); at < 5*interval; at += tick {
			weight := 0
			for _, a := range agents {
				annotated := a.weights[0]
				if at >= a.changes {
					annotated = a.weights[1]
				}
				objects := nodeselect.NewObjects([]*corev1.Node{node("a", nil)}, []*corev1.Service{service("tracks", agentPort("9801", annotated))})
				state, err := a.tracker.State(noon.Add(at), objects)
				require.NoError(t, err)
				if at >= a.asked && (at-a.asked)%interval == 0 {
					a.known = state.Answers[1].Reply.Weight.Effective(100, a.known)
				}
				weight += a.known
			}
			if weight == 0 {
				gap += tick
			}
		}
		require.Equal(t, []int{0, 100}, []int{agents[0].known, agents[1].known})
		return gap
	}
	longest := map[time.Duration]time.Duration{}
	for _, delay := range []time.Duration{-1, 0} {
		for falling := time.Duration(0); falling < interval; falling += tick {
			for rising := time.Duration(0); rising < interval; rising += tick {
				longest[delay] = max(longest[delay], gap(t, delay, falling, rising))
			}
		}
	}
	require.Zero(t, longest[0])
	require.Positive(t, longest[-1])
}
