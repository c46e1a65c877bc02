package protector_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/internal/testscale"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protector"
)

const (
	karpenterKey  = "karpenter.sh/do-not-disrupt"
	karpenterMark = "headgate.dev/protected-from-karpenter"
	kuredWanted   = "weave.works/kured-reboot-in-progress"
)

// The method "free" returns the nodes without the annotation that keeps Karpenter away.
func (c *cluster) free() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range len(c.node) {
		if n := c.node[name(i)]; n != nil && n.Annotations[karpenterKey] != "true" {
			names = append(names, n.Name)
		}
	}
	return names
}

func karpenter(c *cluster) *protector.Protector {
	return &protector.Protector{Keeper: c.keeper(), Tool: protector.Karpenter(nodes{c: c}), Holder: "protect-karpenter"}
}

func step(t *testing.T, p *protector.Protector) protector.Status {
	t.Helper()
	status, err := p.Step(t.Context())
	require.NoError(t, err)
	return status
}

func TestKarpenterMayTakeOneWaveAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(6)
		p := karpenter(c)
		require.Equal(t, protector.Status{Objects: 6, Free: 3}, step(t, p))
		require.Equal(t, []string{"n00", "n02", "n04"}, c.free())
		time.Sleep(protect.DefaultFree)
		step(t, p)
		require.Empty(t, c.free(), "the time of the first wave is over")
		answer, err := c.keeper().May(t.Context(), "n01")
		require.NoError(t, err)
		require.False(t, answer.OK, "Karpenter may have decided to take n00")
		time.Sleep(protect.DefaultSettle)
		step(t, p)
		step(t, p)
		step(t, p)
		require.Equal(t, []string{"n01", "n03", "n05"}, c.free())
	})
}

func TestMostLimitsTheFreeNodes(t *testing.T) {
	c := newCluster(8)
	p := karpenter(c)
	p.Settings.Most = 2
	step(t, p)
	require.Equal(t, []string{"n00", "n02"}, c.free())
}

func TestAnUnusedNodeIsFreeWithoutAGrant(t *testing.T) {
	c := newCluster(4)
	c.add("n04")
	step(t, karpenter(c))
	require.Equal(t, []string{"n00", "n02", "n04"}, c.free())
	grants, err := c.keeper().Refresh(t.Context())
	require.NoError(t, err)
	require.Len(t, grants, 2)
}

func TestNothingIsFreeWithoutAReport(t *testing.T) {
	c := newCluster(6)
	p := karpenter(c)
	step(t, p)
	c.change(func() { c.report = errors.New("edge: no answer") })
	_, err := p.Step(t.Context())
	require.ErrorContains(t, err, "no answer")
	require.Empty(t, c.free())
	c.change(func() { c.report = nil })
	step(t, p)
	require.Equal(t, []string{"n00", "n02", "n04"}, c.free(), "the grants are still there")
}

func TestRunProtectsAllNodesAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(6)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		steps := make(chan protector.Status, 100)
		go func() {
			done <- karpenter(c).Run(ctx, 10*time.Second, func(s protector.Status, _ error) { steps <- s })
		}()
		require.Equal(t, 3, (<-steps).Free)
		cancel()
		require.NoError(t, <-done)
		require.Empty(t, c.free())
		answer, err := c.keeper().May(t.Context(), "n01")
		require.NoError(t, err)
		require.False(t, answer.OK, "n00 may be about to go")
	})
}

func TestTheProtectionOfSomebodyElseStays(t *testing.T) {
	c := newCluster(4)
	c.annotate("n00", karpenterKey, "true")
	c.annotate("n01", karpenterKey, "false")
	p := karpenter(c)
	step(t, p)
	require.Equal(t, []string{"n01", "n03"}, c.free(), "n00 gets no grant")
	require.Empty(t, c.annotation("n00", karpenterMark))
	require.NoError(t, p.Remove(t.Context()))
	require.Equal(t, []string{"n01", "n02", "n03"}, c.free())
	require.Equal(t, "true", c.annotation("n00", karpenterKey))
	grants, err := c.keeper().Refresh(t.Context())
	require.NoError(t, err)
	require.Empty(t, grants)
}

func TestAnotherWriterWins(t *testing.T) {
	c := newCluster(2)
	tool := protector.Karpenter(nodes{c: c})
	subjects, err := tool.List(t.Context())
	require.NoError(t, err)
	c.annotate("n00", karpenterKey, "true")
	require.Error(t, tool.Protect(t.Context(), subjects[0]))
	require.Empty(t, c.annotation("n00", karpenterMark))
}

func TestDryRunChangesNothing(t *testing.T) {
	c := newCluster(4)
	p := karpenter(c)
	p.DryRun = true
	var mu sync.Mutex
	actions := map[string]protector.Action{}
	p.Event = func(e protector.Event) {
		mu.Lock()
		defer mu.Unlock()
		actions[e.Node] = e.Action
	}
	step(t, p)
	require.Equal(t, map[string]protector.Action{"n01": protector.Protect, "n03": protector.Protect}, actions)
	require.Len(t, c.free(), 4)
	grants, err := c.keeper().Refresh(t.Context())
	require.NoError(t, err)
	require.Empty(t, grants)
}

