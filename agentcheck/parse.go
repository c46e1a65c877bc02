package agentcheck

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// MaxLine is the length of the longest answer in bytes, including the line end. It is the default
// of HAProxy's tune.bufsize. An answer of exactly MaxLine bytes works with HAProxy 2.6 and 3.0, but
// HAProxy 3.2 and 3.4 ignore it.
const MaxLine = 16384

const (
	weightPrefix  = "weight:"
	maxConnPrefix = "maxconn:"
)

// HAProxy ignores an answer completely if Parse returns one of these errors for it.
var (
	// ErrIncomplete means that the answer has no CR or LF, or that it has a NUL byte before its
	// first CR or LF. HAProxy ignores such an answer and shows "Ignoring incomplete line from
	// agent". HAProxy 2.6 sometimes completes the line with bytes of an earlier check (a fault).
	ErrIncomplete = errors.New("agentcheck: answer has no line end")
	// ErrTooLong means that the line is longer than MaxLine bytes. HAProxy 2.6 searches for the
	// line end beyond its buffer and can overwrite a byte there. In tests, about 3% of the HAProxy
	// processes crashed when they got such an answer.
	ErrTooLong = errors.New("agentcheck: answer is longer than " + strconv.Itoa(MaxLine) + " bytes")
)

// Values of WordError.Err.
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

// WordError is the error for one word that HAProxy rejects. HAProxy still applies the other words
// of the same answer.
type WordError struct {
	Word   string // the word as the answer spells it
	Offset int    // position of the word's first byte in the answer
	Err    error  // the reason
}

func (e *WordError) Error() string {
	word, rest := e.Word, ""
	if len(word) > 64 {
		word, rest = word[:64], "…"
	}
	return fmt.Sprintf("agentcheck: word %q%s: %v", word, rest, e.Err)
}

func (e *WordError) Unwrap() error { return e.Err }

// Parse reads an answer as HAProxy does; the package documentation describes the line. A word that
// begins with '#' begins the reason. If several words name one setting, the last word counts, even
// if HAProxy rejects the number in this word.
//
// HAProxy rejects an unknown word or a word with a wrong number, and applies the other words. In
// this case, Parse returns the Reply of the other words, and an error that wraps a [*WordError] for
// each rejected word. If the error is [ErrIncomplete] or [ErrTooLong], HAProxy changes nothing, and
// the Reply is zero.
//
// Like HAProxy, Parse accepts some answers that are probably mistakes, such as "maxconn:-5". [Lint]
// finds them.
func Parse(line []byte) (Reply, error) { return parse(line, true) }

func parse(line []byte, needEnd bool) (Reply, error) {
	line, err := firstLine(line, needEnd)
	if err != nil {
		return Reply{}, err
	}
	a := readAnswer(line)
	switch len(a.errs) {
	case 0:
		return a.reply, nil
	case 1:
		return a.reply, a.errs[0]
	default:
		return a.reply, errors.Join(a.errs...)
	}
}

// answer is a parsed answer line of an agent. It also has an error for each word that HAProxy would
// reject.
type answer struct {
	reply           Reply
	errs            []error // a *WordError for each rejected word
	weight, maxConn word    // the last weight and the last maxconn; HAProxy ignores earlier ones
	// weightErr is the reason why HAProxy rejects the word in the field "weight". maxConnErr is the
	// reason why it rejects the word in the field "maxConn". nil means that HAProxy accepts the
	// word.
	weightErr, maxConnErr error
}

// readAnswer reads a line without its end.
func readAnswer(line []byte) answer {
	var a answer
	words := scanner{line: line}
	for words.next() {
		w := words.word
		switch setting, value := classify(w.text); setting {
		case SettingState:
			a.reply.State = State(value)
		case SettingAdmin:
			a.reply.Admin = Admin(value)
		case SettingWeight:
			a.weight = w
		case SettingMaxConn:
			a.maxConn = w
		default:
			a.errs = append(a.errs, w.error(errUnknown))
		}
	}
	if a.weight.text != nil {
		number, _ := cutWeight(a.weight.text)
		if a.reply.Weight, a.weightErr = parseWeight(number); a.weightErr != nil {
			a.errs = append(a.errs, a.weight.error(a.weightErr))
		}
	}
	if a.maxConn.text != nil {
		number, _ := cutPrefixFold(a.maxConn.text, maxConnPrefix)
		if a.reply.MaxConn, a.maxConnErr = parseMaxConn(number); a.maxConnErr != nil {
			a.errs = append(a.errs, a.maxConn.error(a.maxConnErr))
		}
	}
	if len(words.reason) > 0 {
		var space [128]byte
		a.reply.Reason = string(appendReason(space[:0], words.reason))
	}
	return a
}

// firstLine returns the first line of b, without the line end. If needEnd is true and b has no line
// end, it returns an error.
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
	offset int // position of its first byte in the answer
}

func (w word) error(err error) error {
	return &WordError{Word: string(w.text), Offset: w.offset, Err: err}
}

// scanner splits an answer line into its words and the reason after them.
type scanner struct {
	line   []byte
	pos    int
	word   word
	reason []byte // the method "next" sets it when it returns false
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

// classify returns the setting that a word names, or 0 for an unknown word. value is the State or
// the Admin, or 0 for another setting. classify does not check the number in a weight or maxconn.
func classify(w []byte) (setting Settings, value uint8) {
	if n, ok := findWord(stateWords, w); ok {
		return SettingState, n
	}
	if n, ok := findWord(adminWords, w); ok {
		return SettingAdmin, n
	}
	if _, ok := cutWeight(w); ok {
		return SettingWeight, 0
	}
	if _, ok := cutPrefixFold(w, maxConnPrefix); ok {
		return SettingMaxConn, 0
	}
	return 0, 0
}

// cutWeight returns the part of w that contains the number of a weight, and does not check the
// number. ok reports whether HAProxy reads w as a weight. HAProxy does so if w begins with a digit
// and contains a '%', or if w begins with "weight:".
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

// parseMaxConn reads the number of a maxconn. HAProxy stores the number in 32 unsigned bits without
// a check, so a negative or huge number wraps around. The result of parseMaxConn wraps around in
// the same way.
func parseMaxConn(b []byte) (MaxConn, error) {
	n, rest, ok := cutInteger(b)
	switch {
	case !ok:
		return MaxConn{}, errNoNumber
	case len(rest) > 0:
		return MaxConn{}, errTrailing
	}
	return MaxConn{true, uint32(n)}, nil
}

// cutInteger reads a decimal integer at the start of b, like C's strtol with a 64-bit long. White
// space and a sign may precede it. If the number is out of range, n is the largest or smallest
// int64. ok is false without a digit.
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
			u = maxInt64 + 1 // the result is the limit of int64, whatever digits follow
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

// isSpace is C's isspace.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// equalFold reports whether b equals "lower", without regard to the case of ASCII letters in b.
// lower must be in lower case. bytes.EqualFold does not fit, because it treats the Kelvin sign as a
// k.
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
