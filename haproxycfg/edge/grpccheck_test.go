package edge_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// TestGRPCCheck runs a server with gRPC's health service. HAProxy takes the server out of use while
// the server answers NOT_SERVING, or an error without a message.
func TestGRPCCheck(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(1)
	at := serveH2C(t, func(rw http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		rw.Header().Set("Content-Type", "application/grpc")
		if err != nil || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Method != http.MethodPost || string(message) != "\x00\x00\x00\x00\x00" ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || status.Load() == 0 {
			rw.Header().Set("Grpc-Status", "12")
			return
		}
		rw.Header().Set("Trailer", "Grpc-Status")
		_, _ = rw.Write([]byte{0, 0, 0, 0, 2, 8, byte(status.Load())})
		rw.Header().Set("Grpc-Status", "0")
	})
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: ref("eu-1", "api"), NodePort: at.Port(), Nodes: []edge.Node{node(1)}})
	check := &routes.Check{GRPC: true, Interval: 500 * time.Millisecond, Rise: 1, Fall: 1}
	// HAProxy waits this long for a message.
	patience := haproxycfg.Defaults{Timeouts: haproxycfg.Timeouts{Check: 2 * time.Second}}
	config := w.start(edge.Edge{Defaults: patience}, tableOf(t,
		with(route("example.com", "/", weighted{ref("eu-1", "api"), 100}), func(r *routes.Route) { r.Protocol, r.Check = routes.GRPC, check })))
	var backend *haproxycfg.Backend
	for i := range config.Backends {
		if config.Backends[i].Health.GRPC {
			backend = &config.Backends[i]
		}
	}
	require.NotNil(t, backend)
	name := backend.Servers[0].Name()
	is := func(prefix string) func(runtimeapi.Stat) bool {
		return func(s runtimeapi.Stat) bool { return len(s.Status) >= len(prefix) && s.Status[:len(prefix)] == prefix }
	}
	for _, answer := range []int32{2, 1, 0, 1, 3, 1} { // NOT_SERVING, SERVING, an error, SERVING, SERVICE_UNKNOWN, SERVING
		status.Store(answer)
		if answer == 1 {
			w.eventually(backend.Name, name, is("UP"))
		} else {
			w.eventually(backend.Name, name, is("DOWN"))
		}
	}
}
