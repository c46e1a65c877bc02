package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/headgate/headgate/agentcheck"
)

// Listeners answers agent checks on the ports of a [State], and follows it as it
// changes. The zero value listens on every address. Its fields must not change
// after the first Update; its methods may be called from several goroutines.
type Listeners struct {
	// Host is the address to listen on: an IP address, a name, or "" for all.
	Host string
	// Listen opens a port. Nil means net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Finished, if not nil, is told of every check when it is over, and of the
	// Service ("namespace/name", "" for the node) whose port it came to, for
	// metrics. It is called from several goroutines at once.
	Finished func(service string, x agentcheck.Exchange)
	// Logger, if not nil, gets a line for each port opened and closed, and what
	// agentcheck.Server logs.
	Logger *slog.Logger

	mu     sync.Mutex
	closed bool
	ports  map[uint16]*port
	// serving counts the goroutines that serve, those of closed ports too.
	serving sync.WaitGroup
}

// port is one open port. Its answer changes while its server goes on.
type port struct {
	answer   atomic.Pointer[Answer]
	server   *agentcheck.Server
	listener net.Listener
}

// ErrClosed is what Update returns after Shutdown or Close.
var ErrClosed = errors.New("agentcheck/nodeagent: listeners are closed")

// Update makes the answers of s those that are given. Ports that s does not name
// are closed, new ones opened, and the others change their answer without a gap.
//
// The error joins one for each port that could not be opened, and names its
// Service; all others are served. The next Update tries again.
func (l *Listeners) Update(s State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.ports == nil {
		l.ports = map[uint16]*port{}
	}
	wanted := make(map[uint16]bool, len(s.Answers))
	var errs []error
	for _, answer := range s.Answers {
		wanted[answer.Port] = true
		if p := l.ports[answer.Port]; p != nil {
			p.answer.Store(&answer)
			continue
		}
		if err := l.open(answer); err != nil {
			errs = append(errs, err)
		}
	}
	for number, p := range l.ports {
		if wanted[number] {
			continue
		}
		p.close() // at once: exchanges take microseconds, and HAProxy asks again
		delete(l.ports, number)
		l.log("agent port closed", *p.answer.Load())
	}
	return errors.Join(errs...)
}

// Open returns how many ports are open.
func (l *Listeners) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ports)
}

// Serves says whether a port is open.
func (l *Listeners) Serves(number uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ports[number] != nil
}

// open begins to serve an answer. It is called with l.mu held.
func (l *Listeners) open(answer Answer) error {
	listen := l.Listen
	if listen == nil {
		listen = net.Listen
	}
	ln, err := listen("tcp", net.JoinHostPort(l.Host, strconv.Itoa(int(answer.Port))))
	if err != nil {
		return fmt.Errorf("agentcheck/nodeagent: agent port of %s: %w", cmp.Or(answer.Service, "the node"), err)
	}
	p := &port{listener: ln}
	p.answer.Store(&answer)
	p.server = &agentcheck.Server{Handler: p, Logger: l.Logger}
	if l.Finished != nil {
		p.server.Finished = func(x agentcheck.Exchange) { l.Finished(p.answer.Load().Service, x) }
	}
	l.ports[answer.Port] = p
	l.serving.Go(func() { l.serve(p) })
	l.log("agent port open", answer)
	return nil
}

// serve returns when the port's server is closed and its last handler has returned.
func (l *Listeners) serve(p *port) {
	if err := p.server.Serve(p.listener); !errors.Is(err, agentcheck.ErrServerClosed) && l.Logger != nil {
		l.Logger.Error("agent port lost", "addr", p.listener.Addr(), "err", err)
	}
	_ = p.server.Shutdown(context.Background())
}

func (l *Listeners) log(msg string, a Answer) {
	if l.Logger != nil {
		l.Logger.Info(msg, "port", a.Port, "service", a.Service, "answer", a.Reply.String())
	}
}

// ServeAgent gives the port's answer of the moment.
func (p *port) ServeAgent(context.Context, *agentcheck.Request) agentcheck.Reply {
	return p.answer.Load().Reply
}

// close ends the port now. The server does not know its listener before serve has
// begun, so that is closed here too: the port is free on return.
func (p *port) close() {
	_ = p.server.Close()
	_ = p.listener.Close()
}

// Shutdown closes all ports and waits for checks that have begun. Those that have
// not ended when ctx does are cut off, and its error is returned. No goroutine of l
// is left when Shutdown or Close returns.
func (l *Listeners) Shutdown(ctx context.Context) error {
	var cut atomic.Bool
	var stopping sync.WaitGroup
	for _, p := range l.end() {
		stopping.Go(func() {
			if p.server.Shutdown(ctx) != nil {
				cut.Store(true)
			}
			p.close()
		})
	}
	stopping.Wait()
	l.serving.Wait()
	if cut.Load() {
		return ctx.Err()
	}
	return nil
}

// Close closes all ports at once and cuts off checks that have begun.
func (l *Listeners) Close() {
	for _, p := range l.end() {
		p.close()
	}
	l.serving.Wait()
}

// end lets no port open any more, and returns those that are. What waits for their
// checks must not hold l.mu: Finished may call methods of l.
func (l *Listeners) end() []*port {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	ports := slices.Collect(maps.Values(l.ports))
	clear(l.ports)
	return ports
}
