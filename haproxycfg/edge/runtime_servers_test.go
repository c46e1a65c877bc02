package edge_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// onNodes returns the Upstream of a service with a node port on nodes, and with an agent.
func onNodes(name string, port, agentPort int, nodes ...int) edge.Upstream {
	u := edge.Upstream{Ref: runtimeService(name).Ref, NodePort: uint16(port), AgentPort: uint16(agentPort)}
	for _, i := range nodes {
		u.Nodes = append(u.Nodes, node(i))
	}
	return u
}

// TestServersOfNodesAtRunTime changes the node port and the nodes of a service that has an agent.
// The agent of the service answers "ready 40%". A new server begins with 40% of its weight, and no
// answer brings an old server back. Requests during a change without a reload do not fail.
func TestServersOfNodesAtRunTime(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 4)
	agentPort := ports[3]
	f := newRuntimeEdge(t)
	f.edge.AgentInterval, f.edge.CheckInterval = 100*time.Millisecond, 100*time.Millisecond
	f.edge.Defaults.Check = time.Minute
	f.edge.SpareNodes = -1
	for i := 1; i <= 4; i++ {
		startAgent(t, node(i).Addr, f.nodeAgent, "up ready 100%")
		startAgent(t, node(i).Addr, agentPort, "up ready 40%")
		for _, port := range ports[:2] {
			serveText(t, netip.AddrPortFrom(node(i).Addr, uint16(port)))
		}
	}
	web, api := runtimeRoute("www.example.com", "/", to("web")), runtimeRoute("api.example.com", "/", to("api"))
	more := runtimeRoute("new.example.com", "/", to("web"))
	api3 := onNodes("api", ports[2], 0, 3)
	f.apply([]edge.Upstream{onNodes("web", ports[0], agentPort, 1, 2), api3}, web, api)
	require.Eventually(t, func() bool {
		servers, err := f.stats.Servers(t.Context())
		require.NoError(t, err)
		n := 0
		for _, s := range servers {
			if s.Agent&runtimeapi.CheckConfigured != 0 && s.Weight == 40 {
				n++
			}
		}
		return n == 2
	}, 30*time.Second, 5*time.Millisecond)
	for _, tt := range []struct {
		name     string
		port     int
		nodes    []int
		declared []routes.Route
		want     deploy.ReloadReason
	}{
		{"new port, and a new host", ports[1], []int{1, 2}, []routes.Route{web, api, more}, ""},
		{"a node goes", ports[1], []int{1}, []routes.Route{web, api, more}, ""},
		{"a known node, and a host goes", ports[1], []int{1, 3}, []routes.Route{web, api}, ""},
		{"a node returns", ports[1], []int{1, 2, 3}, []routes.Route{web, api}, ""},
		{"the old port", ports[0], []int{1, 2, 3}, []routes.Route{web, api}, ""},
		{"a new node", ports[0], []int{1, 2, 4}, []routes.Route{web, api}, deploy.ReloadServers},
		{"new port after a reload", ports[1], []int{1, 2, 4}, []routes.Route{web, api}, ""},
	} {
		before := f.worker()
		stop := f.requests("www.example.com")
		upstreams := []edge.Upstream{onNodes("web", tt.port, agentPort, tt.nodes...), api3}
		e := f.apply(upstreams, tt.declared...)
		failed := stop()
		require.Equal(t, tt.want, e.Reload, "%s: %s", tt.name, e.Detail)
		require.Equal(t, tt.want == "", f.worker() == before, tt.name)
		if tt.want == "" {
			require.Positive(t, e.Servers, tt.name)
			require.Empty(t, failed, tt.name)
		}
		// An agent check that began before the change may bring an old server back. The next apply
		// corrects this.
		poll(t, tt.name, func() bool { f.apply(upstreams, tt.declared...); return f.oldServersAreAway() })
		f.agree()
		want := map[string]bool{}
		for _, i := range tt.nodes {
			want[netip.AddrPortFrom(node(i).Addr, uint16(tt.port)).String()] = true
		}
		poll(t, tt.name, func() bool { // the old worker of a reload may accept connections
			got, c := map[string]bool{}, newClient(t, f.frontend)
			for range 8 {
				r := c.do("GET", "www.example.com", "/", "Connection: close\r\n")
				got[r.Header.Get("X-Server")] = true
			}
			for server := range got {
				if !want[server] {
					return false
				}
			}
			return len(got) == len(want)
		})
	}
}

