package quicrelay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

func TestHeldDatagramsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		routed, gate := make(chan struct{}), make(chan struct{})
		b := start(t, &Relay{Route: func(context.Context, Request) (Backend, error) {
			<-routed
			return Backend{Addr: backendA}, nil
		}})
		b.prepare = func(s *fakeSocket) { s.gate = gate }
		parts := helloOf("a.example", "one", 1500)
		require.Len(t, parts, 2)
		early := long(0xd0, id("one"), []byte("c"), 100)
		// The second datagram of the hello overtakes the first one, which arrives twice.
		want := [][]byte{parts[1], early, parts[0], parts[0], short([]byte("unknown-id"), 60), short([]byte("later"), 70)}
		for _, d := range want[:5] {
			b.front.put(client1, d)
		}
		require.Empty(t, b.dials())
		close(routed)
		synctest.Wait() // the path waits in send
		b.front.put(client1, want[5])
		close(gate)
		synctest.Wait()
		require.Equal(t, []netip.AddrPort{backendA}, b.dials())
		require.Equal(t, want, b.sockets()[0].datagrams())
		last := short([]byte("last"), 50)
		b.front.put(client1, last)
		require.Equal(t, [][]byte{last}, b.sockets()[0].datagrams())
		b.end()
		require.Len(t, b.ends(), 1)
		s := b.ends()[0]
		require.ErrorIs(t, s.Err, ErrClosed)
		require.Equal(t, client1, s.Client)
		require.Equal(t, backendA, s.Backend)
		require.Equal(t, "a.example", s.Name)
		require.Equal(t, quic.Version1, s.Version)
		require.EqualValues(t, 3*1200+100+60+70+50, s.ToBackend)
	})
}

func TestHeldBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{Route: func(ctx context.Context, _ Request) (Backend, error) {
			<-ctx.Done()
			return Backend{}, ctx.Err()
		}})
		b.front.put(client1, hello("a.example", "one")...)
		for range 100 {
			b.front.put(client1, long(0xd0, id("one"), []byte("c"), 1000))
		}
		held := 0
		b.Relay.mu.Lock()
		for _, paths := range b.table.byClient {
			held += paths[0].heldBytes
		}
		b.Relay.mu.Unlock()
		require.LessOrEqual(t, held, maxHeld)
		require.Greater(t, held, maxHeld-2000)
		b.end()
	})
}

func TestBundles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("a.example", "one")...)
		b.front.put(client1, hello("b.example", "two")...)
		b.sockets()[0].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("A"), 1200))
		b.sockets()[1].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("B"), 1200))
		for _, s := range append(b.sockets(), b.front) {
			s.take()
		}
		toA, toB := short(id("A"), 100), short(id("B"), 100)
		garbage := make([]byte, 100) // no fixed bit and an unknown ID: goes to the newest path
		b.front.put(client1, toA, toA, toB, toA, short(id("A"), 40))
		require.Equal(t, []sent{{slices.Concat(toA, toA), 100, netip.AddrPort{}}, {slices.Concat(toA, short(id("A"), 40)), 100, netip.AddrPort{}}}, b.sockets()[0].take())
		require.Equal(t, [][]byte{toB}, b.sockets()[1].datagrams())
		b.front.put(client1, garbage)
		require.Equal(t, [][]byte{garbage}, b.sockets()[1].datagrams())
		// After the client is confirmed, a bundle of the backend stays together.
		bulk := short([]byte("c"), 1200)
		b.sockets()[0].put(netip.AddrPort{}, bulk, bulk, bulk, short([]byte("c"), 30))
		require.Equal(t, []sent{{slices.Concat(bulk, bulk, bulk, short([]byte("c"), 30)), 1200, client1}}, b.front.take())
		b.end()
	})
}

