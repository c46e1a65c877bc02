//go:build amd64 || arm64

package relay

import (
	"io"

	"golang.org/x/sys/unix"
)

// readHello reads what the client says first, until the Session has decided.
func (f *flow) readHello() {
	s, o, limit := &f.side[clientSide], f.opening, f.loop.ev.shared.set.helloLimit
	for f.phase == PhaseHello && s.readable {
		buf := f.helloBuffer(limit)
		n, e := sysRead(s.fd, buf)
		switch {
		case e == unix.EAGAIN:
			s.readable = false
			continue
		case e != noError:
			f.noHello(ByClient, e)
			return
		case n == 0:
			s.eof = true
			f.noHello(ByClient, io.EOF)
			return
		}
		if n < len(buf) && !s.ending {
			s.readable = false
		}
		if len(o.data) == 0 {
			o.data = buf[:n]
		} else {
			o.data = o.data[:len(o.data)+n]
		}
		step := f.session.Hello(o.data, nil)
		if step.Action == More && len(o.data) >= limit {
			f.noHello(BySession, ErrHelloTooLong)
			return
		}
		f.do(step)
	}
	f.settle()
}

// helloBuffer is where the next bytes of the hello go: the loop's buffer at first, since
// most hellos come whole, then a buffer that grows with them.
func (f *flow) helloBuffer(limit int) []byte {
	o := f.opening
	switch len(o.data) {
	case 0:
		return f.loop.scratch[:min(limit, scratchSize)]
	case cap(o.data):
		o.data = append(make([]byte, 0, min(2*len(o.data), limit)), o.data...)
	}
	return o.data[len(o.data):cap(o.data)]
}

// keepHello takes what the client has said out of the loop's buffer, if it is there and
// still needed.
func (f *flow) keepHello() {
	o, scratch := f.opening, f.loop.scratch
	if o != nil && len(o.data) > 0 && &o.data[0] == &scratch[0] {
		o.data = append(make([]byte, 0, max(len(o.data), 512)), o.data...)
	}
}

// noHello asks what to do with a client that says no more, if there is anything that can
// be done. by is who ends the connection if the Session has nothing to say to it.
func (f *flow) noHello(by Party, err error) {
	reason := helloError(err)
	step := f.session.Hello(f.opening.data, reason)
	f.decide()
	switch {
	case err == io.EOF && undecided(step):
		f.finish(ByClient, nil)
	case by == ByClient && err != io.EOF:
		f.finish(ByClient, reason)
	case undecided(step):
		f.finish(by, reason)
	default:
		f.do(step)
		f.settle()
	}
}
