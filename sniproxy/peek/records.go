package peek

const (
	recordHandshake   = 22 // RFC 8446 section 5.1
	recordHeader      = 5
	maxRecord         = 1 << 14
	typeClientHello   = 1
	handshakeHeader   = 4
	clientHelloFields = handshakeHeader + 2 + 32 + 1 + 2 + 1 // the length of a ClientHello whose vectors are all empty
)

// helloScan finds the end of a ClientHello in a stream of TLS records. It remembers where the last
// complete record ended. So it reads each record once, even if each record has one byte and the
// bytes arrive one at a time.
type helloScan struct {
	off        int                   // the offset of the first record that is not complete
	messageLen int                   // the number of message bytes in the complete records
	header     [handshakeHeader]byte // the first 4 bytes of the message, or the first messageLen bytes if these are fewer
}

// parse parses the hello into h if b contains the whole hello. If b contains only a part, the error
// is NeedMore, or wraps ErrTooLarge if the whole hello is longer than limit bytes.
func (s *helloScan) parse(h *ClientHello, b []byte, limit int) error {
	in := b[:min(len(b), limit)]
	err := s.parseRecords(h, in, limit)
	if isNeedMore(err) && len(b) >= limit {
		return tooLarge(limit, "ClientHello")
	}
	return err
}

func (s *helloScan) parseRecords(h *ClientHello, b []byte, limit int) error {
	if len(b) == 0 {
		return NeedMore(2)
	}
	if b[0] != recordHandshake {
		return h.parseSSLv2(b, limit)
	}
	if len(b) > 1 && b[1] != 3 {
		return &Error{Err: ErrNotTLS, What: "record version", Offset: 1}
	}
	for {
		msg, err := s.parseRecord(b, limit)
		if err != nil {
			return err
		}
		if msg == nil {
			continue
		}
		if wrong := h.parseMessage(msg); wrong.what != "" {
			*h = ClientHello{}
			return malformed(wireOffset(b, wrong.at), wrong.what)
		}
		h.Len = s.off + recordHeader + len(msg) - s.messageLen
		if h.ServerName == "" {
			return ErrNoName
		}
		return nil
	}
}

// messageSize returns the length of a ClientHello whose first n bytes have arrived. The argument
// "header" contains the first 4 of these bytes. If n is below 4, the result is the least length of
// a ClientHello. If the bytes cannot begin a ClientHello, the second result says why. If they can,
// the second result is "".
func messageSize(header [handshakeHeader]byte, n int) (size int, what string) {
	if n > 0 && header[0] != typeClientHello {
		return 0, "handshake message: not a ClientHello"
	}
	if n < handshakeHeader {
		return clientHelloFields, ""
	}
	size = handshakeHeader + int(header[1])<<16 + int(header[2])<<8 + int(header[3])
	if size < clientHelloFields {
		return 0, "ClientHello: too short for its fields"
	}
	return size, ""
}

// parseRecord reads the record at s.off. If the ClientHello ends in this record, it returns the
// message. If the ClientHello continues in the next record, it returns nil and no error.
func (s *helloScan) parseRecord(b []byte, limit int) ([]byte, error) {
	body := s.off + recordHeader
	if missing := body - len(b); missing > 0 {
		return nil, NeedMore(missing)
	}
	head := b[s.off:body]
	n := int(head[3])<<8 | int(head[4])
	switch {
	case head[0] != recordHandshake || head[1] != 3:
		// No other record may come between the parts of a message (RFC 8446 section 5.1).
		return nil, malformed(s.off, "record: not the rest of the ClientHello")
	case n == 0:
		return nil, malformed(s.off+3, "record: empty")
	case n > maxRecord:
		return nil, malformed(s.off+3, "record: longer than 16384 bytes")
	}
	part := b[body:min(body+n, len(b))]

	header := s.header
	if s.messageLen < handshakeHeader {
		copy(header[s.messageLen:], part)
	}
	have := s.messageLen + len(part)
	size, wrong := messageSize(header, have)
	if wrong != "" {
		return nil, malformed(recordHeader, wrong)
	}

	// end is the least offset in b at which the message can end. If the message continues in further
	// records, the headers of these records count too.
	end := body + size - s.messageLen
	if beyond := end - (body + n); beyond > 0 {
		end += (beyond + maxRecord - 1) / maxRecord * recordHeader
	}
	switch {
	case have >= handshakeHeader && end > limit:
		return nil, tooLarge(recordHeader+1, "ClientHello")
	case have >= size && s.messageLen == 0:
		return b[body:end], nil
	case have >= size:
		return join(b[:end], size), nil
	case len(part) < n:
		return nil, NeedMore(end - len(b))
	}
	s.off, s.messageLen, s.header = body+n, have, header
	return nil, nil
}

// join returns a copy of the message without its record headers.
func join(b []byte, size int) []byte {
	msg := make([]byte, 0, size)
	for len(b) > recordHeader {
		n := min(recordHeader+int(b[3])<<8+int(b[4]), len(b))
		msg = append(msg, b[recordHeader:n]...)
		b = b[n:]
	}
	return msg
}

// wireOffset converts an offset in the message into an offset in b, which contains the records of
// the message with their headers. If b ends before the byte at this offset, wireOffset returns
// len(b).
func wireOffset(b []byte, at int) int {
	off := 0
	for off+recordHeader <= len(b) {
		n := int(b[off+3])<<8 | int(b[off+4])
		if at < n {
			return off + recordHeader + at
		}
		at -= n
		off += recordHeader + n
	}
	return len(b)
}

// sslv2Fields is the size in bytes of the fixed fields of an SSL 2.0 hello, including the header of
// two bytes with the length of the record.
const sslv2Fields = 11

// detectSSLv2 reports whether b begins with a CLIENT-HELLO of SSL 2.0, in a record with a header of
// two bytes (RFC 6101 appendix E.1). Old clients and scanners send this hello to offer any version
// of SSL and TLS. RFC 6176 allows servers to accept it, but most refuse it.
func detectSSLv2(b []byte) (bool, error) {
	switch {
	case len(b) > 0 && b[0] < 0x80,
		len(b) > 2 && b[2] != typeClientHello,
		len(b) > 3 && b[3] != 0 && b[3] != 3,
		len(b) > 4 && b[3] == 0 && b[4] != 2:
		return false, nil
	case len(b) < 5:
		return false, NeedMore(5 - len(b))
	}
	return true, nil
}

// parseSSLv2 checks a hello of SSL 2.0. Such a hello never has a name.
func (h *ClientHello) parseSSLv2(b []byte, limit int) error {
	known, err := detectSSLv2(b)
	if err != nil {
		return err
	}
	if !known {
		return &Error{Err: ErrNotTLS, What: "first bytes", Offset: 0}
	}
	end := 2 + (int(b[0]&0x7f)<<8 | int(b[1]))
	switch {
	case end < sslv2Fields:
		return malformed(0, "SSL 2.0 hello: too short for its fields")
	case end > limit:
		return tooLarge(0, "SSL 2.0 hello")
	case len(b) < end:
		return NeedMore(end - len(b))
	}
	c := cursor{b: b[:end], pos: 3, bad: -1}
	version, suites, session, challenge := c.uint16(), c.uint16(), c.uint16(), c.uint16()
	if suites%3 != 0 || challenge < 16 || challenge > 32 || sslv2Fields+suites+session+challenge != end {
		return malformed(5, "SSL 2.0 hello: inconsistent lengths")
	}
	*h = ClientHello{LegacyVersion: uint16(version), SSLv2: true, Len: end}
	return ErrNoName
}
