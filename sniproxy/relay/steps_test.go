package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/testcert"
)

func TestRelaysTheHello(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{addr: backend(t, echo)})
		c := dial(t, addr)
		write(t, c, "hello")
		expect(t, c, "hello")
		write(t, c, "world")
		expect(t, c, "world")
		require.NoError(t, c.CloseWrite())
		expectEOF(t, c)
		r := receive(t, done)
		require.NoError(t, r.Err)
		require.Equal(t, ByClient, r.By)
		require.Equal(t, PhaseRelay, r.Phase)
		require.EqualValues(t, 10, r.ToBackend)
		require.EqualValues(t, 10, r.ToClient)
		require.Positive(t, r.Hello)
		require.Positive(t, r.Dial)
		require.Greater(t, r.Total, r.Dial)
	})
}

func TestDataAndSkip(t *testing.T) {
	tests := map[string]struct {
		step Step
		want string
	}{
		"data first":         {Step{Data: []byte("PROXY ")}, "PROXY hello"},
		"skip":               {Step{Skip: 2}, "llo"},
		"both":               {Step{Data: []byte("PROXY "), Skip: 4}, "PROXY o"},
		"skip all":           {Step{Skip: 5}, ""},
		"skip more":          {Step{Skip: 50}, ""},
		"skip all, data":     {Step{Skip: 5, Data: []byte("x")}, "x"},
		"data with room":     {Step{Data: append(make([]byte, 0, 100), "PROXY "...)}, "PROXY hello"},
		"negative skip":      {Step{Skip: -1}, "hello"},
		"empty data, room":   {Step{Data: make([]byte, 0, 100)}, "hello"},
		"much data":          {Step{Data: []byte(strings.Repeat("d", 6<<20))}, strings.Repeat("d", 6<<20) + "hello"},
		"by way of a dialer": {Step{Data: []byte("PROXY "), Skip: 1, Dial: func(context.Context) (net.Conn, error) { return nil, nil }}, "PROXY ello"},
	}
	forEach(t, func(t *testing.T, e *Engine) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				e := newEngine(t, &Engine{Portable: e.Portable})
				b := backend(t, echo)
				addr, done := serve(t, e, script{hello: func(_ *script, _ []byte, err error) Step {
					if err != nil {
						return Step{}
					}
					step := test.step
					step.Action, step.Addr = Connect, b
					if step.Dial != nil {
						step.Dial = func(ctx context.Context) (net.Conn, error) {
							return new(net.Dialer).DialContext(ctx, "tcp", b.String())
						}
					}
					return step
				}})
				c := dial(t, addr)
				write(t, c, "hello")
				require.NoError(t, c.CloseWrite())
				all, err := io.ReadAll(c)
				require.NoError(t, err)
				require.True(t, test.want == string(all), "%d bytes, want %d", len(all), len(test.want))
				r := receive(t, done)
				require.NoError(t, r.Err)
				require.EqualValues(t, max(len(test.want)-len(test.step.Data), 0), r.ToBackend)
				require.EqualValues(t, len(test.want), r.ToClient)
			})
		}
	})
}

func TestAddresses(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		type addrs struct{ local, remote netip.AddrPort }
		got := make(chan addrs, 1)
		addr, _ := serve(t, e, script{hello: func(s *script, _ []byte, _ error) Step {
			got <- addrs{s.conn.LocalAddr(), s.conn.RemoteAddr()}
			return Step{Action: Drop}
		}})
		c := dial(t, addr)
		write(t, c, "x")
		require.Equal(t, addrs{netip.MustParseAddrPort(addr), c.LocalAddr().(*net.TCPAddr).AddrPort()}, receive(t, got))
	})
}

