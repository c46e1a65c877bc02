package quicrelay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

const (
	// maxHeld bounds the bytes of datagrams that a path holds until it can send them to its backend.
	maxHeld = 32 << 10
	// heldUnit is a number of bytes. For each heldUnit bytes that a path holds, it counts as one
	// more path for the limit MaxPeeking.
	heldUnit = 4 << 10
	// maxFailures is the number of failed receives in a row after which a path ends. Each ICMP
	// error makes one receive fail.
	maxFailures = 100
)

// state is what a path does now.
type state uint8

const (
	peeking state = iota // the hello is incomplete
	routing              // Route runs
	opening              // the path sends the held datagrams, or a refusal
	open                 // datagrams pass
	ended
)

// path relays the datagrams between one client address and one backend. Relay.mu guards its fields,
// except those that are atomic or whose comment states that they do not change.
type path struct {
	relay  *Relay // does not change
	client peer   // does not change
	entry  fairshare.Entry[*path]

	active    atomic.Int64 // the time of the last datagram, in nanoseconds since 1970
	forwarded atomic.Int64 // the bytes that the backend got
	sent      atomic.Int64 // the bytes that the client got
	confirmed atomic.Bool  // the address of the client is confirmed

	state         state
	initial       string
	reader        quic.Reader
	hello         quic.Hello // does not change after peeking
	held          [][]byte
	heldBytes     int
	timeout       *time.Timer // ends the path while it is peeking
	cancel        func()      // ends the context of Route
	backendAddr   netip.AddrPort
	backend       socket // does not change after routing
	ids           []string
	backendShowed bool // a packet of the backend had an ID in its long header
	received      int64
	stats         Stats
	last          *Stats // for Finished, if the path has ended while Route ran
}

// ShareEntry implements fairshare.Member.
func (p *path) ShareEntry() *fairshare.Entry[*path] { return &p.entry }

// Idle implements fairshare.Member.
func (p *path) Idle() time.Duration { return time.Duration(time.Now().UnixNano() - p.active.Load()) }

// snapshot returns the Stats of this moment. Relay.mu is locked.
func (p *path) snapshot() Stats {
	s := p.stats
	s.ToBackend, s.ToClient = p.forwarded.Load(), p.sent.Load()
	s.Total = time.Since(s.Start)
	switch {
	case s.Backend.IsValid():
		s.Phase = PhaseRelay
	case p.state != peeking:
		s.Phase = PhaseRoute
	}
	return s
}

func (p *path) touch() { p.active.Store(time.Now().UnixNano()) }

// hold keeps a copy of a datagram for the backend.
func (p *path) hold(datagram []byte) {
	if p.heldBytes+len(datagram) > maxHeld {
		return
	}
	p.held = append(p.held, append([]byte(nil), datagram...))
	p.heldBytes += len(datagram)
	if p.state == opening {
		return
	}
	if victim := p.relay.shares.Grow(p, uint8(1+p.heldBytes/heldUnit)); victim != nil {
		p.relay.end(victim, fairshare.ErrEvicted)
	}
}

// peek reads a datagram of a client whose hello is incomplete. If the hello is then complete, or
// can never become complete, peek starts the goroutine of the path.
func (p *path) peek(datagram []byte) {
	r := p.relay
	hello, err := p.reader.Read(datagram)
	ignored, isIgnored := err.(*quic.Ignored)
	switch {
	case errors.Is(err, peek.ErrNeedMore) || isIgnored && errors.Is(ignored, quic.ErrNotInitial):
		p.hold(datagram) // a part of the hello, or 0-RTT
		return
	case isIgnored:
		if p.heldBytes == 0 {
			r.end(p, err) // no part of a hello has arrived
		}
		return
	}
	p.hold(datagram)
	if p.state == ended { // evicted
		return
	}
	p.timeout.Stop()
	p.hello, p.reader, p.state = hello, quic.Reader{}, routing
	p.stats.Peek = time.Since(p.stats.Start)
	p.stats.Name, p.stats.Version = hello.Name, hello.Version
	ctx, cancel := context.WithTimeout(context.Background(), r.routeTimeout())
	p.cancel = cancel
	r.all.Go(func() {
		if p.route(ctx, err) {
			p.fromBackend()
		}
	})
}

// route gets the backend from Relay.Route, connects to the backend, and sends it the held
// datagrams. The result is true if the path is then open.
func (p *path) route(ctx context.Context, helloErr error) bool {
	r := p.relay
	start := time.Now()
	route, err := r.Route(ctx, Request{Client: p.client.addr, Local: p.client.front.local, Hello: p.hello, Err: helloErr})
	took := time.Since(start)
	var backend socket
	if err == nil {
		if backend, err = r.connect(route.Addr); err != nil {
			err = &Refusal{Alert: internalError, Reason: "cannot connect", Err: err}
		}
	}
	r.mu.Lock()
	p.stats.Route, p.stats.Tag = took, route.Tag
	if p.state == ended {
		p.last.Tag = route.Tag
		r.done = append(r.done, *p.last)
		r.unlock()
		if backend != nil {
			backend.close()
		}
		return false
	}
	p.state = opening
	if err != nil {
		r.unlock()
		p.refuse(err)
		return false
	}
	p.backend, p.backendAddr, p.stats.Backend = backend, route.Addr, route.Addr
	victim, err := r.shares.Serve(p)
	if victim != nil {
		r.end(victim, fairshare.ErrEvicted)
	}
	if err != nil {
		r.end(p, err)
	}
	// While the path sends the held datagrams, more can arrive. The path holds these too, so that
	// they do not overtake the others.
	for len(p.held) > 0 && p.state == opening {
		held := p.held
		p.held, p.heldBytes = nil, 0
		r.unlock()
		for _, d := range held {
			p.toBackend(d, len(d))
		}
		r.mu.Lock()
	}
	defer r.unlock()
	if p.state != opening {
		return false
	}
	p.state = open
	return true
}

