package edge_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/testscale"
)

// TestReloadKeepsIdleConnections reloads HAProxy many times. Some clients pause at each reload:
// their connections are idle then, and each must get an answer to its next request. Other clients
// send requests all the time. No client repeats a request, so a closed connection fails the test.
func TestReloadKeepsIdleConnections(t *testing.T) {
	t.Parallel()
	const pausing, busy = 20, 2
	reloads := testscale.Of(6)
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	web := ref("eu-1", "web")
	w.upstream(web, 0, 1)
	config := w.config(edge.Edge{}, tableOf(t, route("example.com", "/", weighted{web, 100})))
	files, err := config.Render(w.dir)
	require.NoError(t, err)
	configtest.WriteFiles(t, w.dir, files[:len(files)-1])
	haproxytest.StartMaster(t, w.dir, string(files[len(files)-1].Data))
	reload := deploy.Reloader{
		Master:  runtimeapi.Socket{Path: filepath.Join(w.dir, haproxytest.MasterSocket)},
		Timeout: time.Minute,
	}.Reload

	var clients []*client
	for range pausing {
		clients = append(clients, newClient(t, w.frontend))
	}
	var sent sync.WaitGroup
	var stop atomic.Bool
	for range busy {
		c := newClient(t, w.frontend)
		sent.Go(func() {
			for !stop.Load() && !t.Failed() {
				if err := c.try(); err != nil {
					t.Errorf("a client that sends all the time: %v", err)
				}
			}
		})
	}
	defer sent.Wait()
	defer stop.Store(true)
	for n := range reloads {
		for _, c := range clients {
			require.NoError(t, c.try(), "before reload %d", n)
			require.NotNil(t, c.conn, "HAProxy keeps the connection open")
		}
		require.NoError(t, reload(t.Context()))
		for i, c := range clients {
			require.NoError(t, c.try(), "client %d: the first request after reload %d", i, n)
		}
	}
}

// try sends one request on the connection of the client, or on a new one if HAProxy has announced
// the end of the last connection with "Connection: close". It returns an error unless the answer
// has status 200. It may run outside the goroutine of the test.
func (c *client) try() error {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		return err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	if r.Close {
		err, c.conn = c.conn.Close(), nil
	}
	return err
}
