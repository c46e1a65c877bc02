package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// listen reads the hello until the Session has decided. It returns what was read, too.
func (t *talk) listen() (Step, []byte) {
	set := &t.g.shared.set
	if set.helloTimeout > 0 {
		t.client.SetReadDeadline(t.opened.Add(set.helloTimeout))
	}
	var data []byte
	for {
		if len(data) == cap(data) {
			data = append(make([]byte, 0, min(max(2*cap(data), 1024), set.helloLimit)), data...)
		}
		n, err := t.client.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if t.ctx.Err() != nil {
			return Step{Action: Drop}, nil
		}
		var step Step
		if n > 0 {
			step = t.session.Hello(data, nil)
		}
		if step.Action == More && err == nil && len(data) >= set.helloLimit {
			err = ErrHelloTooLong
		}
		if step.Action == More && err != nil {
			step = t.noHello(data, err)
		}
		if step.Action != More {
			t.hello = time.Since(t.opened)
			t.client.SetReadDeadline(time.Time{})
			return step, data
		}
	}
}

// noHello asks what to do with a client that says no more. Where the connection has failed
// there is nothing to do, whatever the Session says.
func (t *talk) noHello(data []byte, err error) Step {
	reason := helloError(err)
	step := t.session.Hello(data, reason)
	switch {
	case errors.Is(err, io.EOF) && undecided(step):
		t.stop(ByClient, nil)
	case errors.Is(err, ErrHelloTooLong) && undecided(step):
		t.stop(BySession, reason)
	case isTimeout(err) && undecided(step):
		t.stop(ByTimeout, reason)
	case errors.Is(err, io.EOF) || errors.Is(err, ErrHelloTooLong) || isTimeout(err):
		return step
	default:
		t.stop(ByClient, reason)
	}
	return Step{Action: Drop}
}

// connect makes the connection to the backend.
func (t *talk) connect(step Step) (net.Conn, error) {
	if c := t.given; c != nil {
		t.given = nil
		return c, nil
	}
	start := time.Now() // of the time-out, too
	defer func() { t.dial = time.Since(start) }()
	d := t.g.shared.set.dialTimeout
	if step.DialTimeout != 0 {
		d = timeout(step.DialTimeout, 0)
	}
	ctx := t.ctx
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if step.Dial != nil {
		c, err := step.Dial(ctx)
		if c == nil && err == nil {
			err = errNoConn
		}
		return c, dialError(err)
	}
	dialer := net.Dialer{KeepAlive: -1} // setBackend does it
	c, err := dialer.DialContext(ctx, "tcp", step.Addr.String())
	return c, dialError(err)
}

// answer gives the client step.Data and its end, and lets it finish.
func (t *talk) answer(step Step) {
	t.enter(PhaseAnswer)
	t.client.SetDeadline(time.Now().Add(lingerTimeout))
	n, err := t.client.Write(step.Data)
	t.toClient.Add(int64(n))
	if err == nil && closeWrite(t.client) {
		buf := takeBuffer()
		for err == nil {
			_, err = t.client.Read(*buf)
		}
		giveBuffer(buf)
	}
	t.stop(BySession, step.Err)
}

// closeWrite ends the direction to c, and says whether c can.
func closeWrite(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return false
	}
	half.CloseWrite()
	return true
}
