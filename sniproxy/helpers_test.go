package sniproxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// patience bounds how long a test waits for an event that must happen.
const (
	patience = time.Minute
	poll     = time.Millisecond
)

// engine is one of the two implementations of package relay.
type engine bool

const (
	native   engine = false
	portable engine = true
)

// eachEngine runs a test with both implementations.
func eachEngine(t *testing.T, test func(*testing.T, engine)) {
	t.Run("native", func(t *testing.T) { test(t, native) })
	t.Run("portable", func(t *testing.T) { test(t, portable) })
}

// hosts is a Lookup: it maps names to addresses.
type hosts map[string]string

func (h hosts) LookupHost(_ context.Context, host string) (hostlookup.Answer, error) {
	addr, ok := h[host]
	if !ok {
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	}
	return hostlookup.Answer{Endpoint: hostlookup.Endpoint{App: "app of " + host, Host: host, Addr: addr}}, nil
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// router is a Server under test. It may connect to loopback addresses.
type router struct {
	*sniproxy.Server
	t        *testing.T
	finished chan sniproxy.Stats
	serving  sync.WaitGroup
}

func newRouter(t *testing.T, e engine, l hostlookup.Lookup, set ...func(*sniproxy.Server)) *router {
	t.Helper()
	r := &router{t: t, finished: make(chan sniproxy.Stats, 100_000)}
	r.Server = &sniproxy.Server{
		Lookup:         l,
		AllowEndpoints: loopback,
		// A busy machine exceeds the defaults.
		HelloTimeout: time.Hour, LookupTimeout: patience, DialTimeout: patience,
		Finished: func(s sniproxy.Stats) {
			if phases := s.Peek + s.Lookup + s.Dial; phases > s.Total {
				t.Errorf("the phases of %v sum to %v, more than the total of %v", s.ID, phases, s.Total)
			}
			r.finished <- s
		},
	}
	if e == portable {
		sniproxy.SetPortable(r.Server)
	}
	for _, f := range set {
		f(r.Server)
	}
	t.Cleanup(func() {
		r.Close()
		r.serving.Wait()
	})
	return r
}

// serve listens on loopback and returns the address.
func (r *router) serve(accept peek.Protocol) string {
	r.t.Helper()
	return r.serveOn(listenLocal(r.t), accept)
}

func (r *router) serveOn(l net.Listener, accept peek.Protocol) string {
	r.serving.Go(func() { _ = r.Serve(l, accept) })
	return l.Addr().String()
}

// next returns the Stats of the next connection that finishes.
func (r *router) next() sniproxy.Stats {
	r.t.Helper()
	select {
	case s := <-r.finished:
		return s
	case <-time.After(patience):
		require.FailNow(r.t, "no connection has finished")
		return sniproxy.Stats{}
	}
}

var ca = sync.OnceValue(func() testcert.Pair { return testcert.New("test CA") })

// backend is a server behind the router.
type backend struct{ addr string }

// newBackend returns a backend that calls the function "handle" for each connection.
func newBackend(t *testing.T, handle func(net.Conn)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(conns, c)
					mu.Unlock()
				}()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return &backend{l.Addr().String()}
}

// newTLSBackend returns a backend that answers each line with its name and the line.
func newTLSBackend(t *testing.T, names ...string) *backend {
	t.Helper()
	cert := ca().Issue(names...).TLS
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	return newBackend(t, func(c net.Conn) {
		conn := tls.Server(c, conf)
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				conn.CloseWrite()
				return
			}
			if _, err := io.WriteString(conn, names[0]+": "+line); err != nil {
				return
			}
		}
	})
}

// dial connects a client. The end of the test closes it.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// tlsTalk sends a line over TLS and returns the answer.
func tlsTalk(t *testing.T, addr string, conf *tls.Config, line string) string {
	t.Helper()
	return tlsTalkOver(t, dial(t, addr), conf, line)
}

func tlsTalkOver(t *testing.T, c net.Conn, conf *tls.Config, line string) string {
	t.Helper()
	conf.RootCAs = ca().Pool()
	conn := tls.Client(c, conf)
	_, err := io.WriteString(conn, line+"\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	conn.Close()
	return answer[:len(answer)-1]
}

// failing is a Lookup that fails for one host, and does not find the others.
type failing struct{ host string }

var errDown = errors.New("the API is down")

func (f failing) LookupHost(_ context.Context, host string) (hostlookup.Answer, error) {
	if host == f.host {
		return hostlookup.Answer{}, errDown
	}
	return hostlookup.Answer{}, hostlookup.ErrNotFound
}

// newHTTPBackend returns a cleartext backend that answers with protocol, host and path.
func newHTTPBackend(t *testing.T) *backend {
	t.Helper()
	l := listenLocal(t)
	srv := &http.Server{Handler: http.HandlerFunc(sayWho), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return &backend{l.Addr().String()}
}

// newHTTPSBackend returns a backend that gives the answers of newHTTPBackend over TLS.
func newHTTPSBackend(t *testing.T, names ...string) *backend {
	t.Helper()
	cert := ca().Issue(names...).TLS
	l := listenLocal(t)
	srv := &http.Server{Handler: http.HandlerFunc(sayWho), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	go srv.ServeTLS(l, "", "")
	t.Cleanup(func() { srv.Close() })
	return &backend{l.Addr().String()}
}

func sayWho(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\n", r.Proto, r.Host, r.URL.Path)
}

// names is a Resolver that maps a name to its addresses.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	if n[host] == nil {
		return nil, errDown
	}
	for _, a := range n[host] {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

// everyName is a Lookup. The endpoint of each host is the host itself.
type everyName struct{ port uint16 }

func (e everyName) LookupHost(_ context.Context, host string) (hostlookup.Answer, error) {
	return hostlookup.Answer{Endpoint: hostlookup.Endpoint{Host: host, Addr: fmt.Sprintf("%s:%d", host, e.port)}}, nil
}

var errAny = errors.New("any")

// refuse is a DialContext that always fails.
func refuse(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
