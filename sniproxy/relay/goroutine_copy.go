package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// The sizes of buffers in bytes. A direction of a connection owns a small buffer. It borrows a
// large buffer while it moves bulk data.
const (
	smallBuffer = 512
	largeBuffer = 64 << 10
)

var largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

func getBuffer() *[]byte  { return largeBuffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { largeBuffers.Put(b) }

// direction copies from one side of a connection to the other.
type direction struct {
	conn     *goroutineConn
	from, to net.Conn
	src, dst Party     // the parties of from and to
	deadline time.Time // the read deadline of from
}

// relay copies both ways until both directions have ended. It returns an error only if the backend
// failed before it accepted a byte. In this case, the caller can try another backend.
func (gc *goroutineConn) relay(header, data []byte) error {
	out := direction{conn: gc, from: gc.client, to: gc.backend, src: ByClient, dst: ByBackend}
	back := direction{conn: gc, from: gc.backend, to: gc.client, src: ByBackend, dst: ByClient}
	gc.markMoved()
	copyOut := (*direction).copy
	if first := append(header[:len(header):len(header)], data...); len(first) > 0 {
		n, err := out.write(first)
		gc.toBackend.Add(int64(max(n-len(header), 0)))
		if n == 0 {
			return writeError(ByBackend, err)
		}
		if err != nil {
			out.writeFailed(err)
			copyOut = (*direction).discard
		}
	}
	gc.phase = PhaseRelay
	done := make(chan struct{})
	go func() {
		defer close(done)
		back.copy()
	}()
	copyOut(&out)
	<-done
	return nil
}

// markMoved restarts the idle time-out.
func (gc *goroutineConn) markMoved() { gc.movedAt.Store(int64(time.Since(gc.openedAt))) }

// idleUntil returns the time at which the idle time-out expires, unless a byte moves before. The
// zero time means never.
func (gc *goroutineConn) idleUntil() time.Time {
	idle := gc.idle.Load()
	if idle <= 0 {
		return time.Time{}
	}
	return gc.openedAt.Add(time.Duration(gc.movedAt.Load() + idle))
}

// markEnd records which party ended its direction first. by is a party that has just ended its
// direction. If the other party ended its direction before, markEnd does nothing.
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
				// d.to cannot end one direction alone, so end both directions.
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

// read reads once. It returns a time-out error only after no byte has moved in either direction for
// the idle time-out. To save work, it does not move the read deadline at each read, but only when
// the deadline is more than 1/16 of the idle time-out too early.
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
		d.deadline = time.Time{} // the other direction has moved bytes
	}
}

// write writes all of b. It returns a time-out error only after no byte has moved in either
// direction for the idle time-out.
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

// readFailed ends the connection because a read from d.from has failed. Except after a time-out,
// both sides are closed with RST.
func (d *direction) readFailed(err error) {
	if isTimeout(err) {
		d.conn.stop(ByTimeout, errIdle)
		return
	}
	d.conn.abort(d.src, readError(d.src, err))
}

// writeFailed handles a failed write to d.to. The socket of d.to may still have unread bytes: a
// server may answer and close before it has read the whole request. So the other goroutine
// continues to copy from d.to to d.from, with lingerTimeout as the idle time-out. If both
// directions have failed, the connection ends.
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
	gc.markMoved() // the connection may have been silent for longer than lingerTimeout
	until := gc.idleUntil()
	d.to.SetReadDeadline(until)
	d.from.SetWriteDeadline(until)
}

// discard runs after a write to d.to has failed. If d.from is the client, discard reads and drops
// the bytes that the client still sends, until the client ends its direction or the idle time-out
// expires. Without this, closing a socket with unread bytes would send RST, and the client could
// lose the answer of the backend. The dropped bytes do not restart the idle time-out. If d.from is
// the backend, discard does nothing, because the client accepts no more bytes.
func (d *direction) discard() {
	if d.src != ByClient {
		return
	}
	buf := getBuffer()
	defer putBuffer(buf)
	d.deadline = time.Time{} // writeFailed has shortened the time-out
	for err := error(nil); err == nil; {
		_, err = d.read(*buf)
	}
}
