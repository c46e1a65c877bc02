package agentcheck

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxReason is the length of the longest reason in bytes. Parse and the functions that write a
// Reply cut a longer reason, but never in the middle of a character. HAProxy itself shows about 100
// bytes.
const MaxReason = 1024

// Reply is one answer of an agent: up to four independent settings and a reason. HAProxy does not
// change a setting that the Reply does not name, so the zero Reply changes nothing. Every Reply of
// an agent should name all settings that the agent ever changes; see [Lint].
type Reply struct {
	State   State   // health
	Admin   Admin   // administrative state
	Weight  Weight  // weight: in percent of the configured weight, or absolute
	MaxConn MaxConn // limit of simultaneous connections

	// Reason is one line of text for the operator. HAProxy shows it only if the answer also names a
	// State. If the State is Up and HAProxy itself has an error for the server, HAProxy shows this
	// error instead of the Reason.
	//
	// The functions that write a Reply replace each character that is not printable by a space,
	// trim the text, and cut it to MaxReason bytes.
	Reason string
}

// String returns the answer without a line end.
func (r Reply) String() string {
	b, err := r.AppendText(nil)
	if err != nil {
		return "%!(" + err.Error() + ")"
	}
	return string(b)
}

// AppendLine appends the answer with its line end to b, as HAProxy reads it from the wire:
//
//	up ready 75% maxconn:30 # reason\n
//
// If b has enough capacity, AppendLine does not allocate. If State or Admin is not one of the
// constants, AppendLine returns b unchanged and an error.
func (r Reply) AppendLine(b []byte) ([]byte, error) {
	b, err := r.AppendText(b)
	if err != nil {
		return b, err
	}
	return append(b, '\n'), nil
}

// AppendText appends the answer without a line end to b, for logs, JSON and flags. Otherwise it
// works like [Reply.AppendLine]. It implements [encoding.TextAppender].
func (r Reply) AppendText(b []byte) ([]byte, error) {
	if int(r.State) >= len(stateWords) || int(r.Admin) >= len(adminWords) {
		return b, fmt.Errorf("agentcheck: no words for %v, %v", r.State, r.Admin)
	}
	begin := len(b)
	b = append(b, r.State.String()...)
	if r.Admin != KeepAdmin {
		b = append(separate(b, begin), r.Admin.String()...)
	}
	if !r.Weight.IsZero() {
		b = r.Weight.append(separate(b, begin))
	}
	if !r.MaxConn.IsZero() {
		b = r.MaxConn.append(separate(b, begin))
	}
	if r.Reason != "" {
		words := len(b)
		b = append(separate(b, begin), "# "...)
		reason := len(b)
		b = appendReason(b, r.Reason)
		if len(b) == reason { // the reason has no printable character
			b = b[:words]
		}
	}
	return b, nil
}

// MarshalText returns the answer without a line end. So a Reply in JSON or in a log is one string.
// It implements [encoding.TextMarshaler].
func (r Reply) MarshalText() ([]byte, error) { return r.AppendText(nil) }

// UnmarshalText reads an answer as [Parse] does, except that the answer may lack the line end. If
// there is an error, r does not change. It implements [encoding.TextUnmarshaler].
func (r *Reply) UnmarshalText(text []byte) error {
	v, err := parse(text, false)
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// MostRestrictive combines two answers for the same server. For each setting, the result has the
// value that lets less traffic through. If only one answer names a setting, the result has that
// value.
//
//   - State: the later one in the order Up, Stopped, Down, Fail. So a fault (Down, Fail) wins over
//     an intention (Stopped).
//   - Admin: the later one in the order Ready, Drain, Maint.
//   - Weight: the lower one. To compare an absolute weight with a percentage, MostRestrictive
//     assumes the configured weight 100, and prefers the percentage if they are equal.
//   - MaxConn: the lower one. The limit 0 means unlimited, so it counts as the highest.
//   - Reason: the reason of the more severe answer, even if this reason is empty. The order of
//     severity is: Maint, a State that is down, Drain, a low Weight, a low MaxConn. If both are
//     equally severe, it is the reason of r, or the reason of o if r has no reason.
//
// The zero Reply changes nothing. The operation is associative. It is commutative, except for the
// Reason of two equally severe answers.
func (r Reply) MostRestrictive(o Reply) Reply {
	c := Reply{
		State:   max(r.State, o.State),
		Admin:   max(r.Admin, o.Admin),
		Weight:  r.Weight.lower(o.Weight),
		MaxConn: r.MaxConn,
		Reason:  r.Reason,
	}
	if o.MaxConn.rank() > r.MaxConn.rank() {
		c.MaxConn = o.MaxConn
	}
	own, other := r.severity(), o.severity()
	if other > own || other == own && r.Reason == "" {
		c.Reason = o.Reason
	}
	return c
}

// severity returns a number that is higher if the answer keeps more traffic away from the server.
// It is the highest severity of the answer's settings. So a combination of two answers has the
// severity of the more severe answer. This makes MostRestrictive associative, also for the Reason.
func (r Reply) severity() int64 {
	const step = 1 << 34 // above every rank of a MaxConn
	switch {
	case r.Admin == Maint:
		return 5 * step
	case r.State.IsDown():
		return 4 * step
	case r.Admin == Drain:
		return 3 * step
	case !r.Weight.IsZero():
		return 2*step + int64(r.Weight.rank())
	default:
		return r.MaxConn.rank()
	}
}

// separate appends the space between two words of the reply. begin is the length that b had before
// the first word: if b still has this length, separate appends nothing.
func separate(b []byte, begin int) []byte {
	if len(b) == begin {
		return b
	}
	return append(b, ' ')
}

// appendReason appends the cleaned reason; see Reply.Reason. If the reason is clean already, it
// stays the same.
func appendReason[T string | []byte](b []byte, reason T) []byte {
	begin := len(b)
	blanks := 0 // how many spaces to write before the next character; no spaces at the end
	for i := 0; i < len(reason); {
		r, size := rune(reason[i]), 1
		if r >= utf8.RuneSelf {
			r, size = decodeRune(reason[i:])
		}
		i += size
		if r == ' ' || (r == utf8.RuneError && size == 1) || !unicode.IsPrint(r) {
			blanks++
			continue
		}
		if len(b) == begin {
			blanks = 0
		}
		if len(b)-begin+blanks+size > MaxReason {
			break
		}
		for ; blanks > 0; blanks-- {
			b = append(b, ' ')
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

func decodeRune[T string | []byte](s T) (rune, int) {
	var head [utf8.UTFMax]byte
	return utf8.DecodeRune(head[:copy(head[:], s)])
}
