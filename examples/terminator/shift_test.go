package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// shiftWorld is a terminator and an HAProxy with a route whose requests a shift can move from eu-1
// to eu-2. The client keeps its connection.
type shiftWorld struct {
	*watcher
	url    string
	dir    string
	token  string
	flags  []string
	faulty atomic.Bool // eu-2 answers 500
	client http.Client
	grpc   bool // the clusters serve gRPC, over HTTP/2 without TLS
}

const shiftRoutes = `routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 0}
  check: {interval: 100ms}
  shift: true
`

func newShiftWorld(t *testing.T) *shiftWorld { return newShiftWorldOf(t, shiftRoutes) }

// newShiftWorldOf returns a world with these declarations and further flags. If the declarations
// have "protocol: grpc", the servers and the client use HTTP/2 without TLS.
func newShiftWorldOf(t *testing.T, declared string, flags ...string) *shiftWorld {
	s, w := prepareShiftWorld(t, declared, flags...)
	s.start(w)
	return s
}

// start starts the terminator and the HAProxy of a prepared world.
func (s *shiftWorld) start(w *world) {
	s.watcher = w.watchIn(s.dir, s.flags...)
	s.waitLog("the change is not in force") // HAProxy does not run yet
	config, err := os.ReadFile(filepath.Join(s.dir, "haproxy.cfg"))
	require.NoError(w.t, err)
	haproxytest.StartMaster(w.t, s.dir, string(config))
	s.waitReady()
}

// prepareShiftWorld returns a world without a terminator and without an HAProxy.
func prepareShiftWorld(t *testing.T, declared string, flags ...string) (*shiftWorld, *world) {
	grpc := strings.Contains(declared, "protocol: grpc")
	w := newWorld(t)
	s := &shiftWorld{dir: haproxytest.Dir(t), token: clitest.TokenFile(t)}
	ports := haproxytest.Ports(t, 3)
	for i, name := range []string{"eu-1", "eu-2"} {
		require.NoError(t, os.MkdirAll(w.path(name), 0o755))
		w.write(name+"/objects.yaml", "apiVersion: v1\nkind: List\nitems:\n"+
			fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: tracks}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", ports[i+1])+
			"- {apiVersion: v1, kind: Node, metadata: {name: n0}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}\n")
		server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", ports[i+1]), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if i == 1 && s.faulty.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			if grpc {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			}
			fmt.Fprint(w, name)
		})}
		if grpc {
			server.Protocols = new(http.Protocols)
			server.Protocols.SetUnencryptedHTTP2(true)
		}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.ListenAndServe() }()
		t.Cleanup(func() { _ = server.Close(); <-done })
	}
	if grpc {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.client.Transport, s.grpc = transport, true
	}
	w.write("routes.yaml", declared)
	s.url = fmt.Sprintf("http://127.0.0.1:%d/tracks", ports[0])
	s.flags = []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[0]), "-haproxy", w.haproxy(), "-max-change", "100%", "-closable",
		"-cluster", "eu-2=dir:" + w.path("eu-2"), "-node-health", "kube-proxy",
		"-stats-socket", filepath.Join(s.dir, haproxytest.StatsSocket), "-reload", filepath.Join(s.dir, haproxytest.MasterSocket),
	}
	s.flags = append(s.flags, flags...)
	t.Cleanup(s.client.CloseIdleConnections)
	return s, w
}

func (s *shiftWorld) shift(args ...string) (code int, output string) {
	s.t.Helper()
	return s.subcommand("shift", args...)
}

func (s *shiftWorld) subcommand(name string, args ...string) (code int, output string) {
	s.t.Helper()
	var out bytes.Buffer
	args = append([]string{name}, append(args, "-admin", s.admin, "-admin-token-file", s.token)...)
	code = run(s.t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &out})
	return code, out.String()
}

// share sends n requests over one kept connection, and requires that about this percentage of them
// reaches eu-2 and that none fails. The margin is 4.5 standard deviations.
func (s *shiftWorld) share(percent float64, n int) {
	s.t.Helper()
	moved := 0
	for range n {
		if cluster := s.answers(); cluster == "eu-2" {
			moved++
		} else {
			require.Equal(s.t, "eu-1", cluster)
		}
	}
	p := percent / 100
	require.InDelta(s.t, percent, 100*float64(moved)/float64(n), 450*math.Sqrt(p*(1-p)/float64(n)))
}

// request sends a request, and returns the response with its body.
func (s *shiftWorld) request() (response *http.Response, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url, http.NoBody)
	require.NoError(s.t, err)
	request.Host = "api.example.com"
	response, err = s.client.Do(request)
	require.NoError(s.t, err)
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return response, string(data)
}