func TestAmplification(t *testing.T) {
	for name, c := range map[string]struct {
		id       []byte // of the backend
		confirms []byte // a datagram that confirms the address
		before   [][]byte
	}{
		"8 bytes": {
			id("A"), short(id("A"), 60),
			[][]byte{long(0xd0, id("one"), []byte("c"), 60), long(0xd0, id("one"), []byte("c"), 70)},
		},
		"4 bytes": {[]byte("AAAA"), long(0xe0, []byte("AAAA"), []byte("c"), 60), nil},
		// The packet with the first ID of the backend was lost.
		"unknown ID":               {id("A"), short(id("other"), 60), nil},
		"unknown ID, in Handshake": {id("A"), long(0xe0, id("other"), []byte("c"), 60), nil},
		"Initial":                  {id("A"), long(0xc0, id("A"), []byte("c"), 60), nil},
		"3 bytes":                  {[]byte("AAA"), long(0xe0, []byte("AAA"), []byte("c"), 60), [][]byte{long(0xc0, []byte("AAA"), []byte("c"), 60)}},
		"empty":                    {nil, short(nil, 60), nil},
		"empty, in Initial":        {nil, long(0xe0, nil, []byte("c"), 60), [][]byte{long(0xc0, nil, []byte("c"), 60)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, &Relay{})
				b.front.put(client1, hello("a.example", "one")...)
				backend := b.sockets()[0]
				answer := long(0xc0, []byte("c"), c.id, 1200)
				backend.put(netip.AddrPort{}, answer, answer, answer, answer)
				require.Len(t, b.front.datagrams(), 3)
				allowed := 0
				for _, d := range c.before {
					b.front.put(client1, d)
					allowed += 3 * len(d)
				}
				over := short([]byte("c"), allowed+2)
				backend.put(netip.AddrPort{}, answer, over)
				require.Empty(t, b.front.datagrams())
				if allowed > 0 {
					backend.put(netip.AddrPort{}, over[:allowed])
					require.Len(t, b.front.datagrams(), 1)
				}
				b.front.put(client1, c.confirms)
				bulk := short([]byte("c"), 1200)
				backend.put(netip.AddrPort{}, bulk, bulk, bulk, bulk, bulk)
				require.Len(t, b.front.datagrams(), 5)
				b.end()
				require.EqualValues(t, 2*1200+len(over), b.ends()[0].DroppedAmplification)
				require.EqualValues(t, 3*1200+allowed+5*1200, b.ends()[0].ToClient)
			})
		})
	}
}

// Somebody who has a connection of their own to a backend sees its ID, and sends this ID from the
// address of another client.
func TestIDOfAnotherPathConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client2, hello("a.example", "two")...)
		b.sockets()[0].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("seen"), 1200))
		b.front.put(client1, hello("a.example", "one")...)
		answer := long(0xc0, []byte("c"), id("unseen"), 1200)
		b.sockets()[1].put(netip.AddrPort{}, answer, answer, answer)
		require.Len(t, b.front.datagrams(), 4)
		b.front.put(client1, short(id("seen"), 60))
		b.sockets()[1].put(netip.AddrPort{}, answer)
		require.Empty(t, b.front.datagrams())
		b.end()
	})
}

func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("b.example", "one")...)
		b.sockets()[0].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("B"), 1200))
		b.front.put(client2, short(id("other"), 60))
		require.Len(t, b.dials(), 1, "the Relay cannot follow a client to an ID that it has not seen")
		moved := short(id("B"), 60)
		b.front.put(client2, moved)
		require.Equal(t, []netip.AddrPort{backendB, backendB}, b.dials())
		require.Equal(t, [][]byte{moved}, b.sockets()[1].datagrams())
		b.front.take()
		reply := short([]byte("c"), 1200)
		b.sockets()[1].put(netip.AddrPort{}, reply)
		require.Equal(t, []sent{{reply, 1200, client2}}, b.front.take())
		// The old path still works until it is idle.
		b.front.put(client1, moved)
		require.Contains(t, b.sockets()[0].datagrams(), moved)
		time.Sleep(time.Minute)
		b.front.put(client2, moved)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.True(t, b.sockets()[0].isClosed())
		require.False(t, b.sockets()[1].isClosed())
		require.Len(t, b.ends(), 1)
		require.NoError(t, b.ends()[0].Err)
		// The ID stays known while a path uses it: the client moves back.
		b.front.put(client1, moved)
		require.Equal(t, []netip.AddrPort{backendB, backendB, backendB}, b.dials())
		b.end()
		require.True(t, b.ends()[1].Moved)
		require.Equal(t, backendB, b.ends()[1].Backend)
		for i, s := range b.ends() {
			require.Equal(t, "b", s.Tag, "a path keeps the Tag after a move")
			require.Equal(t, PhaseRelay, s.Phase)
			require.Equal(t, routerAddr, s.Local, i)
		}
	})
}

func TestMoveWithoutSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("a.example", "one")...)
		b.sockets()[0].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("A"), 1200))
		b.dialErr = errors.New("no descriptors")
		b.front.put(client2, short(id("A"), 60))
		require.Len(t, b.ends(), 1)
		require.ErrorIs(t, b.ends()[0].Err, b.dialErr)
		b.end()
	})
}

func TestRetryOfTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("a.example", "one")...)
		retry := append([]byte{0xf0, 0, 0, 0, 1, 1, 'c', 8}, id("R")...)
		retry = append(retry, make([]byte, 40)...)
		b.sockets()[0].put(netip.AddrPort{}, retry)
		require.Equal(t, [][]byte{retry}, b.front.datagrams())
		again := long(0xc0, id("R"), []byte("c"), 1200)
		b.front.put(client1, again)
		require.Contains(t, b.sockets()[0].datagrams(), again)
		require.Len(t, b.dials(), 1)
		b.end()
	})
}

func TestTimeouts(t *testing.T) {
	parts := helloOf("a.example", "one", 1500)
	t.Run("hello", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{HelloTimeout: 3 * time.Second})
			b.front.put(client1, parts[0])
			time.Sleep(2 * time.Second)
			b.front.put(client1, parts[0]) // does not prolong the time
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, b.ends(), 1)
			require.ErrorIs(t, b.ends()[0].Err, ErrHelloTimeout)
			require.Equal(t, PhasePeek, b.ends()[0].Phase)
			require.Equal(t, 3*time.Second, b.ends()[0].Total)
			b.end()
		})
	})
	t.Run("route", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{HelloTimeout: 3 * time.Second, RouteTimeout: 4 * time.Second, Route: func(ctx context.Context, _ Request) (Backend, error) {
				<-ctx.Done()
				return Backend{}, ctx.Err()
			}})
			b.front.put(client1, parts[0])
			time.Sleep(2 * time.Second)
			b.front.put(client1, parts[1])
			time.Sleep(4 * time.Second)
			synctest.Wait()
			require.Len(t, b.ends(), 1)
			require.ErrorIs(t, b.ends()[0].Err, context.DeadlineExceeded)
			require.Equal(t, 2*time.Second, b.ends()[0].Peek)
			require.Equal(t, 4*time.Second, b.ends()[0].Route)
			require.Equal(t, PhaseRoute, b.ends()[0].Phase)
			require.Empty(t, b.front.datagrams())
			b.end()
		})
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{IdleTimeout: 10 * time.Second})
			b.front.put(client1, parts...)
			time.Sleep(7 * time.Second)
			b.front.put(client1, short([]byte("x"), 50))
			time.Sleep(7 * time.Second)
			b.sockets()[0].put(netip.AddrPort{}, short([]byte("c"), 50))
			time.Sleep(9 * time.Second)
			synctest.Wait()
			require.Empty(t, b.ends())
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, b.ends(), 1)
			require.NoError(t, b.ends()[0].Err)
			require.Equal(t, 24*time.Second, b.ends()[0].Total)
			b.end()
		})
	})
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		datagrams [][]byte
		prepare   func(*bench)
		alert     uint8
		err       error
		paths     int
	}{
		"refused":         {hello("unknown.example", "one"), nil, 112, nil, 1},
		"no name":         {hello("", "one"), nil, 0, peek.ErrNoName, 1},
		"cannot dial":     {hello("a.example", "one"), func(b *bench) { b.dialErr = errors.New("no descriptors") }, 80, nil, 1},
		"send fails":      {hello("a.example", "one"), func(b *bench) { b.prepare = func(s *fakeSocket) { s.sendErr = errors.New("refused") } }, 80, nil, 1},
		"no hello":        {[][]byte{long(0xc0, id("one"), []byte("c"), 1200)}, nil, 0, quic.ErrAuthentication, 1},
		"small":           {[][]byte{long(0xc0, id("one"), []byte("c"), 1199)}, nil, 0, nil, 0},
		"short ID":        {[][]byte{long(0xc0, []byte("1234567"), []byte("c"), 1200)}, nil, 0, nil, 0},
		"Handshake":       {[][]byte{long(0xe0, id("one"), []byte("c"), 1200)}, nil, 0, nil, 0},
		"0-RTT":           {[][]byte{long(0xd0, id("one"), []byte("c"), 1200)}, nil, 0, nil, 0},
		"unknown ID":      {[][]byte{short(id("one"), 1200)}, nil, 0, nil, 0},
		"not QUIC":        {[][]byte{{0x80, 1, 2}}, nil, 0, nil, 0},
		"server's packet": {[][]byte{append([]byte{0x80, 0, 0, 0, 0, 1, 'a', 1, 'b'}, make([]byte, 1200)...)}, nil, 0, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, &Relay{})
				if c.prepare != nil {
					c.prepare(b)
				}
				b.front.put(client1, c.datagrams...)
				require.Len(t, b.ends(), c.paths)
				answers := b.front.datagrams()
				if c.alert == 0 {
					require.Empty(t, answers)
				} else {
					require.Len(t, answers, 1)
					h, err := quic.ParseHeader(answers[0])
					require.NoError(t, err)
					require.Equal(t, quic.Initial, h.Type)
					require.Equal(t, "c", string(h.DestID))
				}
				if c.paths > 0 {
					require.Error(t, b.ends()[0].Err)
					require.Equal(t, c.alert, b.ends()[0].Alert)
					if name == "refused" {
						require.Equal(t, "unknown", b.ends()[0].Tag)
						require.Equal(t, PhaseRoute, b.ends()[0].Phase)
					}
					if c.err != nil {
						require.ErrorIs(t, b.ends()[0].Err, c.err)
					}
				}
				b.end()
				require.Len(t, b.ends(), c.paths)
			})
		})
	}
}

func TestUnreachableBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("a.example", "one")...)
		b.sockets()[0].put(netip.AddrPort{}) // an ICMP error
		require.Len(t, b.ends(), 1)
		require.EqualValues(t, internalError, b.ends()[0].Alert)
		require.Len(t, b.front.datagrams(), 1)
		// After an answer of the backend, an error does not end the path, but many errors in a row do.
		b.front.put(client1, hello("a.example", "two")...)
		b.sockets()[1].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("A"), 1200))
		for range maxFailures - 1 {
			b.sockets()[1].put(netip.AddrPort{})
		}
		require.Len(t, b.ends(), 1)
		b.sockets()[1].put(netip.AddrPort{})
		require.Len(t, b.ends(), 2)
		require.Zero(t, b.ends()[1].Alert)
		b.end()
	})
}

func TestVersionNegotiation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		unknown := append([]byte{0xc0, 1, 2, 3, 4, 3, 'd', 'd', 'd', 1, 'c'}, make([]byte, 1189)...)
		b.front.put(client1, unknown)
		answers := b.front.datagrams()
		require.Len(t, answers, 1)
		h, err := quic.ParseHeader(answers[0])
		require.NoError(t, err)
		require.Equal(t, quic.VersionNegotiation, h.Type)
		require.Equal(t, "c", string(h.DestID))
		b.front.put(client1, unknown[:1199])
		require.Empty(t, b.front.datagrams())
		b.end()
		require.Empty(t, b.ends())
	})
}

// clientOf returns the address of a client of a source.
func clientOf(source, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(source)}), uint16(port))
}

func TestLimits(t *testing.T) {
	half := helloOf("a.example", "one", 1500)[0]
	whole := hello("a.example", "one")[0]
	t.Run("MaxPathsPerSource", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{MaxPathsPerSource: 2})
			for port := range 3 {
				b.front.put(clientOf(1, 1+port), whole)
			}
			b.front.put(clientOf(2, 1), whole)
			require.Len(t, b.ends(), 1)
			require.ErrorIs(t, b.ends()[0].Err, ErrSourceFull)
			require.Len(t, b.dials(), 3)
			b.end()
		})
	})
	t.Run("MaxPeeking", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{MaxPeeking: 4})
			b.front.put(clientOf(2, 1), half)
			for port := range 10 {
				b.front.put(clientOf(1, 1+port), half)
			}
			require.Len(t, b.ends(), 7)
			for i, s := range b.ends() {
				require.ErrorIs(t, s.Err, ErrEvicted)
				require.Equal(t, clientOf(1, 1+i), s.Client, "the oldest path of the largest source ends")
			}
			b.end()
		})
	})
	t.Run("held bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{MaxPeeking: 10})
			b.front.put(clientOf(2, 1), half)
			for port := range 3 {
				for range 7 { // 8.4 KB count as 3 paths
					b.front.put(clientOf(1, 1+port), half)
				}
			}
			require.Empty(t, b.ends())
			b.front.put(clientOf(3, 1), half)
			require.Len(t, b.ends(), 1)
			require.Equal(t, clientOf(1, 1), b.ends()[0].Client)
			b.end()
		})
	})
	t.Run("MaxPaths", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{MaxPaths: 3})
			for port := range 3 {
				b.front.put(clientOf(1, 1+port), whole)
				time.Sleep(time.Second)
			}
			b.front.put(clientOf(1, 9), whole)
			require.ErrorIs(t, b.ends()[0].Err, ErrFull)
			b.front.put(clientOf(2, 1), whole)
			require.Len(t, b.ends(), 2)
			require.ErrorIs(t, b.ends()[1].Err, ErrEvicted)
			require.Equal(t, clientOf(1, 1), b.ends()[1].Client, "the longest idle path")
			b.end()
		})
	})
}

func TestEvictionEndsRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := 0
		b := start(t, &Relay{MaxPeeking: 1, Route: func(ctx context.Context, req Request) (Backend, error) {
			if req.Client == client1 {
				<-ctx.Done()
				time.Sleep(time.Second)
				cancelled++
				return Backend{Addr: backendA, Tag: "late"}, nil
			}
			return Backend{Addr: backendB}, nil
		}})
		b.front.put(client1, hello("a.example", "one")...)
		b.front.put(client2, hello("a.example", "two")...)
		require.Empty(t, b.ends(), "Finished waits for Route")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, cancelled)
		require.Len(t, b.ends(), 1)
		require.ErrorIs(t, b.ends()[0].Err, ErrEvicted)
		require.Equal(t, PhaseRoute, b.ends()[0].Phase)
		require.Equal(t, "late", b.ends()[0].Tag)
		require.Zero(t, b.ends()[0].Total)
		b.end()
		require.Len(t, b.ends(), 2)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{Route: func(ctx context.Context, req Request) (Backend, error) {
			if req.Client == client2 {
				<-ctx.Done()
				return Backend{}, ctx.Err()
			}
			return Backend{Addr: backendA}, nil
		}})
		b.front.put(client1, hello("a.example", "open")...)
		b.front.put(client2, hello("a.example", "routing")...)
		b.front.put(clientOf(3, 1), helloOf("a.example", "peeking", 1500)[0])
		b.end()
		require.Len(t, b.ends(), 3, "Close waits for Finished")
		for _, s := range b.ends() {
			require.ErrorIs(t, s.Err, ErrClosed)
		}
		b.Close()
		s := newFakeSocket()
		require.ErrorIs(t, b.serve(s, routerAddr), ErrClosed)
		require.True(t, s.isClosed())
	})
}

func TestServeEndsAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		for range maxFailures {
			b.front.put(netip.AddrPort{})
		}
		require.ErrorContains(t, <-b.served, "ICMP error")
		b.Close()
	})
}

func TestTwoFronts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		second := newFakeSocket()
		served := make(chan error, 1)
		go func() { served <- b.serve(second, routerAddr) }()
		b.front.put(client1, hello("a.example", "one")...)
		second.put(client1, hello("b.example", "two")...)
		for i, front := range []*fakeSocket{b.front, second} {
			reply := long(0xc0, []byte("c"), id(fmt.Sprint(i)), 1200)
			b.sockets()[i].put(netip.AddrPort{}, reply)
			require.Equal(t, [][]byte{reply}, front.datagrams())
		}
		b.end()
		require.ErrorIs(t, <-served, ErrClosed)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		b.front.put(client1, hello("a.example", "open")...)
		parts := helloOf("a.example", "peek", 1500)
		b.front.put(client1, parts[0])
		result := make(chan error, 1)
		go func() { result <- b.Shutdown(t.Context()) }()
		synctest.Wait()

		b.front.put(client2, hello("a.example", "new")...)
		answers := b.front.datagrams()
		require.Len(t, answers, 1)
		require.Equal(t, "c", string(header(t, answers[0]).DestID))
		require.Less(t, len(answers[0]), quic.MinDatagram)
		b.front.put(client2, long(0xc0, id("new"), []byte("c"), 1199))
		b.front.put(client2, long(0xc0, []byte("short"), []byte("c"), 1200))
		require.Empty(t, b.front.datagrams())
		require.Empty(t, b.ends(), "a refused connection is no path")

		b.front.put(client1, parts[1])
		require.Len(t, b.dials(), 2, "the hello of an old path may arrive late")
		time.Sleep(20 * time.Second)
		last := short([]byte("last"), 60)
		b.front.put(client1, last)
		require.Contains(t, b.sockets()[1].datagrams(), last)
		time.Sleep(29 * time.Second)
		synctest.Wait()
		require.Len(t, b.ends(), 1, "30 s without a datagram have passed on one path")
		time.Sleep(2 * time.Second)
		require.NoError(t, <-result)
		require.ErrorIs(t, <-b.served, ErrClosed)
		require.Len(t, b.ends(), 2)
		for _, s := range b.ends() {
			require.NoError(t, s.Err)
		}
	})
}

func TestShutdownDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{IdleTimeout: 20 * time.Second})
		b.front.put(client1, hello("a.example", "one")...)
		ctx, cancel := context.WithTimeout(t.Context(), 19*time.Second)
		defer cancel()
		require.ErrorIs(t, b.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, b.ends()[0].Err, ErrClosed)
		b.end()
	})
}

func TestAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := uint64(40)
		b := start(t, &Relay{
			NewID: func() uint64 { ids++; return ids },
			Route: func(ctx context.Context, req Request) (Backend, error) {
				if req.Hello.Name == "slow.example" {
					<-ctx.Done()
				}
				return Backend{Addr: backendA, Tag: req.Hello.Name}, nil
			},
		})
		b.front.put(client1, hello("a.example", "open")...)
		b.front.put(client2, hello("slow.example", "routing")...)
		b.front.put(clientOf(3, 1), helloOf("a.example", "peeking", 1500)[0])
		b.sockets()[0].put(netip.AddrPort{}, long(0xc0, []byte("c"), id("A"), 1200))
		time.Sleep(time.Second)
		got := map[uint64]Stats{}
		for s := range b.All() {
			require.Equal(t, routerAddr, s.Local)
			require.Equal(t, time.Second, s.Total)
			got[s.ID] = s
		}
		require.Len(t, got, 3)
		require.Equal(t, PhaseRelay, got[41].Phase)
		require.Equal(t, "a.example", got[41].Tag)
		require.EqualValues(t, 1200, got[41].ToClient)
		require.Equal(t, PhaseRoute, got[42].Phase)
		require.Equal(t, "slow.example", got[42].Name)
		require.Nil(t, got[42].Tag)
		require.Equal(t, PhasePeek, got[43].Phase)
		for range b.All() {
			break
		}
		b.end()
		for range b.All() {
			t.Error("a path is open after Close")
		}
	})
}

func TestTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{MaxPathsPerSource: 1, Trusted: func(a netip.Addr) bool { return a == client1.Addr() }})
		for _, c := range []netip.AddrPort{client1, client2} {
			b.front.put(c, hello("a.example", "one")...)
			b.front.put(c, hello("a.example", "two")...)
		}
		require.Len(t, b.ends(), 1)
		require.Equal(t, client2, b.ends()[0].Client)
		require.ErrorIs(t, b.ends()[0].Err, ErrSourceFull)
		require.EqualValues(t, 4, b.ends()[0].ID)
		b.end()
	})
}

func TestMaxHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{MaxHello: 1400})
		b.front.put(client1, hello("a.example", "small")...)
		require.Len(t, b.dials(), 1)
		b.front.put(client1, helloOf("a.example", "large", 1500)...)
		require.Len(t, b.ends(), 1)
		require.ErrorIs(t, b.ends()[0].Err, peek.ErrTooLarge)
		b.end()
	})
}

// A client sends its hello again if the answer is lost, and a last packet after the answer.
func TestRefusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Relay{})
		refused, dropped := hello("unknown.example", "one")[0], hello("", "two")[0]
		b.front.put(client1, refused)
		b.front.put(client1, dropped)
		first := b.front.datagrams()
		require.Len(t, first, 1)
		b.front.put(client1, refused)
		require.Equal(t, first, b.front.datagrams())
		b.front.put(client1, dropped)
		b.front.put(client1, long(0xc0, id("one"), []byte("c"), 60))
		require.Empty(t, b.front.datagrams())
		require.Len(t, b.ends(), 2, "no further path has begun")
		// The same ID from another address is another connection.
		b.front.put(client2, refused)
		require.Len(t, b.ends(), 3)

		b.Relay.mu.Lock()
		for i := range maxRefused {
			b.refused.add(initialKey{peer{front: nil, addr: clientOf(3, 1+i)}, "other"}, nil)
		}
		b.Relay.mu.Unlock()
		require.Equal(t, maxRefused, len(b.refused.answers))
		b.front.put(client1, refused)
		require.Len(t, b.ends(), 4, "the Relay has forgotten the connection")
		b.end()
	})
}
