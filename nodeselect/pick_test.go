package nodeselect

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/hashring"
	"github.com/headgate/headgate/internal/manifesttest"
)

// The method "fill" ranks only as many avoided nodes as it needs. The result must be the same as if
// it ranked all avoided nodes.
func TestFillEqualsFullRanking(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		nodes := make([]*corev1.Node, 1+rng.IntN(60))
		avoided := rng.IntN(101) // percent
		for j := range nodes {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", j), Labels: map[string]string{
				corev1.LabelTopologyZone: string(rune('a' + rng.IntN(1+rng.IntN(5)))),
			}}}
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: manifesttest.NodeAddr(j)}}
			if rng.IntN(100) < avoided {
				n.Spec.Taints = []corev1.Taint{{Key: TaintKarpenter}}
			}
			nodes[j] = n
		}
		for _, spread := range []bool{false, true} {
			pool := Selector{Size: 1 + rng.IntN(25), Spread: spread}.Pool(nodes, manifesttest.Epoch)
			key := fmt.Sprint("team/service-", i)
			picked := pool.best(pool.rings[Eligible], nil, key, pool.size)
			// Some avoided nodes have a place already, as the avoided nodes of a current subset do.
			for n := range pool.rings[Avoid].Ranked("other") {
				if len(picked) < pool.size && rng.IntN(4) == 0 {
					picked = append(picked, n)
				}
			}
			if len(picked) == pool.size {
				continue
			}
			in := map[string]bool{}
			for _, n := range picked {
				in[n.Name] = true
			}
			var others []hashring.Node
			for n := range pool.rings[Avoid].Ranked(key) {
				if !in[n.Name] {
					others = append(others, n)
				}
			}
			want := fillPlaces(append([]hashring.Node(nil), picked...), others, pool.size, spread)
			require.Equal(t, want, pool.fill(append([]hashring.Node(nil), picked...), key), "round %d, spread %t", i, spread)
		}
	}
}
