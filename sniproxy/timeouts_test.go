package sniproxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// pipes is a network in memory: a listener, and a function that connects to it. The tests use it in
// a bubble of testing/synctest. There, hours pass at once, and a leaked goroutine is an error.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443} }

func (p *pipes) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.accept <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := p.DialContext(t.Context(), "", "")
	require.NoError(t, err)
	return c
}

// bubble is a router between two networks of type pipes.
type bubble struct {
	*sniproxy.Server
	front, back *pipes
	finished    chan sniproxy.Stats
	served      chan error
}

func newBubble(set ...func(*sniproxy.Server)) *bubble {
	b := &bubble{front: newPipes(), back: newPipes(), finished: make(chan sniproxy.Stats, 1000), served: make(chan error, 1)}
	b.Server = &sniproxy.Server{
		Lookup:      hosts{"a.example": "10.113.0.10:443"},
		DialContext: b.back.DialContext,
		Finished:    func(s sniproxy.Stats) { b.finished <- s },
	}
	sniproxy.SetPortable(b.Server) // synctest cannot see that an event loop waits in the kernel
	for _, f := range set {
		f(b.Server)
	}
	go func() { b.served <- b.Serve(b.front, 0) }()
	return b
}

func (b *bubble) close(t *testing.T) {
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-b.served, sniproxy.ErrServerClosed)
	b.back.Close()
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// coarse is how late a time-out of the relay may be.
const coarse = 250 * time.Millisecond

func requireAbout(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, got, want)
	require.LessOrEqual(t, got, want+coarse)
}

func TestHelloTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		sent   string
		answer int
	}{
		"nothing":      {"", 0},
		"half a head":  {"GET / HTTP/1.1\r\nHo", 408},
		"half a hello": {"\x16\x03\x01", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(func(s *sniproxy.Server) { s.HelloTimeout = 7 * time.Second })
				start := time.Now()
				c := b.front.dial(t)
				if tt.sent != "" {
					_, err := io.WriteString(c, tt.sent)
					require.NoError(t, err)
				}
				if tt.answer != 0 {
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					require.NoError(t, err)
					require.Equal(t, tt.answer, resp.StatusCode)
				} else {
					_, err := c.Read(make([]byte, 1))
					require.ErrorIs(t, err, io.EOF)
				}
				requireAbout(t, 7*time.Second, time.Since(start))
				c.Close()
				st := <-b.finished
				require.Equal(t, sniproxy.TimedOut, st.Outcome)
				require.Equal(t, sniproxy.PhasePeek, st.Phase)
				require.Equal(t, tt.answer, st.Answer)
				b.close(t)
			})
		})
	}
}

// HelloTimeout bounds the time of the whole hello. A client that sends one byte a second does not
// extend it.
func TestSlowHelloTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble()
		c := b.front.dial(t)
		start := time.Now()
		for _, x := range (hellotest.Hello{Name: "a.example", Pad: 1000}).Wire() {
			pass(time.Second)
			if _, err := c.Write([]byte{x}); err != nil {
				break
			}
		}
		require.GreaterOrEqual(t, time.Since(start), 10*time.Second)
		require.LessOrEqual(t, time.Since(start), 11*time.Second, "at the first write after it")
		require.Equal(t, sniproxy.TimedOut, (<-b.finished).Outcome)
		b.close(t)
	})
}

func TestLookupTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(func(s *sniproxy.Server) {
			s.Lookup = hostlookup.Func(func(ctx context.Context, _ string) (hostlookup.Endpoint, error) {
				<-ctx.Done()
				return hostlookup.Endpoint{}, ctx.Err()
			})
			s.LookupTimeout = 3 * time.Second
		})
		start := time.Now()
		c := b.front.dial(t)
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		requireAbout(t, 3*time.Second, time.Since(start))
		c.Close()
		st := <-b.finished
		require.Equal(t, sniproxy.LookupFailed, st.Outcome)
		require.Equal(t, sniproxy.PhaseLookup, st.Phase)
		require.ErrorIs(t, st.Err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, st.Lookup)
		b.close(t)
	})
}

// All addresses of an endpoint share DialTimeout.
func TestDialTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		addrs []string
		dials int
	}{
		"one address":     {[]string{"10.113.0.11"}, 1},
		"three addresses": {[]string{"10.113.0.11", "10.113.0.2", "fd00::3"}, 3},
		"more than time":  {[]string{"10.113.0.11", "10.113.0.2", "10.113.0.3", "10.113.0.4", "10.113.0.5", "10.113.0.6", "10.113.0.7"}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(func(s *sniproxy.Server) {
					s.Lookup = everyName{443}
					s.Resolver = names{"a.example": tt.addrs}
					s.DialTimeout = 10 * time.Second
					s.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
						require.Equal(t, "tcp", network)
						_, err := netip.ParseAddrPort(addr)
						require.NoError(t, err)
						<-ctx.Done()
						return nil, ctx.Err()
					}
				})
				start := time.Now()
				c := b.front.dial(t)
				_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
				require.NoError(t, err)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				require.NoError(t, err)
				require.Equal(t, 504, resp.StatusCode)
				requireAbout(t, 10*time.Second, time.Since(start))
				c.Close()
				st := <-b.finished
				require.Equal(t, sniproxy.DialFailed, st.Outcome)
				require.Equal(t, tt.dials, st.Dials)
				requireAbout(t, 10*time.Second, st.Dial)
				b.close(t)
			})
		})
	}
}

