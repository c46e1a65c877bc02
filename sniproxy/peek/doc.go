// Package peek finds the host name in the first bytes of a connection: the server name of a TLS
// ClientHello, the Host of an HTTP/1 request, or the :authority of an HTTP/2 request with prior
// knowledge. A router that terminates neither TLS nor HTTP, and passes the bytes on unchanged,
// needs only this name.
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
// Parse returns NeedMore until it can decide. Every other result is final: for the same bytes
// followed by more bytes, Parse returns the same name or the same kind of error. The result depends
// only on the bytes of the client, and not on the TCP segments or the TLS records in which they
// arrive.
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
// Parse returns NeedMore and ErrNoName as they are. It wraps each other error in an *Error, which
// states the field and its offset.
//
// # Strictness
//
// The server behind the router parses the same bytes again. If two common server programs could
// read different names from these bytes, the result is ErrMalformed. Examples are two server_name
// extensions or host names, two Host fields, folded header lines, white space before a colon, an
// absolute target whose host is not the Host, and a head with both CRLF and bare LF. Otherwise the
// package is lenient. It accepts every ClientHello that crypto/tls accepts; ParseClientHello lists
// the exceptions. It skips extensions that a router does not need.
//
// # Cost
//
// The work grows in proportion to the number of bytes, even if they arrive one at a time, because a
// Parser remembers how far it has parsed. A ClientHello in one record costs one allocation, for its
// name. A ClientHello in several records costs a second allocation, for a copy of the whole hello.
//
// # What it does not do
//
// The package does not decrypt: in an encrypted ClientHello it sees only the outer name. It sees
// only the first request of an HTTP connection. With keep-alive, later requests may name other
// hosts, but a router sends them to the same upstream. The package does not parse the PROXY
// protocol. Package quic, in a subdirectory, reads the ClientHello of QUIC.
package peek