// TestNoServiceLosesMoreThanItsLimit runs Karpenter, a script that asks for nodes, and Protectors
// that end at any time. Karpenter takes a node up to 100 s after it has seen that the node is free.
// Two neighbours must never be away at the same time, because one service runs on both of them.
func TestNoServiceLosesMoreThanItsLimit(t *testing.T) {
	for seed := range testscale.Of(1) {
		synctest.Test(t, func(t *testing.T) {
			const n = 12
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			c := newCluster(n)
			p := karpenter(c)
			step(t, p)
			chosen := map[int]time.Time{} // the tool takes the node at this time
			away := map[int]time.Time{}   // the node returns at this time
			script := map[int]bool{}      // nodes that the script has taken
			taken := 0
			running := true
			for range 700 {
				time.Sleep(10 * time.Second)
				now := time.Now()
				c.change(func() {
					c.report = nil
					if r.IntN(20) == 0 {
						c.report = errors.New("no answer")
					}
				})
				if r.IntN(30) == 0 {
					running = !running
					p = karpenter(c) // a new process
				}
				p.Settings = protect.Settings{Free: time.Minute, Most: r.IntN(4)}
				if running {
					_, _ = p.Step(t.Context())
				}
				for _, free := range c.free() {
					i := index(free)
					if _, ok := chosen[i]; !ok && away[i].IsZero() && r.IntN(20) == 0 {
						chosen[i] = now.Add(time.Duration(r.IntN(100)) * time.Second)
					}
				}
				if i := r.IntN(n); r.IntN(2) == 0 && away[i].IsZero() {
					if answer, err := c.keeper().Take(t.Context(), "script", time.Hour, name(i)); err == nil && answer.OK {
						chosen[i], script[i] = now, true
					}
				}
				for i, at := range chosen {
					if !now.Before(at) {
						delete(chosen, i)
						away[i] = now.Add(time.Duration(1+r.IntN(10)) * time.Minute)
						taken++
						c.cordon(i, true)
					}
				}
				for i := range n {
					if !away[i].IsZero() && !away[(i+1)%n].IsZero() {
						t.Fatalf("seed %d: %d and its neighbour are away", seed, i)
					}
				}
				for i, at := range away {
					if !at.IsZero() && !now.Before(at) {
						delete(away, i)
						delete(script, i)
						c.cordon(i, false)
					}
				}
			}
			require.Greater(t, taken, 15)
		})
	}
}

func index(node string) int { return int(node[1]-'0')*10 + int(node[2]-'0') }

func (c *cluster) cordon(i int, on bool) {
	c.change(func() {
		n := c.node[name(i)].DeepCopy()
		n.Spec.Unschedulable = on
		c.put(n)
	})
}

func TestKured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(4)
		p := &protector.Protector{Keeper: c.keeper(), Tool: &protector.Kured{Nodes: nodes{c: c}, Pods: pods{c: c}}, Holder: "protect-kured"}
		require.Equal(t, protector.Status{Objects: 4}, step(t, p), "kured wants no node")
		c.annotate("n01", kuredWanted, time.Now().Format(time.RFC3339))
		time.Sleep(time.Minute)
		c.annotate("n00", kuredWanted, time.Now().Format(time.RFC3339))
		require.Equal(t, protector.Status{Objects: 4, Free: 1, Waiting: 1}, step(t, p))
		require.Equal(t, []string{"n00", "n02", "n03"}, c.blocked(), "n01 has waited longest")
		c.cordon(1, true)
		step(t, p)
		require.Equal(t, []string{"n00", "n02", "n03"}, c.blocked())
		c.change(func() { delete(c.node["n01"].Annotations, kuredWanted) })
		c.cordon(1, false)
		step(t, p) // the node is back
		require.Equal(t, []string{"n00", "n01", "n02", "n03"}, c.blocked())
		time.Sleep(protect.DefaultSettle)
		step(t, p) // ends the grant
		step(t, p)
		require.Equal(t, []string{"n01", "n02", "n03"}, c.blocked())
	})
}

// blocked returns the nodes with a pod that matches kured's query.
func (c *cluster) blocked() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range len(c.node) {
		for _, pod := range c.pod {
			if pod.Spec.NodeName == name(i) && pod.Labels["headgate.dev/blocks"] == "kured" && pod.Status.Phase != corev1.PodFailed {
				names = append(names, name(i))
			}
		}
	}
	return names
}

func TestABlockingPodThatHasEndedIsReplaced(t *testing.T) {
	c := newCluster(2)
	p := &protector.Protector{Keeper: c.keeper(), Tool: &protector.Kured{Nodes: nodes{c: c}, Pods: pods{c: c}}, Holder: "protect-kured"}
	step(t, p)
	var uid string
	c.change(func() {
		for _, pod := range c.pod {
			if pod.Spec.NodeName == "n00" {
				pod.Status.Phase, uid = corev1.PodFailed, string(pod.UID)
			}
		}
	})
	require.Equal(t, []string{"n01"}, c.blocked())
	step(t, p)
	require.Equal(t, []string{"n00", "n01"}, c.blocked())
	for _, pod := range c.pod {
		require.NotEqual(t, uid, string(pod.UID))
		require.Equal(t, "Node", pod.OwnerReferences[0].Kind)
	}
	c.change(func() { c.fail = errors.New("no answer") })
	_, err := p.Step(t.Context())
	require.ErrorContains(t, err, "no answer")
}
