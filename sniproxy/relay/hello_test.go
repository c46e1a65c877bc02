package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHelloGrowsByteByByte(t *testing.T) {
	const hello = "a hello that comes in pieces"
	forEach(t, func(t *testing.T, e *Engine) {
		got := make(chan []string, 1)
		addr, _ := serve(t, e, script{addr: backend(t, echo), hello: func(s *script, data []byte, err error) Step {
			if err != nil || len(data) < len(hello) {
				return Step{}
			}
			var all []string
			for _, b := range s.seen {
				all = append(all, string(b))
			}
			got <- all
			return Step{Action: Connect, Addr: s.addr}
		}})
		c := dial(t, addr)
		for i := range len(hello) {
			write(t, c, hello[i:i+1])
		}
		expect(t, c, hello)
		for _, part := range receive(t, got) {
			require.True(t, strings.HasPrefix(hello, part), part)
		}
	})
}

// Many connections receive their hellos in parts at the same time, wait, and dial. No connection
// may get bytes of another one.
func TestHellosSideBySide(t *testing.T) {
	const clients, parts = 50, 4
	forEach(t, func(t *testing.T, e *Engine) {
		e.Loops = 1
		b := backend(t, echo)
		nobody := freePort(t)
		addr, _ := serve(t, e, script{addr: nobody, hello: func(s *script, data []byte, err error) Step {
			if err != nil || bytes.Count(data, []byte("|")) < parts {
				return Step{}
			}
			go s.conn.Resume(Step{Action: Connect, Addr: nobody})
			return Step{Action: Wait}
		}, dialFailed: func(s *script, err error) Step {
			return Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", b.String())
			}}
		}})
		var conns []*net.TCPConn
		for range clients {
			conns = append(conns, dial(t, addr))
		}
		for part := range parts {
			for i, c := range conns {
				write(t, c, fmt.Sprintf("client %d part %d|", i, part))
			}
		}
		for i, c := range conns {
			for part := range parts {
				expect(t, c, fmt.Sprintf("client %d part %d|", i, part))
			}
		}
	})
}

func TestIncompleteHello(t *testing.T) {
	const limit = 4096
	quiet := func(*testing.T, *net.TCPConn) {}
	answer := func(_ *script, _ []byte, err error) Step {
		if err == nil {
			return Step{}
		}
		return Step{Action: Answer, Data: []byte("? " + err.Error())}
	}
	tests := map[string]struct {
		client func(t *testing.T, c *net.TCPConn)
		hello  func(s *script, data []byte, err error) Step
		want   string // the bytes that the client receives
		by     Party
		phase  Phase
		err    error
	}{
		"silence":             {client: quiet, by: ByTimeout, phase: PhaseHello, err: os.ErrDeadlineExceeded},
		"silence, answered":   {client: quiet, hello: answer, want: "? relay: reading the hello: i/o timeout", by: BySession, phase: PhaseAnswer},
		"too little":          {client: func(t *testing.T, c *net.TCPConn) { write(t, c, "hel") }, hello: more, by: ByTimeout, phase: PhaseHello, err: os.ErrDeadlineExceeded},
		"end":                 {client: func(t *testing.T, c *net.TCPConn) { c.CloseWrite() }, by: ByClient, phase: PhaseHello},
		"end after some":      {client: func(t *testing.T, c *net.TCPConn) { write(t, c, "hel"); c.CloseWrite() }, hello: more, by: ByClient, phase: PhaseHello},
		"end, answered":       {client: func(t *testing.T, c *net.TCPConn) { write(t, c, "hel"); c.CloseWrite() }, hello: answer, want: "? relay: reading the hello: EOF", by: BySession, phase: PhaseAnswer},
		"too much":            {client: func(t *testing.T, c *net.TCPConn) { write(t, c, strings.Repeat("x", limit)) }, hello: more, by: BySession, phase: PhaseHello, err: ErrHelloTooLong},
		"too much, answered":  {client: func(t *testing.T, c *net.TCPConn) { write(t, c, strings.Repeat("x", limit)) }, hello: answer, want: "? relay: hello too long", by: BySession, phase: PhaseAnswer},
		"reset":               {client: func(t *testing.T, c *net.TCPConn) { write(t, c, "hel"); c.SetLinger(0); c.Close() }, hello: more, by: ByClient, phase: PhaseHello, err: errReset},
		"reset, not answered": {client: func(t *testing.T, c *net.TCPConn) { write(t, c, "hel"); c.SetLinger(0); c.Close() }, hello: answer, by: ByClient, phase: PhaseHello, err: errReset},
	}
	forEach(t, func(t *testing.T, e *Engine) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				e := newEngine(t, &Engine{Portable: e.Portable, HelloLimit: limit})
				if test.by == ByTimeout || strings.HasSuffix(test.want, "timeout") {
					e.HelloTimeout = 100 * time.Millisecond
				}
				addr, done := serve(t, e, script{hello: test.hello})
				start := time.Now()
				c := dial(t, addr)
				test.client(t, c)
				if test.want != "" {
					expect(t, c, test.want)
					expectEOF(t, c)
					c.Close()
				}
				r := receive(t, done)
				require.Equal(t, test.by, r.By)
				require.Equal(t, test.phase, r.Phase)
				require.ErrorIs(t, r.Err, test.err)
				if test.by == ByTimeout {
					require.GreaterOrEqual(t, time.Since(start)+tolerance, e.HelloTimeout)
				}
			})
		}
	})
}

// tolerance is the largest delay between the clock of a round and an event in this round.
const tolerance = 50 * time.Millisecond

func more(*script, []byte, error) Step { return Step{} }

func TestHelloOfAHalfClosedConnection(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{addr: backend(t, echo), hello: func(s *script, data []byte, err error) Step {
			if !errors.Is(err, io.EOF) {
				return Step{}
			}
			return Step{Action: Connect, Addr: s.addr}
		}})
		c := dial(t, addr)
		write(t, c, "all that I have to say")
		require.NoError(t, c.CloseWrite())
		expect(t, c, "all that I have to say")
		expectEOF(t, c)
		require.NoError(t, receive(t, done).Err)
	})
}
