package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// These are the sizes of buffers in bytes. Each direction of a connection owns a small buffer.
// While a direction moves much data, it uses a large buffer from a pool instead.
const (
	smallBuffer = 512
	largeBuffer = 64 << 10
)

var largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

func getBuffer() *[]byte  { return largeBuffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { largeBuffers.Put(b) }

// direction copies bytes from one side of a connection to the other side.
type direction struct {
	conn     *goroutineConn
	other    *direction
	from, to net.Conn
	src, dst Party         // the parties of from and to
	deadline time.Time     // the read deadline of from
	ended    chan struct{} // closed when this direction reads no more from the connection from
}

// relay copies both ways until both directions have ended. It returns an error only if the backend
// failed before it accepted a byte. In this case, the caller can try another backend.
func (gc *goroutineConn) relay(header, data []byte) error {
	both := &[2]direction{
		{conn: gc, from: gc.client, to: gc.backend, src: ByClient, dst: ByBackend, ended: make(chan struct{})},
		{conn: gc, from: gc.backend, to: gc.client, src: ByBackend, dst: ByClient, ended: make(chan struct{})},
	}
	out, back := &both[0], &both[1]
	out.other, back.other = back, out
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
	go func() {
		defer close(back.ended)
		back.copy()
	}()
	copyOut(out)
	close(out.ended)
	<-back.ended
	gc.settling.Wait()
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

// markEnd records that a party has ended its direction. The first such party becomes Result.By.
// From then on, HalfCloseTimeout limits how long the connection may be idle.
func (gc *goroutineConn) markEnd(by Party) {
	gc.mu.Lock()
	if gc.firstEnd == 0 {
		gc.firstEnd = by
	}
	gc.mu.Unlock()
	gc.boundSilence()
}

// boundSilence shortens the idle time-out to HalfCloseTimeout, unless the idle time-out is shorter
// already. In any case, the time-out begins again at the present moment.
func (gc *goroutineConn) boundSilence() {
	idle := time.Duration(gc.idle.Load())
	gc.idle.Store(int64(shorter(idle, gc.engine.shared.settings.halfClose)))
	gc.markMoved()
	until := gc.idleUntil()
	gc.client.SetDeadline(until)
	gc.backend.SetDeadline(until)
}

// The method "silent" reports whether the idle time-out has expired and no peer has acknowledged
// bytes during this time.
func (gc *goroutineConn) silent() bool {
	until := gc.idleUntil()
	if until.IsZero() || time.Now().Before(until) {
		return false
	}
	return gc.progress(time.Duration(gc.idle.Load())) == 0
}

// progress finds out whether a slow peer still receives bytes. The send queue of a socket holds up
// to some MB, so a peer may receive bytes for a long time after the last write.
//
// progress returns how much longer the connection may stay open:
//
//   - At the first call, if the peers have acknowledged all bytes: 0.
//   - At the first call, otherwise: the shorter one of ackTime and the argument "silence".
//   - At a later call, if the client or the backend has acknowledged bytes since the last call: the
//     argument "silence".
//   - At a later call, otherwise: 0.
func (gc *goroutineConn) progress(silence time.Duration) (more time.Duration) {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	for i, c := range [2]net.Conn{gc.client, gc.backend} {
		n, _ := unsentBytes(c)
		if n != gc.unsent[i] {
			more = silence
		}
		gc.unsent[i] = n
	}
	if !gc.looked {
		gc.looked = true
		more = min(more, ackTime)
	}
	if more > 0 {
		gc.movedAt.Store(max(gc.movedAt.Load(), int64(time.Since(gc.openedAt)-(silence-more))))
	}
	return more
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
			d.endPeer()
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

// endPeer ends the direction to d.dst, because d.src has ended its direction. If the client has
// failed, endPeer does nothing, because the backend gets a RST later.
func (d *direction) endPeer() {
	if d.src == ByClient && d.conn.hasFailed(ByClient) {
		return
	}
	if !closeWrite(d.to) {
		// closeWrite returns false if d.to has no way to end one direction alone. So end the whole
		// connection.
		d.conn.stop(d.src, nil)
	}
}

// The method "read" reads once. It returns a time-out error only if no byte has moved in either
// direction for the idle time-out. To save work, it changes the read deadline of the connection
// only if the deadline is too early by more than 1/16 of the idle time-out.
func (d *direction) read(buf []byte) (int, error) {
	for {
		until, idle := d.conn.idleUntil(), d.conn.idle.Load()
		if until.Sub(d.deadline) > time.Duration(idle/16) {
			d.deadline = until
			d.from.SetReadDeadline(until)
			if d.conn.idle.Load() != idle { // boundSilence ran meanwhile
				d.deadline = time.Time{}
				continue
			}
		}
		n, err := d.from.Read(buf)
		if n > 0 || err == nil || !isTimeout(err) || d.conn.silent() {
			return n, err
		}
		d.deadline = time.Time{} // the other direction has moved bytes
	}
}

// write writes all of b. It returns a time-out error only if no byte has moved in either direction
// for the idle time-out.
func (d *direction) write(b []byte) (written int, err error) {
	for {
		idle := d.conn.idle.Load()
		d.to.SetWriteDeadline(d.conn.idleUntil())
		if d.conn.idle.Load() != idle { // boundSilence ran meanwhile
			continue
		}
		n, err := d.to.Write(b[written:])
		written += n
		if n > 0 {
			d.conn.markMoved()
		}
		if err == nil || !isTimeout(err) || d.conn.silent() {
			return written, err
		}
	}
}

// readFailed handles a failed read from d.from. At this time, all bytes that d.src sent before the
// failure have been written to d.to.
func (d *direction) readFailed(err error) {
	if isTimeout(err) {
		d.conn.stop(ByTimeout, errIdle)
		return
	}
	d.sideFailed(readError(d.src, err))
	d.endPeer()
}

// writeFailed handles a failed write to d.to. A server may answer and close before it has read the
// whole request. The kernel has kept this answer, so the opposite direction continues to copy from
// d.to to d.from.
func (d *direction) writeFailed(err error) {
	if isTimeout(err) {
		d.conn.stop(ByTimeout, errIdle)
		return
	}
	d.other.sideFailed(writeError(d.dst, err))
}

// sideFailed records that the connection to d.src has failed. The other party still gets the bytes
// that d.src sent before. If the other party has failed before, the connection ends.
func (d *direction) sideFailed(err error) {
	gc := d.conn
	gc.mu.Lock()
	first := gc.failure == nil
	if first {
		gc.failedBy, gc.failure = d.src, err
		gc.settling.Go(d.settle)
	}
	both := gc.failedBy != d.src
	gc.mu.Unlock()
	if both {
		gc.abort(d.src, err)
	} else if first {
		gc.boundSilence()
	}
}

// hasFailed reports whether p is the party that failed first.
func (gc *goroutineConn) hasFailed(p Party) bool {
	gc.mu.Lock()
	defer gc.mu.Unlock()
	return gc.failedBy == p
}

// The method "settle" ends the connection after d.src has failed, when d.dst has received all bytes
// of d.src.
//
// If d.dst is the backend, it must have acknowledged these bytes, because it then gets a RST, which
// destroys all other bytes.
//
// If d.dst is the client, it must get these bytes and FIN. Then the client has time to read: settle
// waits until the client ends its direction, or until lingerTimeout after its last acknowledgement.
func (d *direction) settle() {
	gc := d.conn
	select {
	case <-d.ended:
	case <-gc.done:
		return
	}
	clientEnded := d.other.ended
	if d.src == ByClient {
		clientEnded = nil // whatever the client does, the backend gets a RST
	}
	tick := time.Tick(settleInterval)
	for {
		switch n, known := unsentBytes(d.to); {
		case n == 0 && d.src == ByClient && known:
			gc.abort(d.src, nil)
		case n == 0 && d.src == ByClient:
			gc.stop(d.src, nil)
		case n == 0 && time.Since(gc.openedAt)-time.Duration(gc.movedAt.Load()) >= lingerTimeout:
			gc.stop(d.src, nil)
		case gc.progress(time.Duration(gc.idle.Load())) == 0 && gc.silent():
			gc.stop(ByTimeout, errIdle)
		}
		select {
		case <-gc.done:
			return
		case <-clientEnded:
			return
		case <-tick:
		}
	}
}

// discard runs after a write to d.to has failed. It drops the bytes that d.src still sends, until
// d.src ends its direction or the connection ends. If the Engine closed a socket with unread bytes,
// the kernel would send RST, and d.src could lose bytes. The dropped bytes do not restart the idle
// time-out.
func (d *direction) discard() {
	buf := getBuffer()
	defer putBuffer(buf)
	d.deadline = time.Time{} // boundSilence has changed the read deadline of the connection
	for err := error(nil); err == nil; {
		_, err = d.read(*buf)
	}
}
