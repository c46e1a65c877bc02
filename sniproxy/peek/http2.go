package peek

import (
	"bytes"
	"errors"

	"golang.org/x/net/http2/hpack"
)

// preface is the start of every HTTP/2 connection (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// These are types and flags of frames (RFC 9113 section 6).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePushPromise  = 5
	frameContinuation = 9

	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	frameHeader = 9
	// These are the limits that HTTP/2 has by default. They are in force until the client has
	// received the SETTINGS of the server.
	maxFrame         = 1 << 14
	headerTableBytes = 4096

	// maxHeaderList bounds the decoded header fields of a request together, in bytes.
	maxHeaderList = MaxBytes
)

// ParseHTTP2 parses the beginning of a cleartext HTTP/2 connection with prior knowledge, up to the
// end of the header block of the first request. This end must be within MaxBytes bytes. The error
// is nil, NeedMore, ErrNoName (:authority and host are missing or empty), or an *Error that wraps
// ErrNotHTTP, ErrTooLarge or ErrMalformed.
//
// The host is :authority. Without :authority, it is the host field (RFC 9113 section 8.3.1). The
// error wraps ErrMalformed in these cases:
//
//   - two :authority fields, or two host fields;
//   - a host field that differs from :authority;
//   - a frame that must not come before the first request;
//   - a header block that HPACK cannot decode;
//   - a pseudo-header field that is unknown, repeated, or after a regular field;
//   - a field name with upper case letters or control characters.
//
// A router cannot serve clients that wait for the SETTINGS of the server before their first
// request, because it has not chosen a server yet. The usual clients do not wait.
func ParseHTTP2(b []byte) (Request, error) {
	if !bytes.HasPrefix(b, []byte(preface)[:min(len(b), len("PRI "))]) {
		return Request{}, &Error{Err: ErrNotHTTP, What: "connection preface", Offset: 0}
	}
	var s frameScan
	return s.parse(b, MaxBytes)
}

// frameScan parses HTTP/2 frames. It remembers where the last complete frame ended, so it reads
// each frame once, even if the bytes arrive one at a time.
type frameScan struct {
	off    int    // the offset of the first frame that is not complete
	stream uint32 // the stream of an incomplete header block; 0 means none
	start  int    // the offset of the HEADERS frame of that block
}

func (s *frameScan) parse(b []byte, limit int) (Request, error) {
	if s.off == 0 {
		have := min(len(b), len(preface))
		for i, c := range b[:have] {
			if c != preface[i] {
				return Request{}, malformed(i, "connection preface")
			}
		}
		if have < len(preface) {
			return Request{}, needMoreOf(len(preface), b, limit)
		}
		s.off = len(preface)
	}
	for {
		r, again, err := s.parseFrame(b, limit)
		if !again {
			return r, err
		}
	}
}

// needMoreOf returns a NeedMore with the number of bytes that are missing in b before the offset
// "end". If end exceeds limit, it returns ErrTooLarge, because the caller would have to read too
// much.
func needMoreOf(end int, b []byte, limit int) error {
	if end > limit {
		return tooLarge(limit, "HTTP/2 request")
	}
	return NeedMore(end - len(b))
}

// parseFrame parses the frame at s.off. The result "again" is true if the request is not complete
// after this frame, so that the caller must parse the next frame too.
func (s *frameScan) parseFrame(b []byte, limit int) (r Request, again bool, err error) {
	body := s.off + frameHeader
	if len(b) < body || body > limit {
		return r, false, needMoreOf(body, b, limit)
	}
	h := b[s.off:body]
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags := h[3], h[4]
	stream := (uint32(h[5])<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])) &^ (1 << 31)
	if what := s.frameError(kind, flags, length, stream); what != "" {
		return r, false, malformed(s.off, what)
	}
	end := body + length
	if len(b) < end || end > limit {
		return r, false, needMoreOf(end, b, limit)
	}
	payload := b[body:end]
	switch kind {
	case frameHeaders:
		if payload = stripHeaders(payload, flags); payload == nil {
			return r, false, malformed(body, "HEADERS: padding or priority beyond the end")
		}
	case frameContinuation:
	default:
		s.off = end
		return r, true, nil
	}
	if kind == frameHeaders && flags&flagEndHeaders == 0 {
		s.start, s.stream = s.off, stream
	}
	if flags&flagEndHeaders == 0 {
		s.off = end
		return r, true, nil
	}
	if kind == frameContinuation {
		payload = joinBlock(b[s.start:end])
	}
	r, err = parseFields(payload, body)
	if err == nil || errors.Is(err, ErrNoName) {
		r.Len = end
	}
	return r, false, err
}

// joinBlock returns a copy of a header block that consists of several frames. parseFrame has
// checked the argument "frames", which holds all frames of the block. parseFrame calls joinBlock
// only for a complete block, so it never copies an incomplete one.
func joinBlock(frames []byte) []byte {
	block := make([]byte, 0, len(frames))
	for len(frames) > 0 {
		end := frameHeader + int(frames[0])<<16 + int(frames[1])<<8 + int(frames[2])
		payload := frames[frameHeader:end]
		if frames[3] == frameHeaders {
			payload = stripHeaders(payload, frames[4])
		}
		block = append(block, payload...)
		frames = frames[end:]
	}
	return block
}

// frameError returns the reason why a frame is not allowed at this place. "" means that it is
// allowed.
func (s *frameScan) frameError(kind, flags byte, length int, stream uint32) string {
	first := s.off == len(preface)
	switch {
	case length > maxFrame:
		return "frame: longer than 16384 bytes"
	case first && (kind != frameSettings || flags&flagAck != 0):
		return "frame: SETTINGS must be the first"
	case s.stream != 0 && (kind != frameContinuation || stream != s.stream):
		return "frame: header block is not continued"
	}
	switch kind {
	case frameSettings:
		if stream != 0 || length%6 != 0 || flags&flagAck != 0 && length != 0 {
			return "SETTINGS: bad stream or length"
		}
	case frameHeaders:
		if stream%2 == 0 {
			return "HEADERS: not a stream that a client opens"
		}
	case frameContinuation:
		if s.stream == 0 {
			return "CONTINUATION: of no header block"
		}
	case frameData, frameReset, framePushPromise:
		return "frame: of a stream that is not open"
	}
	return ""
}

// stripHeaders removes padding and priority from the payload of a HEADERS frame (RFC 9113 section
// 6.2). It returns nil if the payload is too short for the padding and the priority.
func stripHeaders(p []byte, flags byte) []byte {
	padding := 0
	if flags&flagPadded != 0 {
		if len(p) < 1 {
			return nil
		}
		padding, p = int(p[0]), p[1:]
	}
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			return nil
		}
		p = p[5:]
	}
	if padding > len(p) {
		return nil
	}
	return p[: len(p)-padding : len(p)-padding]
}

// fieldScan collects what the parser needs of a header block while HPACK decodes its fields.
type fieldScan struct {
	method, authority, host string
	pseudo                  [5]bool // the pseudo-header fields that were seen
	hosts                   int
	regular                 bool // a regular field was seen
	size                    int  // the size of all fields, computed as in RFC 9113 section 6.5.2
	what                    string
}

// parseFields decodes a header block. The argument "at" is the offset of the block. Errors state
// this offset.
func parseFields(block []byte, at int) (Request, error) {
	var s fieldScan
	var d *hpack.Decoder
	d = hpack.NewDecoder(headerTableBytes, func(f hpack.HeaderField) {
		s.size += int(f.Size())
		if s.size > maxHeaderList {
			// HPACK can encode a field of 4 KiB as one byte, so a small header block can decode to
			// a huge list of fields. The list has exceeded maxHeaderList, so the request is refused
			// as too large. Stop decoding here, because no later field can change this.
			d.SetEmitEnabled(false)
			return
		}
		if s.what == "" {
			s.what = s.add(f.Name, f.Value)
		}
	})
	d.SetMaxStringLength(maxHeaderList)
	_, err := d.Write(block)
	if err == nil {
		err = d.Close()
	}
	switch {
	case s.size > maxHeaderList, errors.Is(err, hpack.ErrStringLength):
		return Request{}, tooLarge(at, "header list")
	case err != nil:
		return Request{}, malformed(at, "header block: "+err.Error())
	case s.what != "":
		return Request{}, malformed(at, s.what)
	case s.method == "":
		return Request{}, malformed(at, ":method: missing")
	}
	r := Request{Method: s.method, Host: s.authority}
	if s.hosts > 0 {
		if r.Host != "" && !sameHost([]byte(s.host), []byte(r.Host)) {
			return Request{}, malformed(at, "host: not that of :authority")
		}
		if r.Host == "" {
			r.Host = s.host
		}
	}
	if r.Host == "" {
		return r, ErrNoName
	}
	return r, nil
}

// add stores one field. If the field is malformed (RFC 9113 sections 8.2.1 and 8.3), add returns
// the reason, and otherwise "".
func (s *fieldScan) add(name, value string) string {
	for i := range len(value) {
		if c := value[i]; c == 0 || c == '\r' || c == '\n' {
			return "header field: control character"
		}
	}
	if name == "" {
		return "header field: empty name"
	}
	if name[0] == ':' {
		return s.addPseudo(name, value)
	}
	for i := range len(name) {
		if c := name[i]; !tokenByte(c) || 'A' <= c && c <= 'Z' {
			return "header field: bad character in the name"
		}
	}
	s.regular = true
	if name == "host" {
		s.host = value
		if s.hosts++; s.hosts > 1 {
			return "host: second one"
		}
	}
	return ""
}

func (s *fieldScan) addPseudo(name, value string) string {
	index := 0
	switch name {
	case ":authority":
		s.authority = value
	case ":method":
		index, s.method = 1, value
	case ":path":
		index = 2
	case ":scheme":
		index = 3
	case ":protocol": // RFC 8441
		index = 4
	default:
		return "pseudo-header field: unknown"
	}
	if s.pseudo[index] {
		return "pseudo-header field: second one"
	}
	s.pseudo[index] = true
	if s.regular {
		return "pseudo-header field: after a regular one"
	}
	return ""
}