func TestWait(t *testing.T) {
	step := func(b netip.AddrPort) Step { return Step{Action: Connect, Addr: b} }
	tests := map[string]func(c Conn, b netip.AddrPort){
		"resumed later": func(c Conn, b netip.AddrPort) {
			go func() { c.Resume(step(b)) }()
		},
		"resumed before": func(c Conn, b netip.AddrPort) { c.Resume(step(b)) },
		"resumed twice": func(c Conn, b netip.AddrPort) {
			c.Resume(step(b))
			c.Resume(Step{Action: Drop})
		},
	}
	forEach(t, func(t *testing.T, e *Engine) {
		for name, resume := range tests {
			t.Run(name, func(t *testing.T) {
				e := newEngine(t, &Engine{Portable: e.Portable})
				addr, done := serve(t, e, script{addr: backend(t, echo), hello: func(s *script, _ []byte, err error) Step {
					if err != nil {
						return Step{}
					}
					resume(s.conn, s.addr)
					return Step{Action: Wait}
				}})
				c := dial(t, addr)
				write(t, c, "hello")
				write(t, c, ", more")
				expect(t, c, "hello, more")
				c.Close()
				require.NoError(t, receive(t, done).Err)
			})
		}
	})
}

func TestResumeAfterDone(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		conns := make(chan Conn, 1)
		addr, done := serve(t, e, script{hello: func(s *script, _ []byte, _ error) Step {
			conns <- s.conn
			return Step{Action: Drop, Err: errors.New("no")}
		}})
		c := dial(t, addr)
		write(t, c, "x")
		r := receive(t, done)
		require.EqualError(t, r.Err, "no")
		require.Equal(t, BySession, r.By)
		conn := receive(t, conns)
		conn.Resume(Step{Action: Answer, Data: []byte("late")})
		conn.Close()
		expectEnd(t, c)
		require.Empty(t, done)
	})
}

// expectEnd expects the end of the connection, FIN or RST, and no bytes before it.
func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	require.Empty(t, string(b))
	if err != nil {
		require.True(t, isReset(err), err)
	}
}

func TestConnClose(t *testing.T) {
	for _, phase := range []Phase{PhaseHello, PhaseWait, PhaseDial, PhaseRelay} {
		t.Run(phase.String(), func(t *testing.T) {
			forEach(t, func(t *testing.T, e *Engine) {
				b, backends := accepting(t)
				conns := make(chan Conn, 1)
				dialing := make(chan struct{}, 1)
				addr, done := serve(t, e, script{hello: func(s *script, _ []byte, err error) Step {
					conns <- s.conn
					switch phase {
					case PhaseHello:
						return Step{}
					case PhaseWait:
						return Step{Action: Wait}
					case PhaseDial:
						return Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
							dialing <- struct{}{}
							<-ctx.Done()
							return nil, ctx.Err()
						}}
					}
					return Step{Action: Connect, Addr: b}
				}})
				c := dial(t, addr)
				write(t, c, "x")
				switch conn := receive(t, conns); phase {
				case PhaseRelay:
					expect(t, receive(t, backends), "x")
					conn.Close()
				case PhaseDial:
					receive(t, dialing)
					conn.Close()
				default:
					conn.Close()
				}
				expectEnd(t, c)
				r := receive(t, done)
				require.Equal(t, BySession, r.By)
				require.Equal(t, phase, r.Phase)
				require.NoError(t, r.Err)
			})
		})
	}
}

