// Package relay relays bytes between pairs of TCP connections. It needs little more processor time
// than the system calls themselves, and next to no memory for an idle pair.
//
// An Engine accepts connections and passes their first bytes to a Session. The Session decides
// where the connection goes. The Engine connects there and relays both ways until both sides have
// ended:
//
//	var e relay.Engine
//	err := e.Serve(listener, func(c relay.Conn) relay.Session {
//		return &session{conn: c} // nil refuses the connection
//	})
//
//	func (s *session) Hello(data []byte, err error) relay.Step {
//		…
//		return relay.Step{Action: relay.Connect, Addr: backend}
//	}
//
// A Session returns its decisions as values (Step); the Engine carries them out. Engine.Relay
// relays between two connections that exist already.
//
// # Contract
//
// The backend receives Step.Data, and then every byte of the client except the first Step.Skip,
// once and in order.
//
// The Engine passes on the end of one direction (FIN). The other direction stays open until it ends
// too, or until the idle time-out. A connection that is not TCP needs a CloseWrite method for this:
// without one, the end of one direction ends both. The Engine passes on a reset as a reset.
//
// A backend that accepts no more bytes may have sent an answer before. The client still gets this
// answer. Meanwhile the Engine discards the bytes of the client, until no byte has moved to it for
// 2 s.
//
// When a side does not read, the Engine stops reading from the other side. It holds at most one
// buffer or one pipe of bytes for each direction.
//
// The time-outs of hello, dial and idle are independent. Each may be late by up to an eighth of a
// second, but never early.
//
// The Engine calls Done exactly once for each Session, after it has closed both connections.
//
// # Two implementations
//
// On Linux (amd64, arm64), event loops serve TCP connections. An idle connection has no goroutine,
// buffer or pipe. README.md in this directory describes how. On other systems, with
// Engine.Portable, and for connections that are not TCP (TLS, net.Pipe), two goroutines serve each
// pair.
//
// # What it does not do
//
// The package does not parse the bytes, resolve names, log, or limit who may connect: the Session
// does that. It does not relay TCP urgent data.
package relay
