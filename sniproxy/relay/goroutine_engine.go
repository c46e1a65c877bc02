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

// goroutineEngine is the implementation that needs nothing but net.Conn: two goroutines for
// each pair, the second of them only while it relays.
type goroutineEngine struct {
	shared *engineState
	wg     sync.WaitGroup // every Serve and connection

	mu    sync.Mutex
	conns map[*goroutineConn]struct{}
}

func (ge *goroutineEngine) init(s *engineState) {
	ge.shared = s
	ge.conns = make(map[*goroutineConn]struct{})
}

func (ge *goroutineEngine) wait() { ge.wg.Wait() }

// serve is the accept loop of one listener.
func (ge *goroutineEngine) serve(l net.Listener, accept func(Conn) Session) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := ge.shared.listen(func() { cancel(); l.Close() })
	if running == nil {
		return ErrClosed
	}
	defer ge.shared.unlisten(running)

	spare := newSpare()
	defer spare.close()
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			spare.refill() // what was given up may have gone to a dial
			ge.accept(c, accept)
			continue
		case ctx.Err() != nil:
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return err
		}
		ge.shared.settings.acceptError(err)
		if isExhausted(err) && ge.shedOne(l, spare) {
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

func (ge *goroutineEngine) accept(c net.Conn, accept func(Conn) Session) {
	if !ge.shared.begin() {
		c.Close()
		return
	}
	gc := newGoroutineConn(ge, c)
	ge.shared.accepted.Add(1)
	if gc.session = accept(gc); gc.session == nil {
		c.Close()
		gc.unregister()
		return
	}
	ge.wg.Go(func() { gc.run((*goroutineConn).serve) })
}

func (ge *goroutineEngine) relay(client, backend net.Conn, prefix []byte, session Session) {
	if !ge.shared.begin() {
		client.Close()
		backend.Close()
		session.Done(Result{By: ByEngine, Phase: PhaseRelay, Err: ErrClosed})
		return
	}
	ge.startRelay(newGoroutineConn(ge, client), backend, Step{Data: prefix}, nil, session)
}

// adopt relays for a goroutineConn whose backend is there.
func (ge *goroutineEngine) startRelay(gc *goroutineConn, backend net.Conn, step Step, data []byte, session Session) {
	gc.session, gc.givenBackend = session, backend
	step.Action = Connect
	ge.wg.Go(func() { gc.run(func(gc *goroutineConn) { gc.runSteps(step, data) }) })
}

func (ge *goroutineEngine) closeWithin(d time.Duration) {
	ge.mu.Lock()
	defer ge.mu.Unlock()
	for gc := range ge.conns {
		if d <= 0 {
			gc.stop(ByEngine, ErrClosed)
			continue
		}
		time.AfterFunc(rand.N(d), func() { gc.stop(ByEngine, ErrClosed) })
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
func (ge *goroutineEngine) shedOne(l net.Listener, s *spare) bool {
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
	ge.shared.shed.Add(1)
	return true
}
