package hashring

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Keys, nodes and zones each have their own constant, so that a key, a node and a zone of the same
// name get unrelated digests. The constants are well-known numbers, so that nobody suspects that we
// chose them for a certain result: the fraction of the golden ratio, and the two multipliers of
// splitmix64.
const (
	keySalt  = 0x9e3779b97f4a7c15
	nodeSalt = 0xbf58476d1ce4e5b9
	zoneSalt = 0x94d049bb133111eb
)

func keyDigest(key string) uint64   { return xxhash.Sum64String(key) ^ keySalt }
func nodeDigest(name string) uint64 { return xxhash.Sum64String(name) ^ nodeSalt }
func zoneDigest(name string) uint64 { return xxhash.Sum64String(name) ^ zoneSalt }

// score returns the score of a node or zone for a key, from the digests of their names: the xor of
// the two halves of the 128-bit product. Do not combine the digests by addition or xor instead: the
// number of nodes that two subsets share would have 14 times the variance of a random draw. Tests
// that only measure load do not find this fault.
func score(key, digest uint64) uint64 {
	hi, lo := bits.Mul64(key, digest)
	return hi ^ lo
}

const (
	// costShift is the number of low bits of a score that do not affect the cost. If two scores
	// differ in the upper 45 bits, their costs differ by more than the error of the logarithm
	// below. So for nodes of the same weight, the orders by cost and by score agree.
	costShift = 19
	costBits  = 64 - costShift
)

// exponential returns -ln(1-q/2^45) with q = score>>19. For a higher score, the result is higher or
// equal. The cost of a node is this result divided by its weight. The cost has an exponential
// distribution, so a node has the smallest cost with a probability proportional to its weight.
//
// exponential does not use math.Log, whose results differ between architectures. For the same
// reason, each product has an explicit conversion to float64, which forbids a fused addition (Go
// specification, "Floating-point operators").
func exponential(score uint64) float64 {
	// The cost is minus the logarithm of 1-q/2^45, where q is score>>costShift. To compute it,
	// split 1-q/2^45 into m * 2^(exp-45), with m in (sqrt(1/2), sqrt(2)]. The steps that compute m
	// and exp have no rounding error.
	b := math.Float64bits(float64(int64(1<<costBits - score>>costShift)))
	exp := int(b>>52) - 1023
	m := math.Float64frombits(b&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m *= 0.5
		exp++
	}
	// ln(m) = 2*artanh(z) = 2(z + z^3/3 + z^5/5 + …), |z| < 0.172. The first omitted term is
	// smaller than 2^-55 of the sum.
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
