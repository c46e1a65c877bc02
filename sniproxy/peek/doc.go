// Package peek finds the host name in the first bytes of a connection: the server name of a TLS
// ClientHello, the Host of an HTTP/1 request, or the :authority of an HTTP/2 request with prior
// knowledge. A router that passes the bytes on unchanged needs only this name.
//
// The package turns bytes into values, without sockets or clocks. The caller reads into its own
// buffer, and calls Parse after each read:
//
//	var p peek.Parser // TLS and HTTP, 64 KiB at most
//	for {
//		n, err := conn.Read(buf[len(buf):cap(buf)])
//		buf = buf[:len(buf)+n]
//		…
//		seen, err := p.Parse(buf)
//		if more, ok := err.(peek.NeedMore); ok {
//			buf = slices.Grow(buf, int(more)) // and read again
//			continue
//		}
//		…                      // err, or seen.Name is the host in normal form
//	}
//
// ParseClientHello, ParseHTTP1 and ParseHTTP2 each parse one protocol without state. Detect
// recognises the protocol, so one port can serve all three. NormalizeHost and NormalizeServerName
// return the normal form of a name.
//
// # Results
//
// Parse returns NeedMore until it can decide. Every other result is final: more bytes do not change
// the name or the kind of error. The result depends only on the bytes of the client, and not on the
// TCP segments or TLS records.
//
// There is one kind of error for each case that a router must treat differently:
//
//	NeedMore         not decided yet; the value is the least number of missing bytes
//	ErrNotTLS        not a ClientHello
//	ErrNotHTTP       not an HTTP request
//	ErrNoName        well-formed, but names no host: may go to a default route
//	ErrTooLarge      the hello or head exceeds the bound
//	ErrMalformed     breaks its protocol: must never go to a default route
//	ErrInvalidName   the name is not a host name; ErrIPLiteral, ErrControlCharacter and
//	                 ErrNameTooLong are more precise
//
// Parse wraps each error except NeedMore and ErrNoName in an *Error, which states the field and its
// offset.
//
// # Strictness
//
// If two common server programs could read different names from the bytes, the result is
// ErrMalformed. This is so in these cases:
//
//   - two server_name extensions, or two host names in the extension;
//   - two Host fields, or an absolute target whose host is not the Host;
//   - folded header lines, or white space before a colon;
//   - a head with both CRLF and bare LF.
//
// Otherwise the package is lenient; see ParseClientHello.
//
// # Cost
//
// The work grows in proportion to the number of bytes, even if they arrive one at a time. A
// ClientHello costs one allocation for its name, and a second one, for a copy, if it comes in
// several records.
//
// # What it does not do
//
// In an encrypted ClientHello, the package sees only the outer name. It sees only the first request
// of an HTTP connection: later ones may name other hosts, but a router sends them to the same
// upstream. It does not parse the PROXY protocol. Package quic, in a subdirectory, reads the
// ClientHello of QUIC.
package peek
