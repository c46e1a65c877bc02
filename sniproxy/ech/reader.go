package ech

// reader reads the parts of a message one after another. If a part is longer than the rest of the
// message, the reader sets "bad" to true, and returns this part and all later parts as empty.
type reader struct {
	b   []byte // the message up to the end of the part that this reader reads
	pos int    // the offset of the next byte in the message
	bad bool
}

func (r *reader) empty() bool { return r.bad || r.pos == len(r.b) }

// rest returns the bytes that the reader has not read yet.
func (r *reader) rest() []byte {
	if r.bad {
		return nil
	}
	return r.b[r.pos:len(r.b):len(r.b)]
}

// next returns the next n bytes.
func (r *reader) next(n int) []byte {
	if r.bad = r.bad || len(r.b)-r.pos < n; r.bad {
		return nil
	}
	r.pos += n
	return r.b[r.pos-n : r.pos : r.pos]
}

func (r *reader) uint8() int {
	if b := r.next(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.next(2); b != nil {
		return int(b[0])<<8 | int(b[1])
	}
	return 0
}

// vector8 returns a reader for a vector: a length field of one byte, followed by the content.
func (r *reader) vector8() reader { return r.part(r.uint8()) }

// vector16 returns a reader for a vector: a length field of two bytes, followed by the content.
func (r *reader) vector16() reader { return r.part(r.uint16()) }

// part returns a reader for the next n bytes. Its pos counts from the beginning of the message, like
// the pos of r.
func (r *reader) part(n int) reader {
	start := r.pos
	if r.next(n); r.bad {
		return reader{bad: true}
	}
	return reader{b: r.b[:r.pos:r.pos], pos: start}
}
