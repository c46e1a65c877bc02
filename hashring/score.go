package hashring

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// The constants of score v1: the golden ratio's fraction and the two
// multipliers of splitmix64. They only have to differ, so that a key, a node and
// a zone of one name have unrelated digests, and so that nobody can suspect a
// search behind them.
const (
	keySalt  = 0x9e3779b97f4a7c15
	nodeSalt = 0xbf58476d1ce4e5b9
	zoneSalt = 0x94d049bb133111eb
)

func keyDigest(key string) uint64   { return xxhash.Sum64String(key) ^ keySalt }
func nodeDigest(name string) uint64 { return xxhash.Sum64String(name) ^ nodeSalt }
func zoneDigest(name string) uint64 { return xxhash.Sum64String(name) ^ zoneSalt }

// score mixes two digests by a full multiplication. Adding or xoring them
// instead would make whole subsets move together: the overlap of subsets then
// has 14 times the variance of a fair draw, which tests of load do not show.
func score(key, digest uint64) uint64 {
	hi, lo := bits.Mul64(key, digest)
	return hi ^ lo
}

const (
	// costShift leaves 45 bits of a score for its cost. Two different values of
	// them then differ in cost by more than the logarithm below can err, so cost
	// never contradicts score between nodes of one weight.
	costShift = 19
	costBits  = 64 - costShift
)

// exponential maps a score, uniform over 64 bits, to -ln(1-q/2^45) with
// q = score>>19: exponentially distributed with mean 1, and never falling as the
// score grows. Divided by a weight it is the cost of the node, and the smallest
// cost falls on a node with a chance proportional to its weight.
//
// math.Log is not used because its results differ between architectures. Every
// product is converted explicitly, which forbids the compiler to fuse it with
// the addition that follows (Go specification, "Floating-point operators"), as
// it would on arm64 and not on amd64.
func exponential(score uint64) float64 {
	// 1-q/2^45 = m * 2^(exp-45), m in (sqrt(1/2), sqrt(2)]. All of this is exact.
	b := math.Float64bits(float64(int64(1<<costBits - score>>costShift)))
	exp := int(b>>52) - 1023
	m := math.Float64frombits(b&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m *= 0.5
		exp++
	}
	// ln(m) = 2*artanh(z) = 2(z + z^3/3 + z^5/5 + …), |z| < 0.172: the first term
	// left out is below 2^-55 of the sum.
	z := (m - 1) / (m + 1)
	zz := float64(z * z)
	p := 2.0 / 19
	p = float64(p*zz) + 2.0/17
	p = float64(p*zz) + 2.0/15
	p = float64(p*zz) + 2.0/13
	p = float64(p*zz) + 2.0/11
	p = float64(p*zz) + 2.0/9
	p = float64(p*zz) + 2.0/7
	p = float64(p*zz) + 2.0/5
	p = float64(p*zz) + 2.0/3
	p = float64(p*zz) + 2
	return float64(float64(costBits-exp)*math.Ln2) - float64(z*p)
}