func TestDialFailed(t *testing.T) {
	nobody := freePort(t)
	forEach(t, func(t *testing.T, e *Engine) {
		t.Run("next", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			good := backend(t, echo)
			var errs []error
			addr, done := serve(t, e, script{addr: nobody, dialFailed: func(s *script, err error) Step {
				if errs = append(errs, err); len(errs) < 3 {
					return Step{Action: Connect, Addr: nobody}
				}
				return Step{Action: Connect, Addr: good, Data: []byte("third: ")}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "third: hello")
			c.Close()
			require.NoError(t, receive(t, done).Err)
			require.Len(t, errs, 3)
			for _, err := range errs {
				require.ErrorContains(t, err, "refused")
			}
		})
		t.Run("wait, next", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			good := backend(t, echo)
			addr, _ := serve(t, e, script{addr: nobody, dialFailed: func(s *script, err error) Step {
				go s.conn.Resume(Step{Action: Connect, Addr: good})
				return Step{Action: Wait}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "hello")
		})
		t.Run("answer", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			addr, done := serve(t, e, script{addr: nobody, dialFailed: func(_ *script, err error) Step {
				return Step{Action: Answer, Data: []byte("502"), Err: err}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "502")
			expectEOF(t, c)
			c.Close()
			r := receive(t, done)
			require.Equal(t, PhaseAnswer, r.Phase)
			require.ErrorContains(t, r.Err, "relay: dial: ")
			require.EqualValues(t, 3, r.ToClient)
			require.Zero(t, r.ToBackend)
		})
		t.Run("More", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			addr, done := serve(t, e, script{addr: nobody})
			c := dial(t, addr)
			write(t, c, "hello")
			expectEnd(t, c)
			r := receive(t, done)
			require.Equal(t, PhaseDial, r.Phase)
			require.Equal(t, BySession, r.By)
			require.ErrorContains(t, r.Err, "refused")
		})
		t.Run("its own dialer", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			mine := errors.New("mine")
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				return Step{Action: Connect, Dial: func(context.Context) (net.Conn, error) { return nil, mine }}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expectEnd(t, c)
			require.ErrorIs(t, receive(t, done).Err, mine)
		})
	})
}

// freePort returns an address of this machine without a listener. Nobody can listen there until the
// test ends.
func freePort(t *testing.T) netip.AddrPort {
	port, release, err := freeport.Hold("127.0.0.1", 0)
	require.NoError(t, err)
	t.Cleanup(release)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
}

func TestAnswer(t *testing.T) {
	page := strings.Repeat("not found ", 1000)
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
			return Step{Action: Answer, Data: []byte(page), Err: errors.New("unknown host")}
		}})
		c := dial(t, addr)
		write(t, c, "GET / and a body that nobody reads")
		// Later bytes of the client must not destroy the answer.
		for range 10 {
			write(t, c, strings.Repeat("x", 1000))
		}
		expect(t, c, page)
		expectEOF(t, c)
		c.Close()
		r := receive(t, done)
		require.Equal(t, Result{
			By: BySession, Phase: PhaseAnswer, Err: r.Err, ToClient: int64(len(page)), Hello: r.Hello, Total: r.Total,
		}, r)
		require.EqualError(t, r.Err, "unknown host")
	})
}

// A client that sends more than the kernel holds still gets its answer.
func TestAnswerInTheMiddleOfAnUpload(t *testing.T) {
	page := strings.Repeat("no such host ", 1000)
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
			return Step{Action: Answer, Data: []byte(page)}
		}})
		upload := func(c net.Conn) (err error) {
			piece := make([]byte, 64<<10)
			for i := 0; err == nil && i < 256; i++ {
				_, err = c.Write(piece)
			}
			return err
		}
		for {
			began := time.Now()
			c := dial(t, addr)
			err := upload(c)
			if err == nil {
				expect(t, c, page)
				expectEOF(t, c)
			} else { // correct only if the Engine read nothing for lingerTimeout, because the machine is busy
				require.GreaterOrEqual(t, time.Since(began)+tolerance, lingerTimeout, err)
			}
			c.Close()
			r := receive(t, done)
			if err == nil {
				require.NoError(t, r.Err)
				return
			}
		}
	})
}

func TestAnswerToAClientThatDoesNotClose(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
			return Step{Action: Answer, Data: []byte("bye")}
		}})
		c := dial(t, addr)
		write(t, c, "x")
		expect(t, c, "bye")
		expectEOF(t, c)
		require.Equal(t, BySession, receive(t, done).By) // although the client has not closed
	})
}

func TestReset(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
			return Step{Action: Reset, Err: errors.New("go away")}
		}})
		c := dial(t, addr)
		write(t, c, "x")
		_, err := c.Read(make([]byte, 1))
		require.True(t, isReset(err), err)
		require.EqualError(t, receive(t, done).Err, "go away")
	})
}

