// Package relay moves bytes between pairs of TCP connections at the cost of the system
// calls that this takes, and holds next to nothing for a pair that is silent.
//
// An Engine accepts connections, gives their first bytes to a Session, which says where
// they go, connects there and carries bytes both ways until both sides are done:
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
// A Session answers with values, Steps; the Engine has the effects. Two connections that
// exist already are handed over by Engine.Relay.
//
// # Contract
//
// The backend receives Step.Data, then every byte of the client but the first Step.Skip,
// once and in order. The end of one direction (FIN) is passed on as the end of that
// direction; the other goes on until it ends too or is idle for the idle time-out. A connection
// that is not TCP has to have a CloseWrite method for that: the end of what goes to one without
// ends both directions. A reset is passed on as a reset. A backend that takes no more may have answered before: the client
// still gets that, and what it goes on sending is discarded, until nothing has moved to it for
// two seconds. A side that does not read stops the Engine from reading the other: what is held
// for it is bounded by one buffer or one pipe.
//
// The time-outs of hello, dial and idle are apart: none of them has an effect on a later
// phase. They are coarse: up to an eighth of a second late, never early.
//
// Done is called exactly once for each Session, after both connections are closed.
//
// # Two implementations
//
// On Linux (amd64, arm64) TCP connections are served by event loops without a goroutine,
// a buffer or a pipe for a connection that is idle; see README.md in this directory for
// how. Elsewhere, for connections that are not TCP (TLS, net.Pipe) and with
// Engine.Portable, goroutines do the same: two for each pair.
//
// # What it does not do
//
// It does not parse what it carries, resolve names, log, or limit who may connect: that
// is the Session's side. It does not carry TCP urgent data.
package relay