// refuse ends a path that has no backend. If err is a Refusal, the client gets its alert first.
func (p *path) refuse(err error) {
	r := p.relay
	refusal, isRefusal := errors.AsType[*Refusal](err)
	var answer []byte
	if isRefusal {
		answer, _ = p.hello.AppendClose(nil, quic.CryptoError(refusal.Alert), refusal.Reason)
	}
	r.mu.Lock()
	if p.state == ended {
		r.unlock()
		return
	}
	r.refused.add(initialKey{p.client, p.initial}, answer)
	if answer != nil {
		// Close can end the path as soon as the client has got the answer, so record the alert
		// before the answer is sent.
		p.stats.Alert = refusal.Alert
		p.sent.Add(int64(len(answer)))
	}
	r.unlock()
	if answer != nil {
		_ = p.client.send(answer, len(answer))
	}
	r.endPath(p, err)
}

// toBackend sends the datagrams in b to the backend. Each datagram has the given size, and the last
// one can be shorter. r.mu must not be locked.
func (p *path) toBackend(b []byte, size int) {
	switch err := p.backend.send(b, size, netip.Addr{}, netip.AddrPort{}); {
	case err == nil:
		p.forwarded.Add(int64(len(b)))
	case !errors.Is(err, errFull) && !errors.Is(err, net.ErrClosed):
		p.failed(err)
	}
}

// The method "failed" runs after an error of the backend's socket. If the backend has sent nothing
// yet, the path ends. If the backend has sent something, the path stays open, because the backend
// may work again before the client gives up.
func (p *path) failed(err error) {
	switch {
	case p.sent.Load() > 0:
	case p.stats.Moved: // the client has got packets on the old path
		p.relay.endPath(p, err)
	default:
		p.refuse(&Refusal{Alert: internalError, Reason: "the backend is unreachable", Err: err})
	}
}

// fromBackend relays the datagrams of the backend until the path ends.
func (p *path) fromBackend() {
	r := p.relay
	failures := 0
	_ = p.backend.setReadDeadline(time.Now().Add(r.idleTimeout()))
	for {
		b, err := p.backend.receive()
		switch {
		case err == nil:
			failures = 0
			p.touch()
			p.toClient(b.buf[:b.n], b.size)
			b.release()
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			left := r.idleTimeout() - p.Idle()
			if left <= 0 {
				r.endPath(p, nil)
				return
			}
			_ = p.backend.setReadDeadline(time.Now().Add(left))
		default:
			if failures++; failures == maxFailures {
				r.endPath(p, err)
				return
			}
			p.failed(err)
		}
	}
}

// toClient sends the datagrams of the backend in b to the client. Each datagram has the given size,
// and the last one can be shorter.
func (p *path) toClient(b []byte, size int) {
	if p.confirmed.Load() && !hasLongHeader(b, size) {
		p.sent.Add(int64(len(b)))
		_ = p.client.send(b, size)
		return
	}
	for len(b) > 0 {
		var datagram []byte
		datagram, b = cut(b, size)
		if p.allow(datagram) {
			_ = p.client.send(datagram, len(datagram))
		}
	}
}

func hasLongHeader(b []byte, size int) bool {
	for ; len(b) > 0; _, b = cut(b, size) {
		if b[0]&0x80 != 0 {
			return true
		}
	}
	return false
}

// allow reports whether the Relay may send a datagram of the backend to the client. The result is
// false if the address of the client is not confirmed, and the client would get more than three
// times the bytes that it has sent. allow also reads the connection IDs of the backend in the
// datagram, and stores them in the Relay's table.
func (p *path) allow(datagram []byte) bool {
	r := p.relay
	r.mu.Lock()
	defer r.unlock()
	if p.state == ended {
		return false
	}
	for b := datagram; len(b) > 0 && b[0]&0x80 != 0; {
		h, err := quic.ParseHeader(b)
		if err != nil {
			break
		}
		switch h.Type {
		case quic.Initial, quic.Handshake, quic.Retry:
			p.backendShowed = true
			r.table.learn(p, h.SrcID)
		}
		b = b[h.Len:]
	}
	n := int64(len(datagram))
	if !p.confirmed.Load() && p.sent.Load()+n > 3*p.received {
		p.stats.DroppedAmplification += n
		return false
	}
	p.sent.Add(n)
	return true
}

// confirm marks the address of the client as confirmed, if a packet shows that the client has got a
// packet of the backend. h is the header of this packet, and id is the result of table.find. There
// are two cases:
//
//   - The destination ID of the packet is an ID that the backend has sent on this path. An ID that
//     the backend has sent on another path confirms nothing, because somebody else can have seen
//     it.
//   - The backend has already sent a packet on this path, and the table does not know the
//     destination ID of a Handshake packet or of a packet with a short header. This ID can come
//     from a NEW_CONNECTION_ID frame, which the Relay cannot read.
func (p *path) confirm(h quic.Header, id []byte) {
	isLater := h.Type == quic.Handshake || h.Type == quic.Short
	if slices.Contains(p.ids, string(id)) || isLater && p.backendShowed && id == nil {
		p.confirmed.Store(true)
	}
}
