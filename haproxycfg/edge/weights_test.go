package edge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func serverWeights(shares []share) []int {
	weights := make([]int, len(shares))
	setWeights(weights, shares)
	return weights
}

func TestServerWeights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shares []share
		want   []int
	}{
		{"none", nil, []int{}},
		{"alone", []share{{1, 20}}, []int{100}},
		{"alone, without servers", []share{{7, 0}}, []int{100}},
		{"alone, nothing", []share{{0, 20}}, []int{haproxycfg.NoTraffic}},
		{"even", []share{{100, 20}, {100, 20}}, []int{100, 100}},
		{"half", []share{{100, 20}, {50, 20}}, []int{100, 50}},
		{"other sizes", []share{{100, 20}, {100, 10}}, []int{50, 100}},
		{"one is off", []share{{100, 20}, {0, 20}, {50, 20}}, []int{100, haproxycfg.NoTraffic, 50}},
		{"one has no servers", []share{{100, 20}, {100, 0}}, []int{100, 100}},
		{"thirds", []share{{1, 20}, {2, 20}}, []int{50, 100}},
		{"no weight 1 if it can be avoided", []share{{100, 20}, {1, 20}}, []int{200, 2}},
		{"beyond what integers hold", []share{{256, 1}, {1, 256}}, []int{256, 1}},
		{"canary", []share{{97, 20}, {3, 20}}, []int{97 * 2, 3 * 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, serverWeights(tt.shares))
		})
	}
}

func TestSpreadWeights(t *testing.T) {
	const port = 30080
	of := func(weights ...int) *service {
		u := Upstream{NodePort: port}
		for i, w := range weights {
			u.Nodes = append(u.Nodes, Node{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Weight: w})
		}
		s := &service{weights: u.weights()}
		for _, n := range u.Nodes {
			s.addrs = append(s.addrs, netip.AddrPortFrom(n.Addr, port))
		}
		return s
	}
	off := haproxycfg.NoTraffic
	for _, tt := range []struct {
		name     string
		weights  []int // of the servers of each service
		services []*service
		want     [][]int
	}{
		{"no weights", []int{100}, []*service{of(0, 0)}, nil},
		{"equal weights", []int{100}, []*service{of(3, 3)}, nil},
		{"unknown service", []int{100}, []*service{nil}, nil},
		{"3 to 1", []int{100}, []*service{of(3, 1)}, [][]int{{150, 50}}},
		{"0 means 1", []int{100}, []*service{of(3, 0)}, [][]int{{150, 50}}},
		{"too large", []int{100}, []*service{of(1, 1, 1, 9)}, [][]int{{28, 28, 28, 256}}},
		{"two services", []int{100, 50}, []*service{of(3, 1), of(0, 0)}, [][]int{{150, 50}, {50, 50}}},
		{"two services, too large", []int{200, 100}, []*service{of(3, 1), of(0)}, [][]int{{256, 85}, {85}}},
		{"no traffic", []int{100, off}, []*service{of(3, 1), of(3, 1)}, [][]int{{150, 50}, {off, off}}},
		{"no weight becomes 1", []int{100}, []*service{of(255, 1, 255)}, [][]int{{150, 2, 150}}},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, spreadWeights(tt.weights, tt.services)) })
	}
}

// TestServerWeightsBound uses random weights and numbers of servers. The error must stay within the
// bound that the comment of setWeights names.
func TestServerWeightsBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ordinary, worst := 0, 0.0
	for range 20000 {
		shares := make([]share, 1+rng.IntN(5))
		for i := range shares {
			shares[i] = share{rng.IntN(257), rng.IntN(30)}
		}
		weights := serverWeights(shares)
		var active []int
		for i, s := range shares {
			if s.weight == 0 && weights[i] != haproxycfg.NoTraffic || s.weight > 0 && (weights[i] < 1 || weights[i] > maxWeight) {
				t.Fatalf("weight %d of %v is %d", i, shares, weights[i])
			}
			if s.weight > 0 && s.servers > 0 {
				active = append(active, i)
			}
		}
		if len(active) < 2 {
			continue
		}
		top, exactMax := 0, 0.0
		for _, i := range active {
			top = max(top, weights[i])
			exactMax = max(exactMax, float64(shares[i].weight)/float64(shares[i].servers))
		}
		least, off := math.Inf(1), 0.0 // the smallest exact weight, and the largest error of a share
		declared, got := 0.0, 0.0
		for _, i := range active {
			exact := float64(top) * float64(shares[i].weight) / float64(shares[i].servers) / exactMax
			least = min(least, exact)
			switch {
			case exact >= 1 && math.Abs(float64(weights[i])-exact) > 0.5+1e-9:
				t.Fatalf("%v: weight %d of %v is not %f, rounded", shares, i, weights, exact)
			case exact < 1 && weights[i] != 1:
				t.Fatalf("%v: weight %d of %v is not 1: a positive share has a positive weight", shares, i, weights)
			}
			declared += float64(shares[i].weight)
			got += float64(weights[i] * shares[i].servers)
		}
		for _, i := range active {
			ratio := float64(weights[i]*shares[i].servers) / got / (float64(shares[i].weight) / declared)
			off = max(off, ratio-1, 1/ratio-1)
		}
		if least >= 1 {
			d := 1 / (2 * least)
			if off > (1+d)/(1-d)-1+1e-9 {
				t.Fatalf("%v: a share of %v is off by %f", shares, weights, off)
			}
		}
		if least >= 12.8 { // each server gets at least a twentieth of the requests of any other
			ordinary++
			worst = max(worst, off)
		}
	}
	require.Greater(t, ordinary, 5000)
	require.Less(t, worst, 0.03, "in all cases without extreme ratios")
}

func TestServerWeightsHaveRoomForAgents(t *testing.T) {
	for w := 1; w <= 256; w++ {
		weights := serverWeights([]share{{256, 20}, {w, 20}})
		require.GreaterOrEqual(t, weights[1], 1)
		require.False(t, weights[1] == 1 && w > 1, fmt.Sprint(w, weights))
	}
}
