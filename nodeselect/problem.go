package nodeselect

import (
	"strconv"
	"strings"
)

// Problem says what is wrong with an object, and where. It is an error, and a
// comparable value.
type Problem struct {
	// File is the name that was given to Parse, or the path of the file that
	// was read. It is empty for a problem found after parsing.
	File string
	// Line counts from 1: the line at fault where a parser knows it, otherwise
	// the first line of the object or of the document. 0 is unknown.
	Line int
	// Object names what is at fault: "Node a" or "Service media/tracks". It is
	// empty if the text did not get so far as to have a name.
	Object string
	// Field is the path of the field at fault ("spec.ports.nodePort"), where
	// it is known.
	Field string
	// Message says what is wrong, in one line.
	Message string
	// Warning is true if nothing was left out because of the problem: the
	// object is used, and the message says what to expect of it.
	Warning bool
}

// Error gives "file:line: object: field: message" with the parts that are known.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	} else if p.Line > 0 {
		b.WriteString("line ")
		b.WriteString(strconv.Itoa(p.Line))
		b.WriteString(": ")
	}
	for _, part := range []string{p.Object, p.Field} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(p.Message)
	return b.String()
}
