// Package relay relays bytes between pairs of TCP connections. Its processor time is little more
// than the time of the system calls. On Linux, an idle pair needs about 300 bytes of memory.
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
// The backend receives Step.Data, followed by the bytes that the client sends. The Engine leaves
// out the first Step.Skip bytes of the client. It sends every other byte exactly once and in order.
//
// When one side ends its direction (FIN), the Engine ends the same direction to the other side. The
// opposite direction stays open until it ends too, or until the idle time-out. For a connection
// that is not TCP, this needs a CloseWrite method. Without CloseWrite, the end of one direction
// ends both. If one side resets its connection, the Engine resets the other connection.
//
// A backend may accept no more bytes after it has sent an answer. The client still gets this
// answer. Meanwhile the Engine discards the bytes that the client sends. It closes both connections
// when the client has received no byte for 2 s.
//
// If one side does not read, the Engine stops reading from the other side. For each direction, the
// Engine holds at most one buffer or one pipe of bytes.
//
// HelloTimeout, DialTimeout and IdleTimeout are independent of each other. Each takes effect up to
// 125 ms late, but never early.
//
// The Engine calls Done exactly once for each Session, after it has closed both connections.
//
// # Two implementations
//
// On Linux (amd64, arm64), event loops serve TCP connections. An idle connection has no goroutine,
// buffer or pipe. README.md in this directory describes the event loops. In all other cases, two
// goroutines serve each pair of connections: on other systems, with Engine.Portable, and for
// connections that are not TCP (TLS, net.Pipe).
//
// # What it does not do
//
// The package does not parse the bytes, resolve names, log, or limit who may connect: the Session
// does that. It does not relay TCP urgent data.
package relay
