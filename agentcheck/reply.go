package agentcheck

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxReason is how many bytes of a reason are written or read; the rest is cut off at a
// character's boundary. HAProxy itself shows about 100.
const MaxReason = 1024

// Reply is one answer of an agent: up to four independent settings and a remark. The zero value
// changes nothing. Replies are comparable with ==.
//
// HAProxy keeps each setting until an answer changes that same one, so a Reply should name every
// setting that its agent is ever going to use; see [Lint].
type Reply struct {
	State   State   // health
	Admin   Admin   // administrative state
	Weight  Weight  // share of the traffic
	MaxConn MaxConn // limit of simultaneous connections

	// Reason is a remark for the operator, on one line. HAProxy shows it only beside a State,
	// and beside Up only if it has no error to show instead. On the wire, characters that do not
	// print (line ends, other controls, invalid UTF-8) are replaced by one space each, spaces at
	// both ends are dropped, and what exceeds MaxReason is cut.
	Reason string
}

// String returns the answer without the line end.
func (r Reply) String() string {
	b, err := r.AppendText(nil)
	if err != nil {
		return "%!(" + err.Error() + ")"
	}
	return string(b[:len(b)-1])
}

// AppendText appends the answer as one line with its line end, ready to be written:
//
//	up ready 75% maxconn:30 # reason
//
// It allocates nothing if b has room. It fails, with b as it was, only for a State or Admin that
// is none of the constants. It implements [encoding.TextAppender].
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
		remark := len(b)
		b = appendReason(b, r.Reason)
		if len(b) == remark { // nothing of it prints
			b = b[:words]
		}
	}
	return append(b, '\n'), nil
}

// MarshalText is AppendText(nil). It implements [encoding.TextMarshaler].
func (r Reply) MarshalText() ([]byte, error) { return r.AppendText(nil) }

// UnmarshalText is [Parse], except that a missing line end is accepted, since a text in a file
// or a flag is whole by itself, and that any error leaves r as it was. It implements
// [encoding.TextUnmarshaler].
func (r *Reply) UnmarshalText(text []byte) error {
	v, err := parse(text, false)
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// separate appends a space unless nothing was written since begin.
func separate(b []byte, begin int) []byte {
	if len(b) == begin {
		return b
	}
	return append(b, ' ')
}

// appendReason appends the normal form of a reason; see [Reply]. Only what is appended is ever
// read again, so the result is a fixed point: the normal form of itself.
func appendReason[T string | []byte](b []byte, reason T) []byte {
	begin := len(b)
	blanks := 0 // not written yet: dropped if nothing follows
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
