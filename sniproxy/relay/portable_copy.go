package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A silent direction holds a small buffer, one that moves bytes in bulk borrows a large one.
const (
	smallBuffer = 512
	largeBuffer = 64 << 10
)

var largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

func takeBuffer() *[]byte  { return largeBuffers.Get().(*[]byte) }
func giveBuffer(b *[]byte) { largeBuffers.Put(b) }

// direction is one way through a talk.
type direction struct {
	t        *talk
	from, to net.Conn
	src, dst Party
	deadline time.Time // of reading, as it was set
}

// relay carries bytes both ways until both have ended. It returns an error only when the
// first write to the backend failed before a byte was taken: then nothing has happened.
func (t *talk) relay(header, data []byte) error {
	out := direction{t: t, from: t.client, to: t.backend, src: ByClient, dst: ByBackend}
	back := direction{t: t, from: t.backend, to: t.client, src: ByBackend, dst: ByClient}
	t.touch()
	rest := (*direction).copy
	if first := append(header[:len(header):len(header)], data...); len(first) > 0 {
		n, err := out.write(first)
		t.toBackend.Add(int64(max(n-len(header), 0)))
		if n == 0 {
			return writeError(ByBackend, err)
		}
		if err != nil {
			out.refused(err)
			rest = (*direction).discard
		}
	}
	t.enter(PhaseRelay)
	done := make(chan struct{})
	go func() {
		defer close(done)
		back.copy()
	}()
	rest(&out)
	<-done
	return nil
}

// dropBackend forgets a backend that did not take a byte.
func (t *talk) dropBackend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.backend != nil {
		t.backend.Close()
		t.backend = nil
	}
}

// touch notes that something has moved.
func (t *talk) touch() { t.moved.Store(int64(time.Since(t.opened))) }

// idleUntil is when the idle time-out comes if nothing moves; the zero time is never.
func (t *talk) idleUntil() time.Time {
	idle := t.idle.Load()
	if idle <= 0 {
		return time.Time{}
	}
	return t.opened.Add(time.Duration(t.moved.Load() + idle))
}

// ended notes the clean end of a direction; who was first counts.
func (t *talk) ended(by Party) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == 0 {
		t.first = by
	}
}

func (d *direction) copy() {
	var small [smallBuffer]byte
	var large *[]byte
	defer func() {
		if large != nil {
			giveBuffer(large)
		}
	}()
	buf := small[:]
	for {
		n, err := d.read(buf)
		if n > 0 {
			d.t.touch()
			m, werr := d.write(buf[:n])
			d.count().Add(int64(m))
			if werr != nil {
				d.refused(werr)
				d.discard()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			d.t.ended(d.src)
			d.t.touch()
			if !closeWrite(d.to) {
				// Without half-close the end of one direction is the end of both.
				d.t.stop(d.src, nil)
			}
			return
		case err != nil:
			d.broken(err)
			return
		}
		if n == len(buf) && large == nil {
			large = takeBuffer()
			buf = *large
		} else if n < smallBuffer && large != nil {
			giveBuffer(large)
			large, buf = nil, small[:]
		}
	}
}

func (d *direction) count() interface{ Add(int64) int64 } {
	if d.src == ByClient {
		return &d.t.toBackend
	}
	return &d.t.toClient
}

// read reads once, for as long as the talk is not idle. The deadline is moved only when it
// has come near or passed, not for each read.
func (d *direction) read(buf []byte) (int, error) {
	for {
		until := d.t.idleUntil()
		if until.Sub(d.deadline) > time.Duration(d.t.idle.Load()/16) {
			d.deadline = until
			d.from.SetReadDeadline(until)
		}
		n, err := d.from.Read(buf)
		if n > 0 || err == nil || !isTimeout(err) || !time.Now().Before(d.t.idleUntil()) {
			return n, err
		}
		d.deadline = time.Time{} // the other direction was not idle
	}
}

// write writes all of b, for as long as the talk is not idle.
func (d *direction) write(b []byte) (written int, err error) {
	for {
		d.to.SetWriteDeadline(d.t.idleUntil())
		n, err := d.to.Write(b[written:])
		written += n
		if n > 0 {
			d.t.touch()
		}
		if err == nil || !isTimeout(err) || !time.Now().Before(d.t.idleUntil()) {
			return written, err
		}
	}
}

// broken ends the talk: its source cannot be read any more. The other side learns it in the
// same way, by RST.
func (d *direction) broken(err error) {
	if isTimeout(err) {
		d.t.stop(ByTimeout, errIdle)
		return
	}
	d.t.abort(d.src, readError(d.src, err))
}

// refused takes note that the other side takes no more. What it has sent before may still
// be on its way here: a server may answer and close before it has read all of a request.
// What is left of that is there already, so that the wait for it is short; discard is what
// this direction does meanwhile.
func (d *direction) refused(err error) {
	if isTimeout(err) {
		d.t.stop(ByTimeout, errIdle)
		return
	}
	t := d.t
	t.mu.Lock()
	both := t.failure != nil
	if !both {
		t.failedBy, t.failure = d.dst, writeError(d.dst, err)
	}
	t.mu.Unlock()
	if both {
		t.abort(d.dst, err)
		return
	}
	t.idle.Store(int64(lingerTimeout))
	t.touch() // nothing may have moved for longer than that
	until := t.idleUntil()
	d.to.SetReadDeadline(until)
	d.from.SetWriteDeadline(until)
}

// discard reads and forgets what a client sends whose backend takes no more, until it ends
// or the talk is idle, which this does not delay: closing with that unread would send RST, and
// the client might lose what the backend has sent before. A client that takes no more has
// no such claim: what its backend sends stays unread.
func (d *direction) discard() {
	if d.src != ByClient {
		return
	}
	buf := takeBuffer()
	defer giveBuffer(buf)
	d.deadline = time.Time{} // the time-out has become shorter
	for err := error(nil); err == nil; {
		_, err = d.read(*buf)
	}
}
