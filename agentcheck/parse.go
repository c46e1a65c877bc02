package agentcheck

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// MaxLine is the length of the longest answer that a HAProxy with default settings accepts,
// line end included (its global tune.bufsize). 3.2 and 3.4 ignore one of exactly that length,
// as 2.6 and 3.0 do not.
const MaxLine = 16384

const (
	weightPrefix  = "weight:"
	maxConnPrefix = "maxconn:"
)

// Errors of an answer that HAProxy ignores as a whole.
var (
	// ErrIncomplete: there is no CR or LF, or a NUL stands before it. HAProxy shows "Ignoring
	// incomplete line from agent". Do not count on it: version 2.6 was seen to complete such a
	// line with what an earlier check had left in its buffer.
	ErrIncomplete = errors.New("agentcheck: answer has no line end")
	// ErrTooLong: the line is longer than MaxLine. Version 2.6 looks for its end beyond the
	// buffer and can overwrite a byte there; some 3% of its processes ended by such an answer.
	ErrTooLong = errors.New("agentcheck: answer is longer than " + strconv.Itoa(MaxLine) + " bytes")
)

// What is wrong with a word, in a WordError.
var (
	errUnknown    = errors.New("unknown word")
	errNotState   = errors.New("not a health state")
	errNotAdmin   = errors.New("not an administrative state")
	errNotWeight  = errors.New("not a weight")
	errNotMaxConn = errors.New("not a maxconn")
	errNoNumber   = errors.New("no number")
	errTrailing   = errors.New("trailing garbage")
	errNegative   = errors.New("negative percentage")
	errRange      = errors.New("absolute weight outside 0 to 256")
)

// WordError names a word that HAProxy rejects. It applies the rest of the answer.
type WordError struct {
	Word   string // as it stands in the answer
	Offset int    // of its first byte
	Err    error  // what is wrong
}

func (e *WordError) Error() string {
	word, rest := e.Word, ""
	if len(word) > 64 {
		word, rest = word[:64], "…"
	}
	return fmt.Sprintf("agentcheck: word %q%s: %v", word, rest, e.Err)
}

func (e *WordError) Unwrap() error { return e.Err }

// Parse reads an answer as HAProxy does: the first line, up to and including CR or LF, of words
// in any order and case, separated by spaces, tabs or commas, and a reason after a '#' that
// begins a word. The last word of a kind counts. What follows the line end is not looked at.
//
// Words that HAProxy rejects give an error that wraps a [*WordError] for each, together with a
// Reply of the other words, because HAProxy applies those: "bogus 50%" sets the weight and shows
// an error. A rejected last weight or maxconn also hides an earlier good one. [ErrIncomplete] and
// [ErrTooLong] come with the zero Reply, because HAProxy then changes nothing.
//
// Accepted without an error, as HAProxy does, are answers that hardly anyone wants, such as
// "maxconn:-5"; [Lint] names them.
func Parse(line []byte) (Reply, error) { return parse(line, true) }

func parse(line []byte, needEnd bool) (Reply, error) {
	line, err := firstLine(line, needEnd)
	if err != nil {
		return Reply{}, err
	}
	var (
		r               Reply
		errs            []error
		weight, maxConn word
	)
	words := scanner{line: line}
	for words.next() {
		w := words.word
		switch k, v := classify(w.text); k {
		case stateWord:
			r.State = State(v)
		case adminWord:
			r.Admin = Admin(v)
		case weightWord:
			weight = w
		case maxConnWord:
			maxConn = w
		default:
			errs = append(errs, w.error(errUnknown))
		}
	}
	// Only the last weight and the last maxconn are ever read as numbers.
	if weight.text != nil {
		number, _ := cutWeight(weight.text)
		if r.Weight, err = parseWeight(number); err != nil {
			errs = append(errs, weight.error(err))
		}
	}
	if maxConn.text != nil {
		number, _ := cutPrefixFold(maxConn.text, maxConnPrefix)
		if r.MaxConn, err = parseMaxConn(number); err != nil {
			errs = append(errs, maxConn.error(err))
		}
	}
	if len(words.reason) > 0 {
		var space [128]byte
		r.Reason = string(appendReason(space[:0], words.reason))
	}
	switch len(errs) {
	case 0:
		return r, nil
	case 1:
		return r, errs[0]
	default:
		return r, errors.Join(errs...)
	}
}

// firstLine returns the line without its end.
func firstLine(b []byte, needEnd bool) ([]byte, error) {
	end := bytes.IndexAny(b, "\r\n\x00")
	switch {
	case end >= MaxLine || (end < 0 && len(b) > MaxLine):
		return nil, ErrTooLong
	case end < 0 && !needEnd:
		return b, nil
	case end < 0 || b[end] == 0:
		return nil, ErrIncomplete
	}
	return b[:end], nil
}

