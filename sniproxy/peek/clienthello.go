package peek

import "iter"

// ClientHello is what a router wants to know of the first message of a TLS client.
//
// ServerName is a copy. The lists are views of the bytes that were parsed, or of a
// copy if the hello came in several records: they are good for as long as the
// caller leaves those bytes alone.
type ClientHello struct {
	// ServerName is the host_name of the server_name extension (RFC 6066 section
	// 3) exactly as sent: any case, perhaps a trailing dot, perhaps no valid name;
	// see NormalizeServerName. Empty beside ErrNoName.
	ServerName string

	// LegacyVersion is the version field of the message. From TLS 1.3 on it is
	// 0x0303 whatever is offered; see MaxVersion.
	LegacyVersion uint16

	// ECH tells that the outer form of an encrypted hello is offered (RFC 9849). Then
	// ServerName is the public name of a provider, or the real name beside a decoy:
	// browsers send decoys ("GREASE") to everybody.
	ECH bool

	// SSLv2 tells that the hello came in the form of SSL 2.0, which names no host.
	SSLv2 bool

	// Len is how many bytes the hello takes, with the headers of its records.
	Len int

	alpn, versions, keyShares []byte // bodies of the lists, checked
}

// ParseClientHello parses the ClientHello at the beginning of b, of MaxBytes at
// most; more may follow it. The error is nil, NeedMore, ErrNoName (the hello is
// complete otherwise) or an *Error with ErrNotTLS, ErrTooLarge or ErrMalformed.
//
// It takes every ClientHello that crypto/tls takes, except: records of another major
// version than 3, warning alerts before or within the hello, hellos above MaxBytes.
// It takes more in two ways: names may have a trailing dot, and extensions that it
// has no use for are not looked into.
func ParseClientHello(b []byte) (ClientHello, error) {
	var s helloScan
	var h ClientHello
	err := s.scan(&h, b, MaxBytes)
	return h, err
}

// ALPN yields the application protocols offered, in the client's order. They are
// views, and opaque bytes: clients mix random ones in.
func (h ClientHello) ALPN() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for l := h.alpn; len(l) > 0; l = l[1+l[0]:] {
			if !yield(l[1 : 1+l[0] : 1+l[0]]) {
				return
			}
		}
	}
}

// OffersALPN tells whether the client offers an application protocol: "h2",
// "http/1.1", "acme-tls/1".
func (h ClientHello) OffersALPN(protocol string) bool {
	for p := range h.ALPN() {
		if string(p) == protocol {
			return true
		}
	}
	return false
}

// SupportedVersions yields the supported_versions extension, which clients of TLS
// 1.3 send, in the client's order and with the reserved values that some mix in.
func (h ClientHello) SupportedVersions() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for l := h.versions; len(l) >= 2; l = l[2:] {
			if !yield(uint16(l[0])<<8 | uint16(l[1])) {
				return
			}
		}
	}
}

// MaxVersion is the highest version offered, such as tls.VersionTLS13.
func (h ClientHello) MaxVersion() uint16 {
	if len(h.versions) == 0 {
		return min(h.LegacyVersion, 0x0303) // RFC 8446 section 4.2.1
	}
	var highest uint16
	for v := range h.SupportedVersions() {
		if !isGREASE(v) {
			highest = max(highest, v)
		}
	}
	return highest
}

// KeyShares yields the groups that the client sends key shares for, in its order and
// with the reserved values that some mix in.
func (h ClientHello) KeyShares() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for l := h.keyShares; len(l) >= 4; {
			if !yield(uint16(l[0])<<8 | uint16(l[1])) {
				return
			}
			l = l[4+int(l[2])<<8+int(l[3]):]
		}
	}
}

// PostQuantum tells whether one of the key shares is of ML-KEM, alone or in a hybrid,
// or of the Kyber draft that was deployed before it.
func (h ClientHello) PostQuantum() bool {
	for group := range h.KeyShares() {
		switch group {
		case 0x0200, 0x0201, 0x0202, // MLKEM512, MLKEM768, MLKEM1024
			0x11eb, 0x11ec, 0x11ed, // SecP256r1MLKEM768, X25519MLKEM768, SecP384r1MLKEM1024
			0x6399, 0x639a: // X25519Kyber768Draft00, SecP256r1Kyber768Draft00
			return true
		}
	}
	return false
}

// isGREASE tells the values that RFC 8701 reserves for clients to mix in.
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }
