// Package relay relays bytes between pairs of TCP connections, in little more processor time than
// that of the system calls. On Linux, an idle pair needs about 300 bytes of memory.
//
// An Engine accepts connections and passes their first bytes to a Session, which decides where the
// connection goes. The Engine connects there and relays both ways until both sides have ended:
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
// A Session returns its decisions as values (Step). Engine.Relay relays between two connections
// that exist already.
//
// # Contract
//
// The backend receives Step.Data, and then the bytes of the client, exactly once and in order. The
// Engine leaves out the first Step.Skip bytes of the client.
//
// When one side ends its direction (FIN), the Engine ends the same direction to the other side. The
// opposite direction stays open until it ends too, or until no byte has moved for HalfCloseTimeout.
// On a connection that is not TCP and has no method CloseWrite, the end of one direction ends both.
//
// A side fails when its system resets the connection, or no longer answers keep-alive probes of
// TCP. The other side still gets every byte that the Engine's system has received from the failed
// side, and the Engine drops the bytes that the other side sends. Then:
//
//   - After a backend has failed, the client gets FIN, and no RST, which could destroy unread
//     bytes. The Engine closes the client's connection when the client ends its direction, or 2 s
//     after the client's system has acknowledged the last byte.
//   - After a client has failed, the Engine waits until the backend's system has acknowledged every
//     byte of the client, and then resets the backend's connection (RST). For a connection that is
//     not TCP, this needs a method NetConn that returns a TCP connection, as TLS has. Without this
//     method, the Engine closes the connection as usual.
//
// If the other side acknowledges no byte for HalfCloseTimeout, the Engine closes both connections.
// If a client fails before a backend is connected, the Engine drops the client's bytes.
//
// A server that answers in the middle of an upload and then closes its connection also counts as a
// failed side: the client still gets the whole answer.
//
// If the Engine ends a connection early, after a time-out or because of Conn.Close, CloseWithin or
// Close, each side still gets the bytes in the send queue of its socket, and FIN.
//
// If one side does not read, the Engine stops reading from the other side, after at most one buffer
// or one pipe of bytes for each direction.
//
// The Engine acts up to 125 ms after the end of a time-out, and never before.
//
// When IdleTimeout or HalfCloseTimeout expires, a peer may have bytes that it has not acknowledged.
// The Engine then waits once more, for the same time but at most 30 s. If the peer acknowledges some
// of these bytes meanwhile, the time-out starts again. If not, the Engine closes the connection.
//
// The Engine calls Done exactly once for each Session, after it has closed both connections.
//
// # Two implementations
//
// On Linux (amd64, arm64), event loops serve TCP connections, and an idle connection has no
// goroutine, buffer or pipe; see README.md. On other systems, with Engine.Portable, and for
// connections that are not TCP (TLS, net.Pipe), two goroutines serve each pair.
//
// # What it does not do
//
// The package does not parse the bytes, resolve names, log, or limit who may connect: a Session can
// do this. The package drops the urgent byte of TCP (MSG_OOB), and relays all bytes before and
// after it.
package relay
