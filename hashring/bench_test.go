package hashring

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// To compare two versions: go test -run '^$' -bench . -count 10 ./hashring | tee new.txt; benchstat
// old.txt new.txt

var benchSizes = []struct{ nodes, k int }{{1000, 20}, {100, 10}, {5000, 10}}

func benchNodes(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), Zone: string(rune('a' + i%3))}
	}
	return nodes
}

// benchKeys returns 2^14 keys. If there were only a few keys, the processor would learn the result
// of each branch for these keys.
func benchKeys() []string {
	keys := make([]string, 1<<14)
	for i := range keys {
		keys[i] = fmt.Sprintf("namespace-%d/service-%d", i%37, i)
	}
	return keys
}

// bench runs the function op for each size. op returns the number of nodes that it picked.
func bench(b *testing.B, weight func(i int) float64, op func(r *Ring) func(key string, k int) int) {
	keys := benchKeys()
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("nodes=%d/k=%d", size.nodes, size.k), func(b *testing.B) {
			nodes := benchNodes(size.nodes)
			for i := range nodes {
				nodes[i].Weight = weight(i)
			}
			op := op(mustNew(b, nodes...))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if n := op(keys[i%len(keys)], size.k); n != size.k {
					b.Fatalf("picked %d of %d", n, size.k)
				}
			}
		})
	}
}

func equalWeights(int) float64 { return 0 }

// coreCounts returns the weights of a fleet with machines of four sizes.
func coreCounts(i int) float64 { return []float64{4, 8, 16, 64}[i%4] }

func appendTop(r *Ring) func(string, int) int {
	dst := make([]Node, 0, 64)
	return func(key string, k int) int { return len(r.AppendTop(dst, key, k)) }
}

func BenchmarkAppendTop(b *testing.B) { bench(b, equalWeights, appendTop) }

func BenchmarkAppendTopWeighted(b *testing.B) { bench(b, coreCounts, appendTop) }

// BenchmarkAppendTopManyWeights gives every node a different weight.
func BenchmarkAppendTopManyWeights(b *testing.B) {
	bench(b, func(i int) float64 { return 100 + float64(i%100) + float64(i)/1e4 }, appendTop)
}

func BenchmarkTop(b *testing.B) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		return func(key string, k int) int { return len(r.Top(key, k)) }
	})
}

func BenchmarkAppendSpread(b *testing.B) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		dst := make([]Node, 0, 64)
		return func(key string, k int) int { return len(r.AppendSpread(dst, key, k)) }
	})
}

func BenchmarkSpread(b *testing.B) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		return func(key string, k int) int { return len(r.Spread(key, k)) }
	})
}

func BenchmarkRanked(b *testing.B) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		return func(key string, k int) (n int) {
			for range r.Ranked(key) {
				if n++; n == k {
					break
				}
			}
			return n
		}
	})
}

// BenchmarkNaive is the usual form of rendezvous hashing: hash each pair of key and node, sort,
// take k.
func BenchmarkNaive(b *testing.B) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		type scored struct {
			score uint64
			node  *Node
		}
		return func(key string, k int) int {
			all := make([]scored, len(r.all.nodes))
			for i := range all {
				n := &r.all.nodes[i]
				all[i] = scored{xxhash.Sum64String(key + "\x00" + n.Name), n}
			}
			slices.SortFunc(all, func(a, b scored) int {
				if a.score < b.score {
					return -1
				}
				return 1
			})
			top := make([]Node, k)
			for i := range top {
				top[i] = *all[i].node
			}
			return len(top)
		}
	})
}

// scanAll is the plain loop over all digests: it makes the multiplication for each digest, and
// stores no result.
func scanAll(digests []uint64, key uint64) (sum uint64) {
	for _, d := range digests {
		hi, lo := bits.Mul64(d, key)
		sum += hi ^ lo
	}
	return sum
}

// scanUnrolled is the inner loop of the package for a limit that no score reaches. It makes a
// multiplication in nearly every cycle. We know no faster loop.
func scanUnrolled(digests []uint64, key uint64) uint64 {
	_, s := next(digests, key, 0)
	return s
}

var benchSink uint64

func benchScan(b *testing.B, scan func([]uint64, uint64) uint64) {
	bench(b, equalWeights, func(r *Ring) func(string, int) int {
		return func(key string, k int) int {
			benchSink = scan(r.all.digests, keyDigest(key))
			return k
		}
	})
}

func BenchmarkScan(b *testing.B) { benchScan(b, scanAll) }

func BenchmarkScanUnrolled(b *testing.B) { benchScan(b, scanUnrolled) }

// BenchmarkOverScan reports two ratios: the time of AppendTop divided by the time of scanAll, and
// divided by the time of scanUnrolled. It alternates between the three every few microseconds, so
// the ratios are also correct on a busy machine.
func BenchmarkOverScan(b *testing.B) {
	keys := benchKeys()
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("nodes=%d/k=%d", size.nodes, size.k), func(b *testing.B) {
			r := mustNew(b, benchNodes(size.nodes)...)
			dst := make([]Node, 0, size.k)
			const turn = 32
			perKey := func(keys []string, op func(key string)) float64 {
				start := time.Now()
				for _, key := range keys {
					op(key)
				}
				return float64(time.Since(start)) / turn
			}
			var nanoseconds, overScan, overUnrolled []float64
			for i := 0; b.Loop(); i += turn {
				some := keys[i%len(keys):][:turn]
				top := perKey(some, func(key string) { dst = r.AppendTop(dst[:0], key, size.k) })
				scan := perKey(some, func(key string) { benchSink = scanAll(r.all.digests, keyDigest(key)) })
				unrolled := perKey(some, func(key string) { benchSink = scanUnrolled(r.all.digests, keyDigest(key)) })
				nanoseconds = append(nanoseconds, top)
				overScan = append(overScan, top/scan)
				overUnrolled = append(overUnrolled, top/unrolled)
			}
			median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
			b.ReportMetric(median(nanoseconds), "top-ns")
			b.ReportMetric(median(overScan), "top/scan")
			b.ReportMetric(median(overUnrolled), "top/unrolled")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("nodes=%d", size.nodes), func(b *testing.B) {
			nodes := benchNodes(size.nodes)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New(nodes...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