// answers sends a request, and returns the cluster that has answered.
func (s *shiftWorld) answers() string {
	s.t.Helper()
	response, body := s.request()
	if !s.faulty.Load() {
		require.Equal(s.t, http.StatusOK, response.StatusCode)
	}
	if s.grpc {
		require.Equal(s.t, "HTTP/2.0 0", response.Proto+" "+response.Trailer.Get("Grpc-Status"))
	}
	return body
}

// worker returns the process ID of the worker that serves. It returns "" while the master restarts
// itself during a reload.
func (s *shiftWorld) worker() string {
	runtime := deploy.Runtime{Master: runtimeapi.Socket{Path: filepath.Join(s.dir, haproxytest.MasterSocket)}}
	worker, err := runtime.Worker(s.t.Context())
	if err != nil {
		return ""
	}
	return worker.Worker
}

// TestShift moves the requests of a route with the subcommand, reloads HAProxy and restarts the
// terminator in between, pauses the shift by errors, and undoes it.
func TestShift(t *testing.T) {
	t.Parallel()
	s := newShiftWorld(t)
	const route = "API.example.com/tracks/" // in another spelling
	code, output := s.shift()
	require.Equal(t, cli.ExitOK, code, output)
	require.Contains(t, output, "connections: closed after 0% of the responses")
	s.share(0, 100)
	worker := s.worker()
	require.NotEmpty(t, worker)

	code, output = s.shift(route, "-to", "eu-2:50", "-for", "1h", "-steps", "5,50", "-hold", "100ms")
	require.Equal(t, cli.ExitOK, code, output)
	require.Regexp(t, `api.example.com/tracks: 5% to eu-2, moving to 50% \(until .*Z\)\n(.*\n)*.*api.example.com/tracks: 50% to eu-2, done \(until .*Z\)\n`, output)
	s.share(50, 1000)
	require.Equal(t, worker, s.worker(), "no reload")

	// A reload keeps the share.
	s.replace("routes.yaml", shiftRoutes+"- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	s.eventually("a reload", func() bool { now := s.worker(); return now != "" && now != worker })
	s.share(50, 1000)
	worker = s.worker()

	// After a restart of the terminator, the share is the same too, without a reload.
	require.Equal(t, cli.ExitOK, s.stop())
	s.watcher = s.watchIn(s.dir, s.flags...)
	s.waitReady()
	_, output = s.shift(route)
	require.Contains(t, output, "api.example.com/tracks: 50% to eu-2, done")
	s.share(50, 1000)
	require.Equal(t, worker, s.worker(), "no reload")

	// Errors of eu-2 pause the shift, and the route returns to the share of the step before.
	s.faulty.Store(true)
	results := make(chan int, 1)
	go func() {
		code, output = s.shift(route, "-to", "eu-2:100", "-for", "1h", "-steps", "75", "-hold", "10m", "-min-requests", "10")
		results <- code
	}()
	s.eventually("the shift pauses", func() bool {
		select {
		case code = <-results:
			return true
		default:
			s.ask()
			return false
		}
	})
	require.Equal(t, cli.ExitDiffer, code, output)
	require.Contains(t, output, "api.example.com/tracks: 50% to eu-2, paused: at 75%")
	s.waitMetric(`headgate_terminator_shift_share{cluster="eu-2",route="api.example.com/tracks"} 0.5`)
	s.waitMetric(`headgate_terminator_shift_paused{cluster="eu-2",route="api.example.com/tracks"} 1`)
	s.share(50, 1000)
	s.faulty.Store(false)
	code, output = s.shift("-resume", "-detach", route)
	require.Equal(t, cli.ExitOK, code, output)
	require.Contains(t, output, "75% to eu-2, moving to 100%")

	// A command that waits for 100% fails when another command sets the target to 5%.
	var waiting string
	go func() {
		code, text := s.shift(route, "-to", "eu-2:100", "-for", "1h", "-steps", "80", "-hold", "10m")
		waiting = text
		results <- code
	}()
	s.eventually("80%", func() bool {
		_, text := s.shift(route)
		return strings.Contains(text, "80% to eu-2, moving to 100%")
	})
	code, output = s.shift(route, "-to", "eu-2:5", "-for", "1h", "-steps", "5", "-hold", "0", "-detach")
	require.Equal(t, cli.ExitOK, code, output)
	require.Equal(t, cli.ExitFailed, <-results)
	require.Contains(t, waiting, "somebody has changed the shift: api.example.com/tracks: 5% to eu-2")

	code, output = s.shift(route, "-undo")
	require.Equal(t, cli.ExitOK, code, output)
	s.share(0, 200)
	require.Equal(t, worker, s.worker(), "no reload")

	// An order for a whole cluster moves each of its routes that can move.
	code, output = s.shift("eu-1", "-to", "eu-2:100", "-for", "1h", "-steps", "40", "-hold", "1ms")
	require.Equal(t, cli.ExitOK, code, output)
	require.Contains(t, output, "www.example.com/ stays: www.example.com/ cannot move to eu-2")
	require.Contains(t, output, "api.example.com/tracks: 100% to eu-2, done (until ")
	s.share(100, 100)
	s.waitMetric(`headgate_terminator_shift_share{cluster="eu-2",route="api.example.com/tracks"} 1`)
	code, output = s.shift("eu-1", "-undo")
	require.Equal(t, cli.ExitOK, code, output)
	s.share(0, 100)
	code, output = s.shift("eu-1", "-to", "eu-1:0", "-for", "1h", "-hold", "0")
	require.Equal(t, cli.ExitOK, code, output)
	s.share(100, 100)

	// The shift ends by itself.
	code, output = s.shift("eu-1", "-to", "eu-1:0", "-for", "1s", "-hold", "0", "-detach")
	require.Equal(t, cli.ExitOK, code, output)
	s.eventually("the shift expires", func() bool {
		_, text := s.shift()
		return !strings.Contains(text, "api.example.com")
	})
	s.share(0, 100)
	require.Equal(t, worker, s.worker(), "no reload")
	code, output = s.subcommand("journal")
	require.Equal(t, cli.ExitOK, code, output)
	for _, line := range []string{
		"shifted: Shift: api.example.com/tracks: 5% to eu-2, moving to 50%", "50% to eu-2, paused: at 75%",
		"declared weights, undone", "declared weights, expired",
	} {
		require.Contains(t, output, line)
	}

	code, output = s.shift("-close", "100")
	require.Equal(t, cli.ExitOK, code, output)
	require.True(t, s.ask(), "HAProxy closes the connection")
	for _, args := range [][]string{
		{route}, {"-close", "0"}, // usable: a list, and a change back
	} {
		code, output = s.shift(args...)
		require.Equal(t, cli.ExitOK, code, output)
	}
	for _, args := range [][]string{
		{"-to", "eu-2:5", "-for", "1h"},
		{route, "-to", "eu-2:5"},
		{route, "-to", "eu-2:5", "-for", "100h"},
		{route, "-to", "eu-2:5", "-for", "1m"}, // shorter than the steps
		{"-undo"},
		{route, "-undo", "-resume"},
		{route, "-to", "eu-2", "-for", "1h"},
		{"10.0.0.1", "-undo"},
		{route, "-close", "5"},
		{"-close", "x"},
		{route, "-to", "eu-2:5", "-for", "1h", "-steps", "9,1"},
	} {
		code, output = s.shift(args...)
		require.Equal(t, cli.ExitUsage, code, "%q: %s", args, output)
	}
	for _, args := range [][]string{
		{route, "-undo"}, {"eu-1", "-undo"}, {"eu-3", "-to", "eu-2:5", "-for", "1h"}, {"www.example.com", "-to", "eu-1:5", "-for", "1h"}, {"other.example.com", "-to", "eu-2:5", "-for", "1h"}, {route, "-to", "eu-3:5", "-for", "1h"},
	} {
		code, output = s.shift(args...)
		require.Equal(t, cli.ExitFailed, code, "%q: %s", args, output)
		require.Contains(t, output, "409", "%q", args)
	}
}

// TestShiftOfAGRPCRoute moves a gRPC route with -observe. During a step, the test reloads HAProxy.
// The step must continue.
func TestShiftOfAGRPCRoute(t *testing.T) {
	t.Parallel()
	declared := shiftRoutes + "  protocol: grpc\n"
	s := newShiftWorldOf(t, declared, "-observe")
	const route = "api.example.com/tracks"
	s.share(0, 50)
	code, output := s.shift(route, "-to", "eu-2:50", "-for", "1h", "-steps", "20", "-hold", "10m", "-detach")
	require.Equal(t, cli.ExitOK, code, output)
	held := func() bool {
		_, output := s.shift(route)
		return strings.Contains(output, route+": 20% to eu-2, moving to 50%")
	}
	s.eventually("the first step", held)
	s.share(20, 500)
	worker := s.worker()
	s.replace("routes.yaml", declared+"- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	s.eventually("a reload", func() bool { now := s.worker(); return now != "" && now != worker })
	s.waitReady()
	require.True(t, held(), "the reload does not end the step")
	s.share(20, 500)

	code, output = s.shift(route, "-to", "eu-2:100", "-for", "1h", "-steps", "50", "-hold", "1ms")
	require.Equal(t, cli.ExitOK, code, output)
	s.share(100, 100)
	code, output = s.shift(route, "-undo")
	require.Equal(t, cli.ExitOK, code, output)
	s.share(0, 50)
	s.waitMetric(`headgate_terminator_observed_total{reason="dot-segment"} 0`)
}

// ask sends a request, and reports whether HAProxy has closed the connection after the response.
func (s *shiftWorld) ask() (closed bool) {
	s.t.Helper()
	response, _ := s.request()
	return response.Close
}
