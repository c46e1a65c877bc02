package edge_test

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestVarnishtest runs the files in testdata/vtc. They have the form of HAProxy's own regression
// tests, and start HAProxy with a configuration that the edge makes.
func TestVarnishtest(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/vtc/*.vtc")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			agents := haproxytest.Ports(t, 1)[0]
			web, api := ref("eu-1", "web"), ref("eu-1", "api")
			w.upstream(web, 0, 1)
			w.upstream(api, agents, 1, 2)
			for i := 1; i <= 2; i++ {
				startAgent(t, node(i).Addr, w.nodeAgent, "up ready 100%")
			}
			startAgent(t, node(2).Addr, agents, "up ready 100%")
			control := startControlledAgent(t, node(1).Addr.String(), agents)
			apiRoute := route("example.com", "/api", weighted{api, 100})
			config := w.config(edge.Edge{AgentInterval: 100 * time.Millisecond}, tableOf(t,
				route("example.com", "/", weighted{web, 100}), apiRoute,
				route("*.example.org", "/", weighted{web, 100}),
				route("paths.example.com", "/path", weighted{web, 100}),
			))
			rendered, err := config.Render(w.dir)
			require.NoError(t, err)
			configtest.WriteFiles(t, w.dir, rendered)
			backend, _ := new(edge.Edge).BackendOf(&apiRoute)
			haproxytest.Varnishtest(t, file, map[string]string{
				"config": filepath.Join(w.dir, haproxytest.ConfigFile), "http": w.frontend,
				"control": control, "backend": backend,
			})
		})
	}
}

// startControlledAgent starts an agent. A client sends a line to the address control, and the agent
// then answers HAProxy with this line. The agent closes the connection of the client after HAProxy
// has read the answer.
func startControlledAgent(t *testing.T, host string, port int) (control string) {
	t.Helper()
	var mu sync.Mutex
	var reply agentcheck.Reply
	asked := 0 // the number of agent checks since somebody set the variable reply
	changed := sync.NewCond(&mu)
	s := &agentcheck.Server{Handler: agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply {
		mu.Lock()
		defer mu.Unlock()
		asked++
		changed.Broadcast()
		return reply
	})}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	control = listen(t, "127.0.0.1:0", func(conn net.Conn) {
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return
		}
		next, err := agentcheck.Parse([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		mu.Lock()
		defer mu.Unlock()
		reply, asked = next, 0
		for asked < 2 { // HAProxy makes the second check only after it has read the first answer
			changed.Wait()
		}
	}).Addr().String()
	t.Cleanup(func() { // if the test has failed, HAProxy makes no more checks
		mu.Lock()
		defer mu.Unlock()
		asked = 2
		changed.Broadcast()
	})
	return control
}
