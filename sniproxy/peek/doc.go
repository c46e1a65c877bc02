// Package peek finds the host name in the first bytes of a connection: the server name of a TLS
// ClientHello, the Host of an HTTP/1 request, or the :authority of an HTTP/2 request with prior
// knowledge. A router that passes the bytes on, and terminates neither TLS nor HTTP, needs only
// this name.
//
// The package has no sockets and no clocks: it turns bytes into values. The caller reads into its
// own buffer and calls Parse after each read:
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
// ParseClientHello, ParseHTTP1 and ParseHTTP2 parse one protocol each, without state. Detect
// recognises the protocol, so one port can serve all of them. NormalizeHost and NormalizeServerName
// return the normal form of a name.
//
// # Results
//
// A result is either NeedMore or final. A final result does not change when more bytes follow. For
// the prefixes of one stream, the short ones return NeedMore, and all longer ones return the same
// name or the same kind of error. The cuts between segments and between records do not matter.
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
// All except NeedMore and ErrNoName are wrapped in an *Error, which has the field and the offset.
//
// # Strictness
//
// The server parses the stream again. If two implementations in use could read different names from
// the same bytes, the result is ErrMalformed: for two server_name extensions or host names, two
// Host fields, folded header lines, white space before a colon, an absolute target that differs
// from Host, a head with both CRLF and bare LF, and so on. Otherwise the package is lenient. It
// accepts every ClientHello that crypto/tls accepts, with the exceptions that ParseClientHello
// lists, and skips extensions that it does not need.
//
// # Cost
//
// The work is linear in the number of bytes, even if they arrive one at a time: a Parser remembers
// how far it has parsed. A ClientHello in one record costs one allocation, for its name. A
// ClientHello in several records costs a copy of itself too.
//
// # What it does not do
//
// The package does not decrypt: in an encrypted ClientHello it sees only the outer name. It sees
// only the first request of an HTTP connection. With keep-alive, later requests may name other
// hosts, and reach the same upstream. It does not parse the PROXY protocol or QUIC.
package peek
