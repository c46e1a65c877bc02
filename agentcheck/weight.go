package agentcheck

import "strconv"

// Bounds of a weight, as HAProxy sets them.
const (
	// MaxPercent is the largest percentage that makes a difference: HAProxy reads any larger
	// one as this, so that 256 is reached from an initial weight of 1.
	MaxPercent = 25600
	// MaxWeight is the largest weight that a server can have, whatever an answer says.
	MaxWeight = 256
)

type weightKind uint8

const (
	keepWeight weightKind = iota
	percentWeight
	absoluteWeight
)

// Weight is the weight that an answer sets. The zero value sets none; two Weights are equal
// (==) when they have the same form and number. Make one with [Percent] or [Absolute].
type Weight struct {
	kind weightKind
	n    uint16
}

// Percent is "n%": a share of the weight that the server has in HAProxy's configuration. n below
// 0 is taken as 0, above [MaxPercent] as MaxPercent.
func Percent(n int) Weight {
	return Weight{percentWeight, uint16(min(max(n, 0), MaxPercent))}
}

// Absolute is "weight:n", which HAProxy understands from version 3.1 on; older ones show an
// error and keep the weight. n below 0 is taken as 0, above [MaxWeight] as MaxWeight.
func Absolute(n int) Weight {
	return Weight{absoluteWeight, uint16(min(max(n, 0), MaxWeight))}
}

// Percent returns the percentage; ok is false if w is not one.
func (w Weight) Percent() (n int, ok bool) { return int(w.n), w.kind == percentWeight }

// Absolute returns the absolute weight; ok is false if w is not one.
func (w Weight) Absolute() (n int, ok bool) { return int(w.n), w.kind == absoluteWeight }

// IsZero reports whether w sets no weight.
func (w Weight) IsZero() bool { return w == Weight{} }

// Of returns the weight in force after an answer with w, for a server whose configured weight is
// initial and whose weight before was current: a percentage is truncated to a whole number and
// capped at [MaxWeight], and no weight leaves the current one. It assumes a dynamic balance
// algorithm; a static one ignores all but 0 and the initial weight (see [Lint]).
func (w Weight) Of(initial, current int) int {
	switch w.kind {
	case percentWeight:
		return min(initial*int(w.n)/100, MaxWeight)
	case absoluteWeight:
		return int(w.n)
	default:
		return current
	}
}

// String returns the word on the wire, "" for the zero value.
func (w Weight) String() string { return string(w.append(nil)) }

// MarshalText returns the word on the wire, nothing for the zero value.
func (w Weight) MarshalText() ([]byte, error) { return w.append(nil), nil }

// UnmarshalText accepts what HAProxy does; the empty text is the zero value.
func (w *Weight) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*w = Weight{}
		return nil
	}
	number, ok := cutWeight(text)
	if !ok {
		return &WordError{Word: string(text), Err: errNotWeight}
	}
	v, err := parseWeight(number)
	if err != nil {
		return &WordError{Word: string(text), Err: err}
	}
	*w = v
	return nil
}

func (w Weight) append(b []byte) []byte {
	switch w.kind {
	case percentWeight:
		return append(strconv.AppendUint(b, uint64(w.n), 10), '%')
	case absoluteWeight:
		return strconv.AppendUint(append(b, weightPrefix...), uint64(w.n), 10)
	default:
		return b
	}
}

// rank orders weights from the best to the worst, 0 for none. An absolute weight is compared
// as if the configured weight were 100, which makes it a percentage.
func (w Weight) rank() int {
	if w.kind == keepWeight {
		return 0
	}
	return 1 + MaxPercent - int(w.n)
}

// worst returns the lower of two weights; at equal numbers the form that all versions know.
func (w Weight) worst(v Weight) Weight {
	switch {
	case w.rank() != v.rank():
		if w.rank() > v.rank() {
			return w
		}
		return v
	case w.kind == percentWeight:
		return w
	default:
		return v
	}
}

// MaxConn is the limit of simultaneous connections that an answer sets on the server. The zero
// value sets none; two MaxConns are equal (==) when they set the same. Make one with [Limit].
type MaxConn struct {
	set bool
	n   uint32
}

// Limit is "maxconn:n", a limit for each HAProxy process and each backend. 0 lifts the limit.
func Limit(n uint32) MaxConn { return MaxConn{true, n} }

// Limit returns the limit, 0 for unlimited; ok is false if m sets none.
func (m MaxConn) Limit() (n uint32, ok bool) { return m.n, m.set }

// IsZero reports whether m sets no limit.
func (m MaxConn) IsZero() bool { return m == MaxConn{} }

// String returns the word on the wire, "" for the zero value.
func (m MaxConn) String() string { return string(m.append(nil)) }

// MarshalText returns the word on the wire, nothing for the zero value.
func (m MaxConn) MarshalText() ([]byte, error) { return m.append(nil), nil }

// UnmarshalText accepts what HAProxy does; the empty text is the zero value.
func (m *MaxConn) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MaxConn{}
		return nil
	}
	number, ok := cutPrefixFold(text, maxConnPrefix)
	if !ok {
		return &WordError{Word: string(text), Err: errNotMaxConn}
	}
	v, err := parseMaxConn(number)
	if err != nil {
		return &WordError{Word: string(text), Err: err}
	}
	*m = v
	return nil
}

func (m MaxConn) append(b []byte) []byte {
	if !m.set {
		return b
	}
	return strconv.AppendUint(append(b, maxConnPrefix...), uint64(m.n), 10)
}

// rank orders limits from the best to the worst: none, unlimited, then the lower the worse.
func (m MaxConn) rank() int64 {
	switch {
	case !m.set:
		return 0
	case m.n == 0:
		return 1
	default:
		return 2 + (1<<32 - int64(m.n))
	}
}
