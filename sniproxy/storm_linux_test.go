package sniproxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/internal/testscale"
)

// stormAPI is the host API of TestStorm. The endpoint of the host h<i> is the backend with the
// number i modulo the number of backends.
type stormAPI struct {
	backends []string
	down     atomic.Bool
	failed   atomic.Int64
}

func (a *stormAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := strings.TrimPrefix(r.URL.Path, "/hosts/")
	if a.down.Load() {
		a.failed.Add(1)
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	var i int
	if _, err := fmt.Sscanf(host, "h%d.example", &i); err != nil {
		http.NotFound(w, r)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"host": host, "endpoint": a.backends[i%len(a.backends)]})
}

// Thousands of connections are open, and thousands of new ones arrive. Meanwhile, slow clients hold
// connections, and the API fails and recovers. No connection may reach a wrong backend, the router
// may refuse no known host, and no descriptor or goroutine may remain at the end.
func TestStorm(t *testing.T) {
	const (
		slow     = 100
		known    = 200
		backends = 10
		dialers  = 50
	)
	conns := min(testscale.Of(2000), 5000) // 5000 need 10,000 descriptors in this process
	api := &stormAPI{}
	for i := range backends {
		api.backends = append(api.backends, newBackend(t, func(c net.Conn) {
			in := bufio.NewReaderSize(c, 1024)
			for {
				// The backend answers each read, of a hello or of a word, with its own name.
				if _, err := in.Peek(1); err != nil {
					return
				}
				in.Discard(in.Buffered())
				if _, err := fmt.Fprintf(c, "%d", i); err != nil {
					return
				}
			}
		}).addr)
	}
	l := listenLocal(t)
	srv := &http.Server{Handler: api}
	go srv.Serve(l)
	defer srv.Close()
	r := startChild(t, childConfig{API: "http://" + l.Addr().String() + "/hosts/{host}"})

	// say sends b and expects the answer of the right backend.
	say := func(c net.Conn, host int, b []byte) error {
		c.SetDeadline(time.Now().Add(2 * patience))
		if _, err := c.Write(b); err != nil {
			return err
		}
		var got [1]byte
		if _, err := io.ReadFull(c, got[:]); err != nil {
			return fmt.Errorf("h%d.example: %w", host, err)
		}
		if want := byte('0' + host%backends); got[0] != want {
			return fmt.Errorf("h%d.example: backend %c, not %c", host, got[0], want)
		}
		return nil
	}
	open := func(host int) (net.Conn, error) {
		c, err := net.Dial("tcp", r.front)
		if err != nil {
			return nil, err
		}
		return c, say(c, host, hellotest.Hello{Name: fmt.Sprintf("h%d.example", host)}.Wire())
	}
	// refusal opens a connection for an unknown host and returns the alert.
	refusal := func(name string) byte {
		c := dial(t, r.front)
		_, err := c.Write(hellotest.Hello{Name: name}.Wire())
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		return got[len(got)-1]
	}

	// One lookup for each host fills the cache.
	for host := range known {
		c, err := open(host)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	r.until("the first have gone", func(s childState) bool { return s.Load.Conns == 0 })
	before := r.ask("")
	require.Equal(t, known, before.Hosts)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var slowly sync.WaitGroup
	hello := hellotest.Hello{Name: "h0.example", Pad: 1000}.Wire()
	for range slow {
		c := dial(t, r.front)
		require.NoError(t, c.SetDeadline(time.Time{})) // only the router may end it
		slowly.Go(func() {
			defer c.Close()
			tick := time.Tick(time.Second)
			for _, b := range hello {
				if _, err := c.Write([]byte{b}); err != nil {
					t.Error("a slow client was cut off: ", err)
					return
				}
				select {
				case <-tick:
				case <-ctx.Done():
					return
				}
			}
		})
	}

	all := make([]net.Conn, conns)
	wave := func(from, to int) {
		var wg sync.WaitGroup
		var next atomic.Int64
		next.Store(int64(from))
		for range dialers {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < to; i = int(next.Add(1)) - 1 {
					c, err := open(i % known)
					all[i] = c
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	wave(0, conns/3)
	api.down.Store(true)
	failedBefore := r.ask("").Stale
	wave(conns/3, 2*conns/3)
	// The API failed for known hosts too, and the router still served them.
	for host := 0; ; host++ {
		c, err := open(host % known)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		if s := r.ask(""); api.failed.Load() > known/2 && s.Stale > failedBefore {
			break
		}
	}
	require.EqualValues(t, 80, refusal("h999999.example"), "new while the API is down: a failure")
	require.EqualValues(t, 80, refusal("none.example"), "and not: unknown")
	api.down.Store(false)
	wave(2*conns/3, conns)
	require.Eventually(t, func() bool { return refusal("none.example") == 112 }, patience, poll)
	c, err := open(1234)
	require.NoError(t, err, "new, and the API is back")
	require.NoError(t, c.Close())
	if t.Failed() {
		return
	}

	s := r.ask("")
	require.GreaterOrEqual(t, s.Load.Conns, conns+slow)
	require.Equal(t, slow, s.Load.Peeking)
	require.LessOrEqual(t, s.Descriptors, 2*(conns+slow)+before.Descriptors+100)
	for i, c := range all {
		require.NoError(t, say(c, i%known, []byte("word")), "connection %d", i)
	}

	cancel()
	slowly.Wait()
	for _, c := range all {
		require.NoError(t, c.Close())
	}
	r.until("all clients end", func(s childState) bool { return s.Load.Conns == 0 })
	srv.Close() // and its open connections
	r.ask("close")
	r.until("connections, descriptors and goroutines end", func(s childState) bool {
		return s.Goroutines <= 2 && s.Descriptors <= before.Descriptors
	})
}
