// Package peek finds the host name in the first bytes of a connection: the server name of a TLS
// ClientHello, the Host of an HTTP/1 request, or the :authority of an HTTP/2 request with prior
// knowledge. This name is all that a router needs if it passes the bytes on unchanged and
// terminates neither TLS nor HTTP.
//
// The package does not use sockets or clocks. It only turns bytes into values. The caller reads
// into its own buffer, and calls Parse after each read:
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
// ParseClientHello, ParseHTTP1 and ParseHTTP2 each parse one protocol and keep no state. Detect
// recognises the protocol, so one port can serve all three. NormalizeHost and NormalizeServerName
// return the normal form of a name.
//
// # Results
//
// A result is either NeedMore or final. A final result does not change when more bytes follow: if
// some prefix of a stream has a final result, all longer prefixes have the same name or the same
// kind of error. All shorter prefixes return NeedMore. The result does not depend on how the stream
// is cut into segments or TLS records.
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
// NeedMore and ErrNoName are returned as they are. All other errors are wrapped in an *Error, which
// states the field and its offset.
//
// # Strictness
//
// The server behind the router parses the same bytes again. If two server programs in use could
// read different names from these bytes, the result is ErrMalformed. Examples are two server_name
// extensions or host names, two Host fields, folded header lines, white space before a colon, an
// absolute target whose host is not the Host, and a head with both CRLF and bare LF. Otherwise the
// package is lenient. It accepts every ClientHello that crypto/tls accepts; ParseClientHello lists
// the exceptions. It skips extensions that a router does not need.
//
// # Cost
//
// The work is linear in the number of bytes, even if they arrive one at a time: a Parser remembers
// how far it has parsed. A ClientHello in one record costs one allocation, for its name. A
// ClientHello in several records costs a second allocation, for a copy of the whole hello.
//
// # What it does not do
//
// The package does not decrypt: in an encrypted ClientHello it sees only the outer name. It sees
// only the first request of an HTTP connection. With keep-alive, later requests may name other
// hosts, but a router sends them to the same upstream. It does not parse the PROXY protocol or
// QUIC.
package peek
