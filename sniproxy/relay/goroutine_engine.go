package relay

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/netserve"
)

// goroutineEngine is the implementation of Engine for all systems: it uses only the interface
// net.Conn, and no epoll. A connection has one goroutine, and a second one while it relays.
type goroutineEngine struct {
	shared *engineState
	wg     sync.WaitGroup // counts the goroutines of connections

	mu    sync.Mutex
	conns map[*goroutineConn]struct{}
}

func (ge *goroutineEngine) init(s *engineState) {
	ge.shared = s
	ge.conns = make(map[*goroutineConn]struct{})
}

func (ge *goroutineEngine) wait() { ge.wg.Wait() }

// serve accepts the connections of one listener until the Engine stops or l is closed.
func (ge *goroutineEngine) serve(l net.Listener, accept func(Conn) Session) error {
	defer l.Close()
	stop := make(chan struct{})
	running := ge.shared.listen(func() { close(stop); l.Close() })
	if running == nil {
		return ErrClosed
	}
	defer ge.shared.unlisten(running)

	loop := netserve.Loop{
		Listener: l,
		Stop:     stop,
		Failed: func(err error, _ time.Duration) bool {
			ge.shared.settings.acceptError(err)
			return false
		},
		Shed:     func() { ge.shared.shed.Add(1) },
		MakeRoom: func(c net.Conn) bool { return ge.shared.settings.makeRoom(addrPort(c.RemoteAddr())) },
	}
	err := loop.Run(func(c net.Conn) { ge.accept(c, accept) })
	if err == netserve.ErrClosed {
		return ErrClosed
	}
	return err
}

func (ge *goroutineEngine) accept(c net.Conn, accept func(Conn) Session) {
	ge.shared.beginAccepted()
	gc, ctx := newGoroutineConn(ge, c)
	ge.shared.accepted.Add(1)
	if gc.session = accept(gc); gc.session == nil {
		c.Close()
		gc.unregister()
		return
	}
	ge.wg.Go(func() {
		gc.run(func() {
			step, data := gc.readHello(ctx)
			gc.runSteps(ctx, step, data)
		})
	})
}

func (ge *goroutineEngine) relay(client, backend net.Conn, prefix []byte, session Session) {
	if !ge.shared.begin() {
		client.Close()
		backend.Close()
		session.Done(Result{By: ByEngine, Phase: PhaseRelay, Err: ErrClosed})
		return
	}
	gc, ctx := newGoroutineConn(ge, client)
	ge.startRelay(ctx, gc, backend, Step{Data: prefix}, nil, session)
}

// startRelay starts to relay between the client and a backend that is connected already. The
// argument "data" holds the bytes that the client has sent.
func (ge *goroutineEngine) startRelay(ctx context.Context, gc *goroutineConn, backend net.Conn, step Step, data []byte, session Session) {
	gc.session, gc.givenBackend = session, backend
	step.Action = Connect
	ge.wg.Go(func() { gc.run(func() { gc.runSteps(ctx, step, data) }) })
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
