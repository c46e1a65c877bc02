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

// Listeners opens one port for each Answer of the latest [State], and answers agent checks on these
// ports. The zero value listens on all addresses. Several goroutines may call the methods; do not
// change the fields after the first Update.
type Listeners struct {
	// Host is the address on which all ports listen: an IP address, a name, or "" for all
	// addresses.
	Host string
	// Listen opens a port. Nil means net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Finished, if not nil, receives each finished check, for example to count it. service is the
	// Service of the port as "namespace/name", or "" for the port of the node. The calls come from
	// several goroutines at the same time.
	Finished func(service string, x agentcheck.Exchange)
	// Logger, if not nil, gets a line for each port that is opened or closed. It also gets the
	// lines that agentcheck.Server logs.
	Logger *slog.Logger

	mu     sync.Mutex
	closed bool
	ports  map[uint16]*port
	// serving counts the goroutines that serve the ports. It also counts the goroutine of a port
	// that Update has closed, until this goroutine ends.
	serving sync.WaitGroup
}

// port is one open port of the agent. The server of the port gives HAProxy the answer in the field
// "answer" of the port. Update can change this field while the server runs.
type port struct {
	answer   atomic.Pointer[Answer]
	server   *agentcheck.Server
	listener net.Listener
}

// ErrClosed is the error of Update after a call of Shutdown or Close.
var ErrClosed = errors.New("agentcheck/nodeagent: listeners are closed")

// Update opens the ports that are new in s, closes the ports that are missing from s, and changes
// the answers of the other ports.
//
// If ports cannot be opened, the error joins one error for each of them. The next Update tries
// again to open them.
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
		p.close() // do not wait for running checks: a check takes microseconds, and HAProxy repeats it
		delete(l.ports, number)
		l.log("agent port closed", *p.answer.Load())
	}
	return errors.Join(errs...)
}

// OpenPorts returns the number of open ports.
func (l *Listeners) OpenPorts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ports)
}

// Serves reports whether a port is open.
func (l *Listeners) Serves(number uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ports[number] != nil
}

// open starts to listen on the port answer.Port. The caller holds l.mu.
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

// serve runs the server of a port. It returns when the server is closed and its last handler has
// returned.
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

// ServeAgent returns the present answer of the port.
func (p *port) ServeAgent(context.Context, *agentcheck.Request) agentcheck.Reply {
	return p.answer.Load().Reply
}

// close closes the port and does not wait for its checks; the port is free when close returns.
// Before serve has called p.server.Serve, p.server does not know the listener. So close also closes
// the listener itself.
func (p *port) close() {
	_ = p.server.Close()
	_ = p.listener.Close()
}

// Shutdown closes all ports and waits for the running checks. If ctx ends first, Shutdown aborts
// these checks and returns the error of ctx. When Shutdown returns, all goroutines of l have ended.
func (l *Listeners) Shutdown(ctx context.Context) error {
	var cut atomic.Bool
	var stopping sync.WaitGroup
	for _, p := range l.takePorts() {
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

// Close closes all ports and aborts the running checks. When Close returns, all goroutines of l
// have ended.
func (l *Listeners) Close() {
	for _, p := range l.takePorts() {
		p.close()
	}
	l.serving.Wait()
}

// takePorts returns the open ports, and makes later Updates fail. The caller must close these ports
// and wait for their checks. It must not hold l.mu during this wait, because Finished may call
// methods of l.
func (l *Listeners) takePorts() []*port {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	ports := slices.Collect(maps.Values(l.ports))
	clear(l.ports)
	return ports
}
