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

func getBuffer() *[]byte  { return largeBuffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { largeBuffers.Put(b) }

// direction is one way through a goroutineConn.
type direction struct {
	conn     *goroutineConn
	from, to net.Conn
	src, dst Party
	deadline time.Time // of reading, as it was set
}

// relay carries bytes both ways until both have ended. It returns an error only when the
// first write to the backend failed before a byte was taken: then nothing has happened.
func (gc *goroutineConn) relay(header, data []byte) error {
	out := direction{conn: gc, from: gc.client, to: gc.backend, src: ByClient, dst: ByBackend}
	back := direction{conn: gc, from: gc.backend, to: gc.client, src: ByBackend, dst: ByClient}
	gc.markMoved()
	rest := (*direction).copy
	if first := append(header[:len(header):len(header)], data...); len(first) > 0 {
		n, err := out.write(first)
		gc.toBackend.Add(int64(max(n-len(header), 0)))
		if n == 0 {
			return writeError(ByBackend, err)
		}
		if err != nil {
			out.writeFailed(err)
			rest = (*direction).discard
		}
	}
	gc.setPhase(PhaseRelay)
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
func (gc *goroutineConn) dropBackend() {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.backend != nil {
		gc.backend.Close()
		gc.backend = nil
	}
}

// touch notes that something has moved.
func (gc *goroutineConn) markMoved() { gc.movedAt.Store(int64(time.Since(gc.openedAt))) }

// idleUntil is when the idle time-out comes if nothing moves; the zero time is never.
func (gc *goroutineConn) idleUntil() time.Time {
	idle := gc.idle.Load()
	if idle <= 0 {
		return time.Time{}
	}
	return gc.openedAt.Add(time.Duration(gc.movedAt.Load() + idle))
}

// ended notes the clean end of a direction; who was first counts.
func (gc *goroutineConn) markEnd(by Party) {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	if gc.firstEnd == 0 {
		gc.firstEnd = by
	}
}

func (d *direction) copy() {
	var small [smallBuffer]byte
	var large *[]byte
	defer func() {
		if large != nil {
			putBuffer(large)
		}
	}()
	buf := small[:]
	for {
		n, err := d.read(buf)
		if n > 0 {
			d.conn.markMoved()
			m, werr := d.write(buf[:n])
			d.count().Add(int64(m))
			if werr != nil {
				d.writeFailed(werr)
				d.discard()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			d.conn.markEnd(d.src)
			d.conn.markMoved()
			if !closeWrite(d.to) {
				// Without half-close the end of one direction is the end of both.
				d.conn.stop(d.src, nil)
			}
			return
		case err != nil:
			d.readFailed(err)
			return
		}
		if n == len(buf) && large == nil {
			large = getBuffer()
			buf = *large
		} else if n < smallBuffer && large != nil {
			putBuffer(large)
			large, buf = nil, small[:]
		}
	}
}

func (d *direction) count() interface{ Add(int64) int64 } {
	if d.src == ByClient {
		return &d.conn.toBackend
	}
	return &d.conn.toClient
}

// read reads once, for as long as the goroutineConn is not idle. The deadline is moved only when it
// has come near or passed, not for each read.
func (d *direction) read(buf []byte) (int, error) {
	for {
		until := d.conn.idleUntil()
		if until.Sub(d.deadline) > time.Duration(d.conn.idle.Load()/16) {
			d.deadline = until
			d.from.SetReadDeadline(until)
		}
		n, err := d.from.Read(buf)
		if n > 0 || err == nil || !isTimeout(err) || !time.Now().Before(d.conn.idleUntil()) {
			return n, err
		}
		d.deadline = time.Time{} // the other direction was not idle
	}
}

// write writes all of b, for as long as the goroutineConn is not idle.
func (d *direction) write(b []byte) (written int, err error) {
	for {
		d.to.SetWriteDeadline(d.conn.idleUntil())
		n, err := d.to.Write(b[written:])
		written += n
		if n > 0 {
			d.conn.markMoved()
		}
		if err == nil || !isTimeout(err) || !time.Now().Before(d.conn.idleUntil()) {
			return written, err
		}
	}
}

// broken ends the goroutineConn: its source cannot be read any more. The other side learns it in the
// same way, by RST.
func (d *direction) readFailed(err error) {
	if isTimeout(err) {
		d.conn.stop(ByTimeout, errIdle)
		return
	}
	d.conn.abort(d.src, readError(d.src, err))
}

// refused takes note that the other side takes no more. What it has sent before may still
// be on its way here: a server may answer and close before it has read all of a request.
// What is left of that is there already, so that the wait for it is short; discard is what
// this direction does meanwhile.
func (d *direction) writeFailed(err error) {
	if isTimeout(err) {
		d.conn.stop(ByTimeout, errIdle)
		return
	}
	gc := d.conn
	gc.mu.Lock()
	both := gc.failure != nil
	if !both {
		gc.failedBy, gc.failure = d.dst, writeError(d.dst, err)
	}
	gc.mu.Unlock()
	if both {
		gc.abort(d.dst, err)
		return
	}
	gc.idle.Store(int64(lingerTimeout))
	gc.markMoved() // nothing may have moved for longer than that
	until := gc.idleUntil()
	d.to.SetReadDeadline(until)
	d.from.SetWriteDeadline(until)
}

// discard reads and forgets what a client sends whose backend takes no more, until it ends
// or the goroutineConn is idle, which this does not delay: closing with that unread would send RST, and
// the client might lose what the backend has sent before. A client that takes no more has
// no such claim: what its backend sends stays unread.
func (d *direction) discard() {
	if d.src != ByClient {
		return
	}
	buf := getBuffer()
	defer putBuffer(buf)
	d.deadline = time.Time{} // the time-out has become shorter
	for err := error(nil); err == nil; {
		_, err = d.read(*buf)
	}
}