// word is one word of an answer.
type word struct {
	text   []byte
	offset int
}

func (w word) error(err error) error {
	return &WordError{Word: string(w.text), Offset: w.offset, Err: err}
}

// scanner splits a line into words and the reason.
type scanner struct {
	line   []byte
	pos    int
	word   word
	reason []byte // set when next returns false
}

func (s *scanner) next() bool {
	for s.pos < len(s.line) && isSeparator(s.line[s.pos]) {
		s.pos++
	}
	if s.pos == len(s.line) {
		return false
	}
	if s.line[s.pos] == '#' {
		s.reason = s.line[s.pos+1:]
		return false
	}
	begin := s.pos
	for s.pos < len(s.line) && !isSeparator(s.line[s.pos]) {
		s.pos++
	}
	s.word = word{s.line[begin:s.pos], begin}
	return true
}

func isSeparator(c byte) bool { return c == ' ' || c == '\t' || c == ',' }

// kind says which setting a word is for, whether or not its number is right.
type kind uint8

const (
	unknownWord kind = iota
	stateWord
	adminWord
	weightWord
	maxConnWord
)

// classify returns the kind of a word, and the State or Admin that it stands for.
func classify(w []byte) (k kind, value uint8) {
	if s, ok := parseState(w); ok {
		return stateWord, uint8(s)
	}
	if a, ok := parseAdmin(w); ok {
		return adminWord, uint8(a)
	}
	if _, ok := cutWeight(w); ok {
		return weightWord, 0
	}
	if _, ok := cutPrefixFold(w, maxConnPrefix); ok {
		return maxConnWord, 0
	}
	return unknownWord, 0
}

func parseState(w []byte) (State, bool) {
	for i, s := range stateWords {
		if s != "" && equalFold(w, s) {
			return State(i), true
		}
	}
	return KeepState, false
}

func parseAdmin(w []byte) (Admin, bool) {
	for i, s := range adminWords {
		if s != "" && equalFold(w, s) {
			return Admin(i), true
		}
	}
	return KeepAdmin, false
}

// cutWeight tells whether HAProxy takes w for a weight, right or wrong, and returns the number
// in it: a word that begins with a digit and has a '%' anywhere, or "weight:" and anything.
func cutWeight(w []byte) (number []byte, ok bool) {
	if len(w) > 0 && isDigit(w[0]) && bytes.IndexByte(w, '%') > 0 {
		return w, true
	}
	return cutPrefixFold(w, weightPrefix)
}

// parseWeight reads "<n>%" and "<n>".
func parseWeight(b []byte) (Weight, error) {
	n, rest, ok := cutInteger(b)
	switch {
	case !ok:
		return Weight{}, errNoNumber
	case len(rest) == 1 && rest[0] == '%':
		if n < 0 {
			return Weight{}, errNegative
		}
		return Percent(int(min(n, MaxPercent))), nil
	case n < 0 || n > MaxWeight:
		return Weight{}, errRange
	case len(rest) > 0:
		return Weight{}, errTrailing
	}
	return Absolute(int(n)), nil
}

// parseMaxConn reads an integer. HAProxy stores it in 32 unsigned bits without looking, so a
// negative or huge one wraps around.
func parseMaxConn(b []byte) (MaxConn, error) {
	n, rest, ok := cutInteger(b)
	switch {
	case !ok:
		return MaxConn{}, errNoNumber
	case len(rest) > 0:
		return MaxConn{}, errTrailing
	}
	return Limit(uint32(n)), nil
}

// cutInteger reads a decimal integer at the start of b the way C's strtol does where long has 64
// bits: after white space, with an optional sign, saturating.
func cutInteger(b []byte) (n int64, rest []byte, ok bool) {
	const maxInt64 = 1<<63 - 1
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	negative := false
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		negative = b[i] == '-'
		i++
	}
	begin := i
	var u uint64
	for ; i < len(b) && isDigit(b[i]); i++ {
		if d := uint64(b[i] - '0'); u > (maxInt64-d)/10 {
			u = maxInt64 + 1 // saturated: the next digits keep it here
		} else {
			u = 10*u + d
		}
	}
	switch {
	case i == begin:
		return 0, b, false
	case negative:
		return int64(-u), b[i:], true
	default:
		return int64(min(u, maxInt64)), b[i:], true
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isSpace is C's isspace; some of these cannot stand within a word.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// equalFold compares with an ASCII lower-case word, case-insensitively in ASCII only, unlike
// bytes.EqualFold, for which K and the Kelvin sign are equal.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func cutPrefixFold(b []byte, lower string) (rest []byte, ok bool) {
	if len(b) < len(lower) || !equalFold(b[:len(lower)], lower) {
		return nil, false
	}
	return b[len(lower):], true
}