// requests sends requests until somebody calls the returned function. This function returns the
// requests that failed.
func (f *runtimeEdge) requests(host string) (stop func() (failed []string)) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan []string)
	go func() {
		var failed []string
		for tick := time.Tick(5 * time.Millisecond); ctx.Err() == nil; <-tick {
			request, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.frontend+"/", http.NoBody)
			if err != nil {
				panic(err)
			}
			request.Host = host
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				failed = append(failed, err.Error())
				continue
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				failed = append(failed, response.Status)
			}
		}
		done <- failed
	}()
	return func() []string { cancel(); return <-done }
}

// oldServersAreAway reports whether HAProxy has no server with an agent in service that the files do
// not contain: an old server that HAProxy cannot delete has the agent disabled.
func (f *runtimeEdge) oldServersAreAway() bool {
	f.t.Helper()
	worker, err := (&deploy.Runtime{Master: f.master}).Worker(f.t.Context())
	require.NoError(f.t, err)
	servers, err := worker.Servers(f.t.Context())
	require.NoError(f.t, err)
	for _, s := range servers {
		disabled := s.Agent&runtimeapi.CheckConfigured != 0 && s.Agent&runtimeapi.CheckEnabled == 0
		if disabled && s.Admin&runtimeapi.ForcedMaint == 0 {
			return false
		}
	}
	return true
}

// serveText runs an HTTP server that answers with its address in a header.
func serveText(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	serve(t, addr.String(), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Server", addr.String())
		_, _ = io.WriteString(rw, "ok")
	})
}

// TestWeightsAtRunTime changes the weights of a route to two services whose agents answer "ready
// 40%" and "ready 80%". The agents still change the shares, and no request fails. A second route
// with the same services keeps its weights.
func TestWeightsAtRunTime(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 4)
	f := newRuntimeEdge(t)
	f.edge.AgentInterval, f.edge.CheckInterval = 100*time.Millisecond, 100*time.Millisecond
	f.edge.Defaults.Check = time.Minute
	upstreams := []edge.Upstream{onNodes("web", ports[0], ports[2], 1, 2), onNodes("api", ports[1], ports[3], 1, 2)}
	for i := 1; i <= 2; i++ {
		startAgent(t, node(i).Addr, f.nodeAgent, "up ready 100%")
		startAgent(t, node(i).Addr, ports[2], "up ready 40%")
		startAgent(t, node(i).Addr, ports[3], "up ready 80%")
		for _, port := range ports[:2] {
			serveText(t, netip.AddrPortFrom(node(i).Addr, uint16(port)))
		}
	}
	split := func(host string, web, api int) routes.Route {
		return runtimeRoute(host, "/", map[string]int{"web": web, "api": api})
	}
	fixed := split("fixed.example.com", 0, 100)
	f.apply(upstreams, split("www.example.com", 50, 50), fixed)
	apiShare := func(host string) float64 {
		const n = 120
		api, c := 0, newClient(t, f.frontend)
		for range n {
			r := c.do("GET", host, "/", "")
			require.Equal(t, http.StatusOK, r.StatusCode)
			if strings.HasSuffix(r.Header.Get("X-Server"), ":"+strconv.Itoa(ports[1])) {
				api++
			}
		}
		return float64(api) / n
	}
	for _, tt := range []struct{ web, api int }{{100, 50}, {0, 50}, {90, 10}, {0, 100}, {50, 50}} {
		name := fmt.Sprintf("%d:%d", tt.web, tt.api)
		before := f.worker()
		stop := f.requests("fixed.example.com")
		stopOwn := f.requests("www.example.com")
		e := f.apply(upstreams, split("www.example.com", tt.web, tt.api), fixed)
		failed := append(stop(), stopOwn()...)
		require.Empty(t, e.Reload, "%s: %s", name, e.Detail)
		require.Equal(t, before, f.worker())
		require.Empty(t, failed, name)
		poll(t, name, func() bool {
			f.apply(upstreams, split("www.example.com", tt.web, tt.api), fixed)
			return f.oldServersAreAway()
		})
		want := float64(tt.api*80) / float64(tt.web*40+tt.api*80)
		poll(t, name, func() bool { // until the agents have answered
			return math.Abs(apiShare("www.example.com")-want) < 0.03
		})
		f.agree()
		require.Equal(t, 1.0, apiShare("fixed.example.com"), name)
	}
}
