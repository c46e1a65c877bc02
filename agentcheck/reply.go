package agentcheck

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxReason is the length of the longest reason in bytes. Writing and reading cut a longer reason
// at the boundary of a character. HAProxy itself shows about 100 bytes.
const MaxReason = 1024

// Reply is one answer of an agent: up to four independent settings and a reason. The zero value
// changes nothing. Replies are comparable with ==.
//
// HAProxy keeps each setting until an answer names the same setting again. So every Reply of an
// agent should name all settings that the agent ever changes; see [Lint].
type Reply struct {
	State   State   // health
	Admin   Admin   // administrative state
	Weight  Weight  // weight, in percent of the configured one or absolute
	MaxConn MaxConn // limit of simultaneous connections

	// Reason is one line of text for the operator. HAProxy shows it only if the answer also names
	// a State, and for Up only if HAProxy has no error to show instead. Writing a Reply replaces
	// each character that does not print (line ends, other controls, invalid UTF-8) by one space,
	// removes spaces at both ends, and cuts the text to MaxReason.
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

// AppendLine appends the answer with its line end, as HAProxy reads it from the wire:
//
//	up ready 75% maxconn:30 # reason\n
//
// It allocates nothing if b has room. If State or Admin is not one of the constants, it returns b
// unchanged and an error. There are no other errors.
func (r Reply) AppendLine(b []byte) ([]byte, error) {
	b, err := r.AppendText(b)
	if err != nil {
		return b, err
	}
	return append(b, '\n'), nil
}

// AppendText is [Reply.AppendLine] without the line end: the form for logs, JSON and flags. It
// implements [encoding.TextAppender].
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
		if len(b) == reason { // no character of the reason prints
			b = b[:words]
		}
	}
	return b, nil
}

// MarshalText returns the answer without a line end. It implements [encoding.TextMarshaler], so a
// Reply in JSON or in a log is one string.
func (r Reply) MarshalText() ([]byte, error) { return r.AppendText(nil) }

// UnmarshalText reads an answer as [Parse] does, with two differences: the line end may be
// missing, and any error leaves r unchanged. It implements [encoding.TextUnmarshaler].
func (r *Reply) UnmarshalText(text []byte) error {
	v, err := parse(text, false)
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// MostRestrictive combines two answers for the same server, setting by setting, into the more
// restrictive one: the server gets the traffic that both answers allow. If only one answer names a
// setting, the result has that setting.
//
//   - State: the later of Up, Stopped, Down, Fail. The last three have the same effect, so a fault
//     hides an intention.
//   - Admin: the later of Ready, Drain, Maint.
//   - Weight: the lower one. A node at 100% and a service at 50% give 50%. An absolute weight
//     counts as a percentage, as if the configured weight were 100. If both are equal, the result
//     has the percentage.
//   - MaxConn: the lower one. 0 (unlimited) is the highest.
//   - Reason: the reason of the more severe answer, even if that is empty. Severity is, from the
//     highest: Maint, a State that is down, Drain, a lower Weight, a lower MaxConn. If both are
//     equally severe, the result has the reason of r. If that is empty, it has the reason of o.
//
// Combining with the zero Reply changes nothing. The operation is associative. It is commutative,
// except for the Reason of two equally severe answers.
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

// severity orders answers by the traffic that they keep from the server. It is the maximum over
// the settings, so the severity of a combination is the maximum of the two severities. For that
// reason MostRestrictive is associative in the Reason too.
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

// separate appends a space, unless b ends at begin: the first word needs no space before it.
func separate(b []byte, begin int) []byte {
	if len(b) == begin {
		return b
	}
	return append(b, ' ')
}

// appendReason appends the normal form of a reason; see [Reply]. A text in normal
// form stays as it is.
func appendReason[T string | []byte](b []byte, reason T) []byte {
	begin := len(b)
	blanks := 0 // spaces to write before the next character; dropped if none follows
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
