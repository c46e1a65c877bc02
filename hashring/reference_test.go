package hashring

import (
	"cmp"
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// This file is a second implementation of score v1, written from the package comment without care
// for speed. It has its own XXH64, products in math/big, a logarithm of 160 bits, and full sorts.
// It shares no code with the package.

// reference is a set of nodes in the order of the caller.
type reference []Node

func (r reference) ranked(key string) []Node {
	type ranked struct {
		node  Node
		cost  *big.Float // nil if all weights are equal
		score uint64
	}
	equal := true
	for _, n := range r {
		equal = equal && referenceWeight(n) == referenceWeight(r[0])
	}
	all := make([]ranked, len(r))
	for i, n := range r {
		all[i] = ranked{node: n, score: referenceScore(key, keyTag, n.Name, nodeTag)}
		if !equal {
			all[i].cost = referenceCost(all[i].score, referenceWeight(n))
		}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		if !equal {
			if c := a.cost.Cmp(b.cost); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.node.Name, b.node.Name))
	})
	nodes := make([]Node, len(all))
	for i := range all {
		nodes[i] = all[i].node
	}
	return nodes
}

func (r reference) top(key string, k int) []Node {
	return r.ranked(key)[:min(max(k, 0), len(r))]
}

// spread picks one node of each zone in turn.
func (r reference) spread(key string, k int) []Node {
	var zones []string
	for _, n := range r {
		if !slices.Contains(zones, n.Zone) {
			zones = append(zones, n.Zone)
		}
	}
	slices.SortFunc(zones, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(referenceScore(key, keyTag, a, zoneTag), referenceScore(key, keyTag, b, zoneTag)),
			strings.Compare(a, b))
	})
	members := map[string][]Node{}
	for _, n := range r.ranked(key) {
		members[n.Zone] = append(members[n.Zone], n)
	}
	var out []Node
	for len(out) < min(k, len(r)) {
		for _, z := range zones {
			if len(members[z]) > 0 && len(out) < k {
				out = append(out, members[z][0])
				members[z] = members[z][1:]
			}
		}
	}
	return out
}

func referenceWeight(n Node) float64 {
	if n.Weight == 0 {
		return 1
	}
	return n.Weight
}

const (
	keyTag  = 0x9e3779b97f4a7c15
	nodeTag = 0xbf58476d1ce4e5b9
	zoneTag = 0x94d049bb133111eb
)

func referenceScore(key string, keyTag uint64, name string, tag uint64) uint64 {
	var a, b, p, lo big.Int
	a.SetUint64(referenceXXH64(key) ^ keyTag)
	b.SetUint64(referenceXXH64(name) ^ tag)
	p.Mul(&a, &b)
	lo.And(&p, new(big.Int).SetUint64(^uint64(0)))
	return lo.Uint64() ^ p.Rsh(&p, 64).Uint64()
}

// referenceCost returns -ln(1-q/2^45)/weight with 160 bits. The package rounds costs to binary64.
// So the package and the reference can order two nodes of different weights differently only if the
// costs of the two nodes differ by less than 2^-50.
func referenceCost(score uint64, weight float64) *big.Float {
	return new(big.Float).SetPrec(160).Quo(referenceExponential(score), big.NewFloat(weight))
}

// referenceExponential returns -ln(1-q/2^45) with 160 bits. With y = 1-q/2^45, doubled n times
// until it is in [1/2, 1), -ln y = 2 artanh((1-y)/(1+y)) + n ln 2.
func referenceExponential(score uint64) *big.Float {
	float := func(x float64) *big.Float { return new(big.Float).SetPrec(160).SetFloat64(x) }
	// 2 artanh(z) = 2(z + z^3/3 + …), for z up to 1/3
	twiceArtanh := func(z *big.Float) *big.Float {
		sum, power := float(0), float(0).Set(z)
		square := float(0).Mul(z, z)
		for n := 1; n < 120; n += 2 {
			sum.Add(sum, float(0).Quo(power, float(float64(n))))
			power.Mul(power, square)
		}
		return sum.Mul(sum, float(2))
	}
	y := float(0).Sub(float(1), float(0).SetMantExp(float(float64(score>>19)), -45))
	n := -y.MantExp(y)
	if y.Cmp(float(0.5)) == 0 { // a power of two: 1/2 becomes 1
		y, n = float(1), n+1
	}
	ln2 := twiceArtanh(float(0).Quo(float(1), float(3)))
	z := float(0).Quo(float(0).Sub(float(1), y), float(0).Add(float(1), y))
	return float(0).Add(twiceArtanh(z), float(0).Mul(float(float64(n)), ln2))
}

// referenceXXH64 is XXH64 with seed 0, written from the specification of the hash.
func referenceXXH64(s string) uint64 {
	const (
		p1 = 11400714785074694791
		p2 = 14029467366897019727
		p3 = 1609587929392839161
		p4 = 9650029242287828579
		p5 = 2870177450012600261
	)
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*p2, 31) * p1 }
	b := []byte(s)
	var acc uint64 = p5
	if len(b) >= 32 {
		one := uint64(p1)
		v := [4]uint64{one + p2, p2, 0, -one}
		for ; len(b) >= 32; b = b[32:] {
			for i := range v {
				v[i] = round(v[i], binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		acc = bits.RotateLeft64(v[0], 1) + bits.RotateLeft64(v[1], 7) + bits.RotateLeft64(v[2], 12) + bits.RotateLeft64(v[3], 18)
		for i := range v {
			acc = (acc^round(0, v[i]))*p1 + p4
		}
	}
	acc += uint64(len(s))
	for ; len(b) >= 8; b = b[8:] {
		acc = bits.RotateLeft64(acc^round(0, binary.LittleEndian.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		acc = bits.RotateLeft64(acc^uint64(binary.LittleEndian.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, c := range b {
		acc = bits.RotateLeft64(acc^uint64(c)*p5, 11) * p1
	}
	acc = (acc ^ acc>>33) * p2
	acc = (acc ^ acc>>29) * p3
	return acc ^ acc>>32
}

func TestReferenceXXH64(t *testing.T) {
	// The first two vectors of XXH64 with seed 0 are published.
	require.Equal(t, uint64(0xef46db3751d8e999), referenceXXH64(""))
	require.Equal(t, uint64(0x44bc2cf5ad770999), referenceXXH64("abc"))
	text := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 4)
	for n := range text {
		require.Equal(t, xxhash.Sum64String(text[:n]), referenceXXH64(text[:n]), "length %d", n)
	}
}
