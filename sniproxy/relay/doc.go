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
// opposite direction stays open until it ends too, or until no byte has moved for HalfCloseTimeout.
// A connection that is not TCP needs a method CloseWrite for this. Without CloseWrite, the end of
// one direction ends both.
//
// A side fails when its system resets the connection, or no longer answers keep-alive probes of
// TCP. After that, the other side still gets every byte that the Engine's system has received from
// the failed side. Meanwhile the Engine drops the bytes that the other side sends. The end of the
// connection depends on the side that has failed:
//
//   - After a backend has failed, the client gets the end of the stream (FIN). The Engine sends no
//     RST, because a RST could destroy bytes that the client has not read. It closes the client's
//     connection when the client ends its direction, or 2 s after the client's system has
//     acknowledged the last byte.
//   - After a client has failed, the Engine waits until the backend's system has acknowledged every
//     byte of the client, and then resets the backend's connection (RST).
//
// If the other side acknowledges no byte for HalfCloseTimeout, the Engine closes both connections.
// These rules also apply to a server that answers in the middle of an upload and then closes: it
// counts as failed, and the client gets its answer. If a client fails before the Engine has
// connected to a backend, the Engine drops the bytes of the client.
//
// The Engine may end a connection early: after a time-out, or because of Conn.Close, CloseWithin or
// Close. Each side still gets the bytes in the send queue of its socket, and the end of the stream.
//
// If one side does not read, the Engine stops reading from the other side. For each direction, the
// Engine holds at most one buffer or one pipe of bytes.
//
// HelloTimeout, DialTimeout and IdleTimeout are independent of each other. The Engine acts up to
// 125 ms after the end of a time-out, but never before. There is one exception: when IdleTimeout or
// HalfCloseTimeout expires, and the peer has not acknowledged all bytes that the Engine has sent,
// the Engine waits for the same time again, at most 30 s. If the peer acknowledges none of these
// bytes in this time, the Engine closes the connection. Otherwise the time-out starts again.
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
// The package does not parse the bytes, resolve names, log, or limit who may connect. A Session can
// do these things.
//
// The package does not relay the urgent byte of TCP (MSG_OOB): it drops this byte. It relays all
// bytes before and after the urgent byte.
package relay
