// Package hashring_test compares headgate's hashring with the usual form of rendezvous hashing,
// with other libraries, and with a bare scan of digests. It is in a module of its own, so that
// importers of headgate do not inherit the libraries.
//
//	go test -run '^$' -bench . -count 10 ./hashring | tee new.txt
//	benchstat -col /way new.txt
//
// Each benchmark also reports how even its choice is. "load" is the standard deviation of the load
// on nodes, divided by the same value for random draws. "overlap" is the variance of the number of
// nodes that two subsets share, divided by the same value for independent random draws. The ideal
// value of both is 1.
package hashring_test

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	"github.com/headgate/headgate/hashring"
	serialx "github.com/serialx/hashring"
)

// picker writes the names of the k nodes for a key into dst[:0] and returns it.
type picker func(dst []string, key string, k int) []string

var ways = []struct {
	name string
	make func(b *testing.B, names []string) picker
}{
	{"AppendTop", func(b *testing.B, names []string) picker {
		r := ring(b, names)
		nodes := make([]hashring.Node, 0, 64)
		return func(dst []string, key string, k int) []string {
			nodes = r.AppendTop(nodes[:0], key, k)
			dst = dst[:0]
			for i := range nodes {
				dst = append(dst, nodes[i].Name)
			}
			return dst
		}
	}},
	{"Top", func(b *testing.B, names []string) picker {
		r := ring(b, names)
		return func(dst []string, key string, k int) []string {
			dst = dst[:0]
			for _, n := range r.Top(key, k) {
				dst = append(dst, n.Name)
			}
			return dst
		}
	}},
	// Hash each pair of key and node, and sort.
	{"naive", func(b *testing.B, names []string) picker {
		type scored struct {
			score uint64
			name  string
		}
		return func(dst []string, key string, k int) []string {
			all := make([]scored, len(names))
			for i, name := range names {
				all[i] = scored{xxhash.Sum64String(key + "\x00" + name), name}
			}
			slices.SortFunc(all, func(a, b scored) int {
				if a.score < b.score {
					return -1
				}
				return 1
			})
			dst = dst[:0]
			for _, s := range all[:k] {
				dst = append(dst, s.name)
			}
			return dst
		}
	}},
	{"buraksezer", func(b *testing.B, names []string) picker {
		members := make([]consistent.Member, len(names))
		for i, name := range names {
			members[i] = member(name)
		}
		// PartitionCount is a prime well above the number of nodes. The library's documentation
		// recommends the other values.
		c := consistent.New(members, consistent.Config{PartitionCount: 20011, ReplicationFactor: 20, Load: 1.25, Hasher: hasher{}})
		return func(dst []string, key string, k int) []string {
			members, err := c.GetClosestN([]byte(key), k)
			if err != nil {
				b.Fatal(err)
			}
			dst = dst[:0]
			for _, m := range members {
				dst = append(dst, m.String())
			}
			return dst
		}
	}},
	// Each node has 20 virtual nodes. The default of the library is 1.
	{"serialx", func(b *testing.B, names []string) picker {
		weights := map[string]int{}
		for _, name := range names {
			weights[name] = 20
		}
		r := serialx.NewWithWeights(weights)
		return func(_ []string, key string, k int) []string {
			nodes, ok := r.GetNodes(key, k)
			if !ok {
				b.Fatal("no nodes")
			}
			return nodes
		}
	}},
}

type member string

func (m member) String() string { return string(m) }

type hasher struct{}

func (hasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

func ring(b *testing.B, names []string) *hashring.Ring {
	nodes := make([]hashring.Node, len(names))
	for i, name := range names {
		nodes[i].Name = name
	}
	r, err := hashring.New(nodes...)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

var sizes = []struct{ nodes, k int }{{1000, 20}, {100, 10}, {5000, 10}}

func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
	}
	return names
}

// keys returns many keys, so the branch predictor cannot learn their outcomes.
func keys() []string {
	keys := make([]string, 1<<14)
	for i := range keys {
		keys[i] = fmt.Sprintf("namespace-%d/service-%d", i%37, i)
	}
	return keys
}

func BenchmarkPick(b *testing.B) {
	keys := keys()
	for _, size := range sizes {
		names := nodeNames(size.nodes)
		for _, way := range ways {
			b.Run(fmt.Sprintf("nodes=%d/k=%d/way=%s", size.nodes, size.k, way.name), func(b *testing.B) {
				pick := way.make(b, names)
				load, overlap := evenness(pick, names, keys[:500], size.k)
				dst := make([]string, 0, 64)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					dst = pick(dst, keys[i%len(keys)], size.k)
				}
				if len(dst) != size.k {
					b.Fatalf("picked %d of %d", len(dst), size.k)
				}
				b.ReportMetric(load, "load")
				b.ReportMetric(overlap, "overlap")
			})
		}
		b.Run(fmt.Sprintf("nodes=%d/k=%d/way=scan", size.nodes, size.k), func(b *testing.B) {
			digests := make([]uint64, size.nodes)
			for i := range digests {
				digests[i] = xxhash.Sum64String(names[i])
			}
			b.ReportAllocs()
			var sum uint64
			for i := 0; b.Loop(); i++ {
				key := xxhash.Sum64String(keys[i%len(keys)])
				for _, d := range digests {
					hi, lo := bits.Mul64(d, key)
					sum += hi ^ lo
				}
			}
			sink = sum
		})
	}
}

var sink uint64

// evenness returns the ratios load and overlap of the package comment.
func evenness(pick picker, names, keys []string, k int) (load, overlap float64) {
	n := len(names)
	index := make(map[string]int, n)
	for i, name := range names {
		index[name] = i
	}
	loads := make([]int, n)
	shared := map[[2]int]int{} // number of services that use both nodes of a pair
	var dst []string
	for _, key := range keys {
		dst = pick(dst, key, k)
		for i, a := range dst {
			loads[index[a]]++
			for _, b := range dst[:i] {
				x, y := index[a], index[b]
				shared[[2]int{min(x, y), max(x, y)}]++
			}
		}
	}
	p, services := float64(k)/float64(n), float64(len(keys))
	var deviation, sum, squares float64
	for _, l := range loads {
		deviation += (float64(l) - services*p) * (float64(l) - services*p)
		sum += float64(l) * float64(l-1)
	}
	squares = sum
	for _, c := range shared {
		squares += 2 * float64(c) * float64(c-1)
	}
	pairs := services * (services - 1)
	variance := squares/pairs - (sum/pairs)*(sum/pairs)
	return math.Sqrt(deviation/float64(n)) / math.Sqrt(services*p*(1-p)),
		variance / (float64(k) * p * (1 - p) * float64(n-k) / float64(n-1))
}
