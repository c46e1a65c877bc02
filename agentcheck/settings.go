package agentcheck

import (
	"fmt"
	"math"
	"strconv"
)

// State is the health in an answer. The zero State means that the answer does not name the health.
// [Reply.MostRestrictive] picks the larger of two States.
//
// Stopped, Down and Fail have the same effect in HAProxy: the server is DOWN until the agent
// answers "up". HAProxy shows the word on the statistics page and in the log.
type State uint8

const (
	KeepState State = iota // names no health: HAProxy leaves the health unchanged
	Up                     // healthy, if the health check agrees
	Stopped                // down on purpose
	Down                   // down
	Fail                   // the server runs but does not work
)

var stateWords = []string{Up: "up", Stopped: "stopped", Down: "down", Fail: "fail"}

// IsDown reports whether s takes the server down.
func (s State) IsDown() bool { return s == Stopped || s == Down || s == Fail }

// String returns the word that stands for s in an answer, or "" for the zero value.
func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText returns the word that stands for s in an answer. It fails if s is not one of the
// constants.
func (s State) MarshalText() ([]byte, error) { return marshalWord(stateWords, uint8(s), s) }

// UnmarshalText reads a health word such as "up". Like HAProxy, it accepts upper and lower case. An
// empty text sets the zero value.
func (s *State) UnmarshalText(text []byte) error {
	v, err := unmarshalWord(stateWords, text, errNotState)
	if err == nil {
		*s = State(v)
	}
	return err
}

// Admin is the administrative state in an answer. The zero Admin means that the answer does not
// name this state. A larger Admin keeps more traffic away from the server, and
// [Reply.MostRestrictive] picks the larger of two.
type Admin uint8

const (
	KeepAdmin Admin = iota // HAProxy leaves the administrative state unchanged
	Ready                  // ends drain and maintenance, even if an operator has set them
	Drain                  // no new clients; clients bound by a cookie or a stick table stay
	Maint                  // no clients and no health checks; bound clients move to other servers
)

var adminWords = []string{Ready: "ready", Drain: "drain", Maint: "maint"}

// String returns the word that stands for a in an answer, or "" for the zero value.
func (a Admin) String() string {
	if int(a) < len(adminWords) {
		return adminWords[a]
	}
	return "Admin(" + strconv.Itoa(int(a)) + ")"
}

// MarshalText returns the word that stands for a in an answer. It fails if a is not one of the
// constants.
func (a Admin) MarshalText() ([]byte, error) { return marshalWord(adminWords, uint8(a), a) }

// UnmarshalText reads an administrative state such as "drain". Like HAProxy, it accepts upper and
// lower case. An empty text sets the zero value.
func (a *Admin) UnmarshalText(text []byte) error {
	v, err := unmarshalWord(adminWords, text, errNotAdmin)
	if err == nil {
		*a = Admin(v)
	}
	return err
}

func marshalWord(words []string, n uint8, v fmt.Stringer) ([]byte, error) {
	if int(n) >= len(words) {
		return nil, fmt.Errorf("agentcheck: no word for %v", v)
	}
	return []byte(words[n]), nil
}

func unmarshalWord(words []string, text []byte, wrong error) (uint8, error) {
	if len(text) == 0 {
		return 0, nil
	}
	n, ok := findWord(words, text)
	if !ok {
		return 0, &WordError{Word: string(text), Err: wrong}
	}
	return n, nil
}

// findWord returns the index of text in words, or false if words does not contain it. words are in
// lower case; the case of ASCII letters in text does not matter.
func findWord(words []string, text []byte) (n uint8, ok bool) {
	for i, w := range words {
		if w != "" && equalFold(text, w) {
			return uint8(i), true
		}
	}
	return 0, false
}

// Bounds of a weight in HAProxy.
const (
	// MaxPercent is the largest useful percentage: it raises a configured weight of 1 to 256, the
	// maximum. HAProxy reads a larger percentage as MaxPercent.
	MaxPercent = 25600
	// MaxWeight is the largest weight that HAProxy gives a server.
	MaxWeight = 256
)

type weightKind uint8

const (
	keepWeight weightKind = iota
	percentWeight
	absoluteWeight
)

// Weight is the weight in an answer, as a percentage ([Percent]) or as a number ([Absolute]). The
// zero Weight names no weight. Weights are comparable with ==.
type Weight struct {
	kind weightKind
	n    uint16
}