// After the dial, the time-outs of peek, lookup and dial have no effect. IdleTimeout starts again
// with each byte.
func TestIdleTimeoutOfAWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(func(s *sniproxy.Server) {
			s.HelloTimeout, s.LookupTimeout, s.DialTimeout = time.Second, time.Second, time.Second
			s.IdleTimeout = time.Hour
		})
		srv := &http.Server{Handler: websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) })}
		served := make(chan error)
		go func() { served <- srv.Serve(b.back) }()

		conf, err := websocket.NewConfig("ws://a.example/", "http://a.example")
		require.NoError(t, err)
		ws, err := websocket.NewClient(conf, b.front.dial(t))
		require.NoError(t, err)
		begin := time.Now()
		for range 100 {
			pass(59 * time.Minute)
			require.NoError(t, websocket.Message.Send(ws, "ping"))
			var got string
			require.NoError(t, websocket.Message.Receive(ws, &got))
			require.Equal(t, "ping", got)
		}
		last := time.Now()
		var got string
		require.Error(t, websocket.Message.Receive(ws, &got))
		requireAbout(t, time.Hour, time.Since(last))

		st := <-b.finished
		require.Equal(t, sniproxy.Relayed, st.Outcome)
		require.Error(t, st.Err, "it was cut off")
		require.GreaterOrEqual(t, st.Total, last.Sub(begin))
		ws.Close()
		srv.Close()
		<-served
		b.close(t)
	})
}

func TestShutdownWaitsForAWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble()
		srv := &http.Server{Handler: websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) })}
		served := make(chan error)
		go func() { served <- srv.Serve(b.back) }()
		conf, err := websocket.NewConfig("ws://a.example/", "http://a.example")
		require.NoError(t, err)
		ws, err := websocket.NewClient(conf, b.front.dial(t))
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		shut := make(chan error)
		go func() { shut <- b.Shutdown(ctx) }()
		synctest.Wait()
		require.True(t, b.Load().Draining)
		require.ErrorIs(t, <-b.served, sniproxy.ErrServerClosed, "no more are accepted")
		for range 40 { // minutes; the router closes the rest after 45
			pass(time.Minute)
			require.NoError(t, websocket.Message.Send(ws, "ping"))
			var got string
			require.NoError(t, websocket.Message.Receive(ws, &got))
		}
		require.NoError(t, ws.Close())
		require.NoError(t, <-shut)
		require.NoError(t, (<-b.finished).Err)
		srv.Close()
		<-served
		b.back.Close()
	})
}

// Shutdown closes the remaining connections one by one, not all at once.
func TestShutdownSpreadsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(func(s *sniproxy.Server) {
			s.IdleTimeout = -1
			s.DrainSpread = 30 * time.Second
		})
		var backs sync.WaitGroup
		backs.Go(func() {
			for {
				c, err := b.back.Accept()
				if err != nil {
					return
				}
				backs.Go(func() {
					io.Copy(io.Discard, c)
					c.Close()
				})
			}
		})
		const n = 60
		start := time.Now()
		ended := make(chan time.Duration, n)
		for range n {
			c := b.front.dial(t)
			_, err := c.Write(hellotest.Hello{Name: "a.example"}.Wire())
			require.NoError(t, err)
			go func() {
				io.Copy(io.Discard, c)
				ended <- time.Since(start)
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, b.Shutdown(ctx), "all were closed in time")
		seconds := map[time.Duration]int{}
		for range n {
			at := <-ended
			require.GreaterOrEqual(t, at, 30*time.Second)
			require.LessOrEqual(t, at, time.Minute+coarse)
			seconds[at.Truncate(time.Second)]++
		}
		require.Greater(t, len(seconds), 10, "at so many different moments: %v", seconds)
		for range n {
			require.ErrorIs(t, (<-b.finished).Err, sniproxy.ErrServerClosed)
		}
		require.ErrorIs(t, <-b.served, sniproxy.ErrServerClosed)
		b.back.Close()
		backs.Wait()
	})
}

func TestShutdownClosesAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(func(s *sniproxy.Server) { s.DrainSpread = -1 })
		c := b.front.dial(t) // a silent client
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		synctest.Wait()
		require.ErrorIs(t, b.Shutdown(ctx), context.DeadlineExceeded)
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		st := <-b.finished
		require.Equal(t, sniproxy.Aborted, st.Outcome)
		require.ErrorIs(t, st.Err, sniproxy.ErrServerClosed)
		require.ErrorIs(t, <-b.served, sniproxy.ErrServerClosed)
		require.ErrorIs(t, b.Serve(newPipes(), 0), sniproxy.ErrServerClosed)
		b.back.Close()
	})
}