func TestRefusedAtAccept(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		l := listen(t)
		go e.Serve(l, func(Conn) Session { return nil })
		for range 3 {
			expectEnd(t, dial(t, l.Addr().String()))
		}
		poll(t, "counted as open", func() bool { return e.Stats().Open == 0 })
		require.EqualValues(t, 3, e.Stats().Accepted)
	})
}

func TestDialTimeout(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		for _, own := range []bool{false, true} {
			e := newEngine(t, &Engine{Portable: e.Portable, DialTimeout: time.Hour})
			if !own {
				e.DialTimeout = 50 * time.Millisecond
			}
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				step := Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}
				if own {
					step.DialTimeout = 50 * time.Millisecond
				}
				return step
			}})
			c := dial(t, addr)
			write(t, c, "x")
			r := receive(t, done)
			require.ErrorIs(t, r.Err, os.ErrDeadlineExceeded)
			require.Equal(t, PhaseDial, r.Phase)
			require.GreaterOrEqual(t, r.Dial, 50*time.Millisecond)
		}
	})
}

func TestBackendOtherThanTCP(t *testing.T) {
	forEach(t, func(t *testing.T, e *Engine) {
		t.Run("pipe", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			addr, done := serve(t, e, script{hello: func(s *script, _ []byte, err error) Step {
				return Step{Action: Connect, Data: []byte("header "), Skip: 1, Dial: func(context.Context) (net.Conn, error) {
					near, far := net.Pipe()
					go func() { defer far.Close(); io.Copy(far, far) }()
					return near, nil
				}}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "header ello")
			write(t, c, "again")
			expect(t, c, "again")
			c.Close()
			r := receive(t, done)
			require.NoError(t, r.Err)
			require.EqualValues(t, 9, r.ToBackend)
		})
		t.Run("no connection and no error", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				return Step{Action: Connect, Dial: func(context.Context) (net.Conn, error) { return nil, nil }}
			}, dialFailed: func(_ *script, err error) Step {
				return Step{Action: Drop, Err: err}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			require.ErrorIs(t, receive(t, done).Err, errNoConn)
		})
		t.Run("closed by the session", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			conns := make(chan Conn, 1)
			addr, done := serve(t, e, script{hello: func(s *script, _ []byte, err error) Step {
				conns <- s.conn
				return Step{Action: Connect, Dial: func(context.Context) (net.Conn, error) {
					near, far := net.Pipe()
					go func() { defer far.Close(); io.Copy(far, far) }()
					return near, nil
				}}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "hello")
			receive(t, conns).Close()
			expectEnd(t, c)
			require.Equal(t, BySession, receive(t, done).By)
		})
		t.Run("connected during CloseWithin", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			dialing, closing := make(chan struct{}), make(chan struct{})
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				return Step{Action: Connect, Dial: func(context.Context) (net.Conn, error) {
					close(dialing)
					<-closing
					near, far := net.Pipe()
					go func() { defer far.Close(); io.Copy(far, far) }()
					return near, nil
				}}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			receive(t, dialing)
			e.CloseWithin(200 * time.Millisecond)
			close(closing)
			require.ErrorIs(t, receive(t, done).Err, ErrClosed)
		})
		t.Run("TLS", func(t *testing.T) {
			e := newEngine(t, &Engine{Portable: e.Portable})
			cert := testcert.New("a.example").TLS
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
			require.NoError(t, err)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { defer c.Close(); io.Copy(c, c) }()
				}
			}()
			addr, done := serve(t, e, script{hello: func(*script, []byte, error) Step {
				return Step{Action: Connect, Dial: func(ctx context.Context) (net.Conn, error) {
					d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
					return d.DialContext(ctx, "tcp", l.Addr().String())
				}}
			}})
			c := dial(t, addr)
			write(t, c, "hello")
			expect(t, c, "hello")
			require.NoError(t, c.CloseWrite())
			expectEOF(t, c)
			require.NoError(t, receive(t, done).Err)
		})
	})
}
