package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// goroutines is the implementation that needs nothing but net.Conn: two goroutines for
// each pair, the second of them only while it relays.
type goroutines struct {
	shared *shared
	wg     sync.WaitGroup // every Serve and connection

	mu    sync.Mutex
	talks map[*talk]struct{}
}

func (g *goroutines) init(s *shared) {
	g.shared = s
	g.talks = make(map[*talk]struct{})
}

func (g *goroutines) wait() { g.wg.Wait() }

// serve is the accept loop of one listener.
func (g *goroutines) serve(l net.Listener, accept func(Conn) Session) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := g.shared.listen(func() { cancel(); l.Close() })
	if running == nil {
		return ErrClosed
	}
	defer g.shared.unlisten(running)

	spare := newSpare()
	defer spare.close()
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			spare.refill() // what was given up may have gone to a dial
			g.accept(c, accept)
			continue
		case ctx.Err() != nil:
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return err
		}
		g.shared.set.acceptError(err)
		if isExhausted(err) && g.refuse(l, spare) {
			pause = 0
			continue
		}
		pause = min(max(2*pause, minPause), maxPause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ErrClosed
		}
	}
}

// The pauses between failed accepts: the first for a client that went away, the last short
// enough to be unnoticed once there are descriptors again.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

func (g *goroutines) accept(c net.Conn, accept func(Conn) Session) {
	if !g.shared.begin() {
		c.Close()
		return
	}
	t := newTalk(g, c)
	g.shared.accepted.Add(1)
	if t.session = accept(t); t.session == nil {
		c.Close()
		t.forget()
		return
	}
	g.wg.Go(func() { t.run((*talk).converse) })
}

func (g *goroutines) relay(client, backend net.Conn, prefix []byte, session Session) {
	if !g.shared.begin() {
		client.Close()
		backend.Close()
		session.Done(Result{By: ByEngine, Phase: PhaseRelay, Err: ErrClosed})
		return
	}
	g.adopt(newTalk(g, client), backend, Step{Data: prefix}, nil, session)
}

// adopt relays for a talk whose backend is there.
func (g *goroutines) adopt(t *talk, backend net.Conn, step Step, data []byte, session Session) {
	t.session, t.given = session, backend
	step.Action = Connect
	g.wg.Go(func() { t.run(func(t *talk) { t.follow(step, data) }) })
}

func (g *goroutines) closeWithin(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.talks {
		if d <= 0 {
			t.stop(ByEngine, ErrClosed)
			continue
		}
		time.AfterFunc(rand.N(d), func() { t.stop(ByEngine, ErrClosed) })
	}
}

// isExhausted says whether accepting failed for want of something that closing frees.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// spare is a descriptor that can be given up to accept, and close, one connection when
// there are no others: a client that is refused may go elsewhere, one in the backlog waits.
type spare struct{ f *os.File }

func newSpare() *spare {
	s := &spare{}
	s.refill()
	return s
}

func (s *spare) refill() {
	if s.f == nil {
		s.f, _ = os.Open(os.DevNull)
	}
}

func (s *spare) close() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

// refuse accepts and closes one connection of l, if there is one. It returns false if not
// even that is possible.
func (g *goroutines) refuse(l net.Listener, s *spare) bool {
	s.refill()
	if s.f == nil {
		return false
	}
	s.close()
	defer s.refill()
	// accept(2) wants a descriptor before it looks whether there is a connection.
	if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(minPause))
		defer d.SetDeadline(time.Time{})
	}
	c, err := l.Accept()
	if err != nil {
		return isTimeout(err)
	}
	c.Close()
	g.shared.shed.Add(1)
	return true
}
