//go:build amd64 || arm64

package relay

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// connect begins a Connect. An error means that there will be no connection.
func (f *flow) connect() error {
	f.phase, f.dialing = PhaseDial, f.loop.now
	step := &f.opening.step
	if step.IdleTimeout != 0 {
		f.idle = timeout(step.IdleTimeout, 0)
	}
	f.schedule()
	if step.Dial != nil {
		f.dialElsewhere()
		return nil
	}
	domain := unix.AF_INET6
	if ip := step.Addr.Addr(); ip.Is4() || ip.Is4In6() {
		domain = unix.AF_INET
	}
	fd, e := sysSocket(domain)
	if e != noError {
		return dialError(e)
	}
	f.side[backendSide] = side{fd: fd}
	if e = sysConnect(fd, step.Addr); e != noError && e != unix.EINPROGRESS {
		return dialError(e)
	}
	if header, data := f.opening.first(); len(header)+len(data) == 0 {
		return nil // nothing to try with: EPOLLOUT will tell
	}
	return f.tryFirst()
}

// tryFirst sends the first bytes to the backend, which finds out whether the connection is
// there: a socket that is still connecting answers EAGAIN, one that has failed with the
// reason. On a connection within one machine it is there when connect(2) returns.
func (f *flow) tryFirst() error {
	e := f.sendFirst()
	if e == unix.EAGAIN {
		return nil
	}
	if e != noError {
		return dialError(e)
	}
	return nil
}

// first is what goes to a backend first.
func (o *opening) first() (header, data []byte) {
	return o.step.Data, o.data[min(max(o.step.Skip, 0), len(o.data)):]
}

// sendFirst sends Step.Data and the client's bytes so far, in one call. When the backend has
// taken a byte the flow relays.
func (f *flow) sendFirst() errno {
	l, to := f.loop, &f.side[backendSide]
	header, data := f.opening.first()
	var n int
	var e errno
	switch {
	case len(header) == 0 && len(data) > 0:
		n, e = sysWrite(to.fd, data)
	case len(header) > 0:
		n, e = sysWrite2(to.fd, &l.vectors, header, data)
	case f.phase == PhaseDial:
		e = sysSocketError(to.fd)
	}
	if e != noError {
		return e
	}
	to.writable, to.wrote = n == len(header)+len(data), true
	from := &f.side[clientSide]
	from.taken = int64(n - len(header))
	if !to.writable {
		rest := header[min(n, len(header)):]
		from.hold(l, rest, data[max(n-len(header), 0):])
	}
	if f.dialing != 0 {
		f.dial = max(time.Duration(l.now-f.dialing), 1)
	}
	f.giveOpening()
	f.phase, f.moved = PhaseRelay, l.now
	f.kept = l.ev.shared.set.keepAlive <= 0
	f.schedule()
	f.pump()
	return noError
}

// dialFailed gives up a backend and asks what next.
func (f *flow) dialFailed(err error) Step {
	f.dial = max(time.Duration(f.loop.now-f.dialing), 1)
	f.stopDialing()
	f.closeSide(backendSide)
	f.side[clientSide].taken = 0
	f.opening.step = Step{}
	step := f.session.DialFailed(err)
	if step.Action == More {
		return Step{Action: Drop, Err: err}
	}
	return step
}

// dialing is a Step.Dial that runs.
type dialing struct{ cancel context.CancelFunc }

func (f *flow) stopDialing() {
	if f.opening != nil && f.opening.dials != nil {
		f.opening.dials.cancel()
		f.opening.dials = nil
	}
}

// dialElsewhere runs Step.Dial in a goroutine.
func (f *flow) dialElsewhere() {
	ctx, cancel := context.WithCancel(context.Background())
	if d := pick(f.opening.step.DialTimeout, f.loop.ev.shared.set.dialTimeout); d > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), d)
	}
	d := &dialing{cancel}
	f.opening.dials = d
	dial := f.opening.step.Dial
	f.loop.ev.dials.Go(func() {
		c, err := dial(ctx)
		if c == nil && err == nil {
			err = errNoConn
		}
		f.loop.post(func() { f.dialed(d, c, err) })
	})
}

// dialed takes what Step.Dial has returned.
func (f *flow) dialed(d *dialing, c net.Conn, err error) {
	d.cancel()
	if f.opening == nil || f.opening.dials != d {
		if c != nil {
			c.Close()
		}
		return
	}
	f.opening.dials = nil
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		fd, derr := detach(tcp)
		tcp.Close()
		if err = derr; err == nil {
			f.side[backendSide] = side{fd: fd, noDelay: true}
			err = f.tryFirst()
		}
	} else if err == nil {
		f.bequeath(c)
		return
	}
	if err != nil {
		f.do(f.dialFailed(dialError(err)))
	}
	f.settle()
}

// bequeath leaves the rest to the portable implementation, since the backend is no TCP
// connection.
func (f *flow) bequeath(backend net.Conn) {
	l, s := f.loop, &f.side[clientSide]
	if s.registered {
		sysEpollCtl(l.ep, unix.EPOLL_CTL_DEL, s.fd, 0, 0, 0)
	}
	file := os.NewFile(uintptr(s.fd), "client")
	client, err := net.FileConn(file)
	s.fd = -1
	file.Close()
	if err != nil {
		backend.Close()
		f.finish(ByEngine, fmt.Errorf("relay: handing over: %w", err))
		return
	}
	g := &l.ev.shared.goroutines
	t := newTalk(g, client)
	t.opened, t.hello = l.ev.base.Add(time.Duration(f.opened)), f.hello
	t.dial = max(time.Duration(l.now-f.dialing), 1)
	t.idle.Store(int64(f.idle))
	t.touch()
	f.heir = t
	if f.ending != nil && f.ending.doom != 0 {
		time.AfterFunc(time.Duration(f.ending.doom-l.now), func() { t.stop(ByEngine, ErrClosed) })
	}
	g.adopt(t, backend, f.opening.step, f.opening.data, f.session)
	f.release()
}
