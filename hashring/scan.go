package hashring

import (
	"math/bits"
	"slices"
)

// scan appends a candidate to buf[:n] for each of digests[from:to] that scores no
// more than limit, from the last to the first, until buf is full. It returns the
// new n, and the new to: from if all have been looked at.
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

// next finds the last digest that scores no more than limit. It returns the
// digests before it, which are not nil even if there are none, and its score; or
// nil if no digest does.
//
// This is where the time goes. Few digests pass, so the loop has nothing in it
// but a load, a multiplication and a branch for each, needs no check of bounds,
// and runs close to one digest a cycle, as fast as CPUs multiply.
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

// distribute puts evenly distributed candidates up to about limit into nearly
// the right order: each into one of up to 64 buckets. That halves the time of
// sorting a few dozen of them, most of which is mispredicted branches. It leaves
// more than stackSlots candidates alone.
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

// sortCandidates sorts by insertion what is short or nearly in order already.
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
