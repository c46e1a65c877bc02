package hashring

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// The constants of score v1 are the fraction of the golden ratio and the two multipliers of
// splitmix64. They must differ, so that a key, a node and a zone of the same name have unrelated
// digests. They are well known, which shows that nobody chose them for an effect.
const (
	keySalt  = 0x9e3779b97f4a7c15
	nodeSalt = 0xbf58476d1ce4e5b9
	zoneSalt = 0x94d049bb133111eb
)

func keyDigest(key string) uint64   { return xxhash.Sum64String(key) ^ keySalt }
func nodeDigest(name string) uint64 { return xxhash.Sum64String(name) ^ nodeSalt }
func zoneDigest(name string) uint64 { return xxhash.Sum64String(name) ^ zoneSalt }

// score mixes the digest of a key with the digest of a node or zone by a full multiplication. With
// addition or xor instead, whole subsets would move together: the overlap of subsets would have 14
// times the variance of a fair draw. Tests of load do not show that.
func score(key, digest uint64) uint64 {
	hi, lo := bits.Mul64(key, digest)
	return hi ^ lo
}

const (
	// costShift leaves 45 bits of a score for the cost. Costs of two different 45-bit values differ
	// by more than the error of the logarithm below. So for nodes of the same weight, the order by
	// cost never contradicts the order by score.
	costShift = 19
	costBits  = 64 - costShift
)

// exponential returns -ln(1-q/2^45) with q = score>>19. Scores are uniform over 64 bits, so the
// result has an exponential distribution with mean 1. It never falls as the score grows. Divided by
// the weight of a node, it is the cost of the node. The probability that a node has the smallest
// cost is proportional to its weight.
//
// math.Log would not do: its results differ between architectures. Each product has an explicit
// conversion, which forbids the compiler to fuse it with the addition that follows (Go
// specification, "Floating-point operators"). Otherwise arm64 would fuse them and amd64 would not.
func exponential(score uint64) float64 {
	// 1-q/2^45 = m * 2^(exp-45), m in (sqrt(1/2), sqrt(2)]. These steps are exact.
	b := math.Float64bits(float64(int64(1<<costBits - score>>costShift)))
	exp := int(b>>52) - 1023
	m := math.Float64frombits(b&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m *= 0.5
		exp++
	}
	// ln(m) = 2*artanh(z) = 2(z + z^3/3 + z^5/5 + …), |z| < 0.172. The first omitted term is below
	// 2^-55 of the sum.
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
