// Package peek tells from the first bytes of a connection which host it is for:
// the server name of a TLS ClientHello, the Host of an HTTP/1 request or the
// :authority of an HTTP/2 request with prior knowledge. It is what a router needs
// that passes bytes on and ends neither TLS nor HTTP.
//
// All of it is pure: bytes in, values out, no socket and no clock. A caller reads
// into a buffer that it owns and asks after each read:
//
//	var p peek.Parser // TLS and HTTP, 64 KiB at most
//	for {
//		n, err := conn.Read(buf[len(buf):cap(buf)])
//		buf = buf[:len(buf)+n]
//		…
//		seen, err := p.Parse(buf)
//		if more, ok := err.(peek.NeedMore); ok {
//			buf = slices.Grow(buf, int(more)) // and read on
//			continue
//		}
//		…                      // err, or seen.Name is the host in normal form
//	}
//
// ParseClientHello, ParseHTTP1 and ParseHTTP2 do one protocol each, without state;
// Detect tells the protocols apart, so that one port can serve them all.
// NormalizeHost and NormalizeServerName bring names to one form.
//
// # Answers
//
// Every answer is either final or NeedMore, and a final answer does not change when
// more bytes follow: of all the prefixes of a stream, the short ones say NeedMore
// and all others give the same name or the same kind of error. How the bytes were
// cut into segments, and the ClientHello into records, does not matter.
//
// The errors tell apart what a router must treat apart:
//
//	NeedMore         not decided yet; the value is how many bytes are missing at least
//	ErrNotTLS        something else than a ClientHello
//	ErrNotHTTP       something else than an HTTP request
//	ErrNoName        well-formed, and names no host: a default route may take it
//	ErrTooLarge      a hello or a head of more than the bound
//	ErrMalformed     breaks its protocol: must never reach a default route
//	ErrInvalidName   names a host in a way that no host is called; ErrIPLiteral,
//	                 ErrControlCharacter and ErrNameTooLong say why
//
// All but NeedMore and ErrNoName arrive in an *Error, which knows the offset and the
// field.
//
// # Strictness
//
// Whoever receives the stream in the end parses it again. Where two of today's
// implementations could read different names from the same bytes, the answer is
// ErrMalformed: two server_name extensions or host names, two Host fields, folded
// header lines, white space before a colon, an absolute target that disagrees with
// Host, an HTTP head with both CRLF and bare LF, and so on. Elsewhere the package
// is lenient: it accepts each ClientHello that crypto/tls accepts (but for the
// oddities that ParseClientHello lists), and extensions that it does not need are
// not looked into.
//
// # Cost
//
// Work is linear in the number of bytes, also when they come one at a time: a
// Parser remembers where it stopped. A ClientHello in one record costs one
// allocation, its name; one in several records costs a copy of itself.
//
// # What it does not do
//
// It does not decrypt: of an encrypted ClientHello only the outer name is visible.
// It sees the first request of an HTTP connection; with keep-alive, later ones may
// name other hosts, and go where the first one went. It does not know the PROXY
// protocol or QUIC.
package peek
