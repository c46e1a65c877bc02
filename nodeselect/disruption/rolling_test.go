package disruption_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// rolling is a cluster whose nodes are replaced one after another. Two balancers serve it; one of
// them may lag behind.
type rolling struct {
	t        *testing.T
	random   *rand.Rand
	budget   disruption.Budget
	objects  map[string]*corev1.Node
	away     map[string]bool // nodes that a worker has taken, and that still exist
	services []string
	applied  [2]nodeselect.Subsets
	state    *disruption.State
	made     int // number of nodes so far
	waves    int
}

// newNode adds a node with a new name and a new address.
func (r *rolling) newNode() {
	r.made++
	name := fmt.Sprint("node-", r.made)
	r.objects[name] = &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("zone-", r.made%3)}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.%d.%d.%d", r.made>>16, r.made>>8&255, r.made&255)}}},
	}
}

// apply gives one balancer new subsets of the present nodes.
func (r *rolling) apply(balancer int) {
	var objects []*corev1.Node
	for _, n := range r.objects {
		objects = append(objects, n)
	}
	avoidAway := func(n *corev1.Node, _ time.Time) (nodeselect.Verdict, string) {
		if r.away[n.Name] {
			return nodeselect.Avoid, "away"
		}
		return nodeselect.Eligible, ""
	}
	pool := nodeselect.Selector{Size: 4, Predicates: []nodeselect.Predicate{avoidAway}}.Pool(objects, time.Time{})
	next := nodeselect.Subsets{}
	for _, service := range r.services {
		next[service] = pool.Pick(service, r.applied[balancer][service])
	}
	r.applied[balancer] = next
}

// renew makes a State for the present nodes and configurations.
func (r *rolling) renew() {
	var nodes []nodeselect.Node
	for name, n := range r.objects {
		nodes = append(nodes, nodeselect.Node{Name: name, Zone: n.Labels[corev1.LabelTopologyZone]})
	}
	var err error
	r.state, err = disruption.New(r.budget, nodes, r.applied[:]...)
	require.NoError(r.t, err)
	for name := range r.away {
		r.state.Away(name)
	}
}

// check counts the members of each service that are away or gone.
func (r *rolling) check(doing string) {
	for i, set := range r.applied {
		for service, members := range set {
			missing := 0
			for _, n := range members {
				if r.objects[n.Name] == nil || r.away[n.Name] {
					missing++
				}
			}
			if limit := min(2, len(members)-1); missing > limit {
				r.t.Fatalf("%s: balancer %d: %d of %d members of service %s are away", doing, i, missing, len(members), service)
			}
		}
	}
}

// TestRollingReplacement replaces 10,000 nodes in random order. Workers ask for one node or for a
// wave. Each replaced node comes back with a new name and address, so the subsets change all the
// time. No service ever has more members away than its limit, in the configuration of any balancer.
func TestRollingReplacement(t *testing.T) {
	r := &rolling{t: t, random: rand.New(rand.NewPCG(1, 2)), objects: map[string]*corev1.Node{}, away: map[string]bool{}}
	for range 12 {
		r.newNode()
	}
	for i := range 6 {
		r.services = append(r.services, fmt.Sprint("ns/service-", i))
	}
	r.apply(0)
	r.apply(1)
	r.renew()
	refused := 0
	for replaced := 0; replaced < 10_000; {
		var names []string
		for name := range r.objects {
			names = append(names, name)
		}
		slices.SortFunc(names, strings.Compare) // the order of a map is random
		name := names[r.random.IntN(len(names))]
		// If more nodes were away, the subsets would have to contain nodes that are away already.
		full := len(r.away) >= len(names)-4
		switch op := r.random.IntN(10); {
		case op < 5 && !r.away[name] && !full:
			if r.state.Take(name).OK {
				r.away[name] = true
			} else {
				refused++
			}
			r.check("a node goes")
		case op == 5:
			wave := r.state.Wave(names, 50)
			require.True(t, r.state.May(wave...).OK)
			if len(r.away)+len(wave) > len(names)-4 {
				continue
			}
			require.True(t, r.state.Take(wave...).OK)
			for _, n := range wave {
				r.away[n] = true
			}
			r.waves++
			r.check("a wave goes")
		case op < 8 && r.away[name]:
			delete(r.objects, name)
			delete(r.away, name)
			r.newNode()
			replaced++
			r.renew()
			r.check("a node is replaced")
		case op == 8:
			delete(r.away, name) // it comes back as it was
			r.state.Return(name)
		case op == 9:
			r.apply(r.random.IntN(2))
			r.renew()
			r.check("a balancer applies a configuration")
		}
	}
	require.Greater(t, refused, 1000)
	require.Greater(t, r.waves, 100)
}
