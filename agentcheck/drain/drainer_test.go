package drain

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

// result has the results of Wait or Shutdown, and the time of the return.
type result struct {
	Progress
	err error
	at  time.Time
}

func wait(ctx context.Context, d *Drainer) <-chan result {
	c := make(chan result, 1)
	go func() {
		p, err := d.Wait(ctx)
		c <- result{p, err, time.Now()}
	}()
	return c
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		open.Store(2)
		var changes []State
		d := &Drainer{
			Settings: Settings{Delay: 5 * time.Second, Timeout: 20 * time.Second},
			Count:    func() Load { return Load{Connections: int(open.Load())} },
			Changed:  func(p Progress) { changes = append(changes, p.State) },
		}
		_, err := d.Wait(t.Context())
		require.ErrorIs(t, err, ErrUndone)
		require.NoError(t, d.Ready())
		ready := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
		require.Equal(t, ready, d.ServeAgent(t.Context(), nil))

		began := time.Now()
		p, first := d.Begin()
		require.True(t, first)
		require.Equal(t, Draining, p.State)
		time.Sleep(time.Second)
		p, first = d.Begin()
		require.False(t, first)
		require.Equal(t, began, p.Since)
		require.EqualError(t, d.Ready(), "draining, serves new requests for 4s more; 2 connections, 0 requests; at most 24s more")
		require.Equal(t, "up drain # "+d.Ready().Error(), d.ServeAgent(t.Context(), nil).String())

		// Each of four events ends a wait: the end of the context, Undo, the end of the last
		// connection, and the end of Timeout.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := <-wait(ctx, d)
		require.ErrorIs(t, r.err, context.DeadlineExceeded)
		require.Equal(t, Draining, r.State)

		undone := wait(t.Context(), d)
		synctest.Wait()
		before, err := d.Undo()
		require.NoError(t, err)
		require.Equal(t, Draining, before.State)
		require.ErrorIs(t, (<-undone).err, ErrUndone)
		require.NoError(t, d.Ready())
		require.Equal(t, ready, d.ServeAgent(t.Context(), nil))
		before, err = d.Undo()
		require.NoError(t, err)
		require.Equal(t, Serving, before.State)

		began = time.Now()
		d.Begin()
		done := wait(t.Context(), d)
		time.Sleep(8 * time.Second)
		open.Store(0)
		r = <-done
		require.NoError(t, r.err)
		require.Equal(t, Done, r.State)
		require.LessOrEqual(t, r.at.Sub(began), 8*time.Second+poll)

		open.Store(1) // the listener is still open, and a client comes
		r = <-wait(t.Context(), d)
		var expired *ExpiredError
		require.ErrorAs(t, r.err, &expired)
		require.Equal(t, Expired, expired.Progress.State)
		require.Equal(t, 25*time.Second, r.at.Sub(began))
		require.Equal(t, []State{Draining, Serving, Draining}, changes)
	})
}

// If a drain is undone and another drain begins, a call of Wait for the first drain does not wait
// for the second one.
func TestWaitEndsWithItsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Drainer{}
		d.Begin()
		old := wait(t.Context(), d)
		synctest.Wait()
		time.Sleep(time.Second)
		_, err := d.Undo()
		require.NoError(t, err)
		d.Begin()
		require.ErrorIs(t, (<-old).err, ErrUndone)
	})
}

// TestChangedReportsTheLastState begins and undoes drains at the same time. The last call of
// Changed must have the last state.
func TestChangedReportsTheLastState(t *testing.T) {
	for range 300 {
		var last State
		d := &Drainer{Changed: func(p Progress) {
			runtime.Gosched()
			last = p.State
		}}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { d.Begin() })
			wg.Go(func() { _, _ = d.Undo() })
		}
		wg.Wait()
		require.Equal(t, d.Progress().State, last)
	}
}

func TestShutdown(t *testing.T) {
	for name, test := range map[string]struct {
		before time.Duration // how long the drain lasts before Shutdown
		ends   time.Duration // how long after Shutdown the connection ends
		closes time.Duration // how long after Shutdown the listeners close
		total  time.Duration
		err    bool
	}{
		"no drain before":        {0, 6 * time.Second, 5 * time.Second, 6 * time.Second, false},
		"in the delay":           {2 * time.Second, 6 * time.Second, 3 * time.Second, 6 * time.Second, false},
		"nothing open":           {0, 0, 5 * time.Second, 5 * time.Second, false},
		"an hour before":         {time.Hour, 6 * time.Second, 0, 6 * time.Second, false},
		"expires an hour before": {time.Hour, time.Hour, 0, 20 * time.Second, true},
		"expires":                {0, time.Hour, 5 * time.Second, 25 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &Drainer{Settings: Settings{Delay: 5 * time.Second, Timeout: 20 * time.Second}}
				inner := newFakeListener()
				l := d.Listener(inner)
				client, server := net.Pipe()
				defer client.Close()
				inner.conns <- server
				c, err := l.Accept()
				require.NoError(t, err)
				require.Equal(t, server, c.(interface{ NetConn() net.Conn }).NetConn())
				if test.before > 0 {
					d.Begin()
					time.Sleep(test.before)
				}
				began := time.Now()
				ends := time.AfterFunc(test.ends, func() { c.Close(); c.Close() })
				defer ends.Stop()
				var closed time.Duration
				p, err := d.Shutdown(t.Context(), func() { closed = time.Since(began) })
				require.Equal(t, test.closes, closed)
				require.InDelta(t, test.total, time.Since(began), float64(poll))
				require.True(t, p.Stopping)
				if test.err {
					require.ErrorAs(t, err, new(*ExpiredError))
				} else {
					require.NoError(t, err)
				}
				_, err = d.Undo()
				require.ErrorIs(t, err, ErrStopping)
				require.Error(t, d.Ready())
			})
		})
	}
}

// Shutdown closes the listeners even if its context ends during the delay.
func TestShutdownInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Drainer{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closed := false
		_, err := d.Shutdown(ctx, func() { closed = true })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, closed)
	})
}

// fakeListener accepts the connections that a test sends.
type fakeListener struct{ conns chan net.Conn }

func newFakeListener() *fakeListener { return &fakeListener{make(chan net.Conn, 1)} }

func (l *fakeListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *fakeListener) Close() error              { return nil }
func (l *fakeListener) Addr() net.Addr            { return &net.TCPAddr{} }
