package peek

// sslv2Fields is how long the fields of fixed size are, with the length before them.
const sslv2Fields = 11

// detectSSLv2 recognises a CLIENT-HELLO in the record of SSL 2.0 with the header of
// two bytes (RFC 6101 appendix E.1), offering SSL 2.0 or anything later: old
// clients and scanners send it. RFC 6176 lets servers take it, most refuse.
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

// parseSSLv2 checks such a hello as far as it goes. It never has a name.
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
		return malformed(5, "SSL 2.0 hello: lengths that do not add up")
	}
	*h = ClientHello{LegacyVersion: uint16(version), SSLv2: true, Len: end}
	return ErrNoName
}
