package hashring

import (
	"math/bits"
	"slices"
)

// scan reads the digests (hashes of node names) in digests[from:to], from the last to the first.
// For each digest whose score for the key is at most limit, it writes a candidate to buf[n] and
// increments n. It stops when buf is full.
//
// scan returns the new n, and the index of the digest at which it has stopped. If it has read the
// whole range, this index is the argument "from".
func scan(digests []uint64, from, to int, key, limit, mask uint64, buf []uint64, n int) (int, int) {
	rest := digests[from:to]
	for n < len(buf) {
		var s uint64
		if rest, s = next(rest, key, limit); rest == nil {
			return n, from
		}
		buf[n] = s&^mask | uint64(from+len(rest))
		n++
	}
	return n, from + len(rest)
}

// The function "next" finds the last digest in d whose score is at most limit. It returns the part
// of d before this digest, and the score. If the digest is the first of d, the part is empty but
// not nil. If d has no such digest, the part is nil.
//
// The loop is unrolled, because a selection spends most of its time here: Ring.AppendTop takes 1.2
// µs instead of 2.4 µs for 20 of 1,000 nodes. This matters to programs that call AppendTop for each
// request, and not to a terminator with 2,000 services, which saves 2 of 880 ms.
func next(d []uint64, key, limit uint64) ([]uint64, uint64) {
	for len(d) >= 8 {
		hi, lo := bits.Mul64(d[len(d)-1], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-1], s
		}
		hi, lo = bits.Mul64(d[len(d)-2], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-2], s
		}
		hi, lo = bits.Mul64(d[len(d)-3], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-3], s
		}
		hi, lo = bits.Mul64(d[len(d)-4], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-4], s
		}
		hi, lo = bits.Mul64(d[len(d)-5], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-5], s
		}
		hi, lo = bits.Mul64(d[len(d)-6], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-6], s
		}
		hi, lo = bits.Mul64(d[len(d)-7], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-7], s
		}
		hi, lo = bits.Mul64(d[len(d)-8], key)
		if s := hi ^ lo; s <= limit {
			return d[:len(d)-8], s
		}
		d = d[:len(d)-8]
	}
	for len(d) > 0 {
		hi, lo := bits.Mul64(d[len(d)-1], key)
		d = d[:len(d)-1]
		if s := hi ^ lo; s <= limit {
			return d, s
		}
	}
	return nil, 0
}

// distribute puts the candidates nearly into order, so that sortCandidates has less work. It uses
// up to 64 buckets. The values of the candidates must be evenly distributed between 0 and about
// limit. If there are more than stackSlots candidates, distribute does nothing.
//
// With distribute, sorting a few dozen candidates takes half the time, because the CPU mispredicts
// fewer branches. This makes Ring.AppendTop a tenth faster for 20 of 1,000 nodes.
func distribute(c []uint64, limit uint64) {
	if len(c) > stackSlots {
		return
	}
	var copied [stackSlots]uint64
	var ends [64]uint8
	from := copied[:copy(copied[:], c)]
	shift := max(bits.Len64(limit), 6) - 6
	for _, v := range from {
		ends[v>>(shift&63)&63]++
	}
	sum := uint8(0)
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	for _, v := range from {
		b := v >> (shift & 63) & 63
		c[ends[b]] = v
		ends[b]++
	}
}

// sortCandidates sorts candidates. If there are at most stackSlots of them, distribute has put them
// nearly into order already. An insertion sort is then the fastest way to finish.
func sortCandidates(c []uint64) {
	if len(c) > stackSlots {
		slices.Sort(c)
		return
	}
	for i := 1; i < len(c); i++ {
		v, j := c[i], i
		for ; j > 0 && c[j-1] > v; j-- {
			c[j] = c[j-1]
		}
		c[j] = v
	}
}