// Percent returns the Weight "n%": n percent of the weight in HAProxy's configuration. It limits n
// to the range from 0 to [MaxPercent].
func Percent(n int) Weight {
	return Weight{percentWeight, uint16(min(max(n, 0), MaxPercent))}
}

// Absolute returns the Weight "weight:n". An HAProxy before 3.1 shows an error and keeps the
// server's weight. Absolute limits n to the range from 0 to [MaxWeight].
func Absolute(n int) Weight {
	return Weight{absoluteWeight, uint16(min(max(n, 0), MaxWeight))}
}

// Percent returns the number of a Weight that is a percentage. ok is false if w is not a
// percentage.
func (w Weight) Percent() (n int, ok bool) { return int(w.n), w.kind == percentWeight }

// Absolute returns the number of a Weight that is an absolute weight. ok is false if w is not an
// absolute weight.
func (w Weight) Absolute() (n int, ok bool) { return int(w.n), w.kind == absoluteWeight }

// IsZero reports whether w sets no weight.
func (w Weight) IsZero() bool { return w == Weight{} }

// Effective returns the weight that a server has after an answer with w. initial is the weight in
// HAProxy's configuration, and current is the weight before the answer. HAProxy rounds a percentage
// of initial down, and limits the weight to [MaxWeight].
//
// Static balance algorithms ignore all weights except 0 and initial, so the result is wrong for
// them (see [Lint]).
func (w Weight) Effective(initial, current int) int {
	switch w.kind {
	case percentWeight:
		return min(initial*int(w.n)/100, MaxWeight)
	case absoluteWeight:
		return int(w.n)
	default:
		return current
	}
}

// String returns the word that stands for w in an answer, or "" for the zero value.
func (w Weight) String() string { return string(w.append(nil)) }

// MarshalText returns the word that stands for w in an answer, or an empty text for the zero value.
func (w Weight) MarshalText() ([]byte, error) { return w.append(nil), nil }

// UnmarshalText reads every word that HAProxy accepts for a weight. Empty text gives the zero
// value.
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

// rank returns a number for comparing two Weights: a Weight with a higher rank keeps more traffic
// away from the server. "weight:50" has the rank of 50%, as if the configured weight were 100. The
// zero Weight has the lowest rank, 0.
func (w Weight) rank() int {
	if w.kind == keepWeight {
		return 0
	}
	return 1 + MaxPercent - int(w.n)
}

// lower returns w or v: the weight that sends less traffic to the server. If both send the same
// traffic and only one is a percentage, lower returns the percentage, because every version of
// HAProxy accepts a percentage.
func (w Weight) lower(v Weight) Weight {
	if w.rank() > v.rank() || w.rank() == v.rank() && w.kind == percentWeight {
		return w
	}
	return v
}

// MaxConn is the limit that an answer sets for simultaneous connections to the server;
// [Connections] makes a MaxConn. The zero MaxConn names no limit. MaxConns are comparable with ==.
type MaxConn struct {
	set bool
	n   uint32
}

// Connections returns the MaxConn "maxconn:n": at most n connections from each HAProxy process and
// each backend. 0 removes the limit. A negative n counts as 1, and an n above 4294967295 (32 bits)
// as 4294967295.
func Connections(n int) MaxConn {
	if n < 0 {
		n = 1
	}
	return MaxConn{true, uint32(min(uint64(n), math.MaxUint32))}
}

// Connections returns the limit that m sets, or 0 if m removes the limit. ok is false if m sets
// nothing.
func (m MaxConn) Connections() (n int, ok bool) {
	return int(min(uint64(m.n), math.MaxInt)), m.set
}

// IsZero reports whether m sets no limit.
func (m MaxConn) IsZero() bool { return m == MaxConn{} }

// String returns the word that stands for m in an answer, or "" for the zero value.
func (m MaxConn) String() string { return string(m.append(nil)) }

// MarshalText returns the word that stands for m in an answer, or an empty text for the zero value.
func (m MaxConn) MarshalText() ([]byte, error) { return m.append(nil), nil }

// UnmarshalText reads every word that HAProxy accepts for a maxconn. Empty text gives the zero
// value.
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

// rank returns a number for comparing two limits: a limit with a higher rank keeps more requests
// away from the server. The zero MaxConn has rank 0, and "maxconn:0" (unlimited) has rank 1.
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
