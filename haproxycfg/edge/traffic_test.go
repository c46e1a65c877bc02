package edge_test

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

const fast = 50 * time.Millisecond

// TestNodeDrainIsInherited drains a node by its agent. All services on the node drain. The agent of
// a service still sets weights and cannot end the drain.
func TestNodeDrainIsInherited(t *testing.T) {
	t.Parallel()
	for name, health := range map[string]edge.NodeHealth{"agent": edge.NodeAgent, "kube-proxy": edge.NodeAgentAndKubeProxy} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var agents, services [2]*agent
			servicePort, healthPort := haproxytest.Ports(t, 1)[0], haproxytest.Ports(t, 1)[0]
			var kubeProxyDown atomic.Bool
			for i := range agents {
				agents[i] = startAgent(t, node(i+1).Addr, w.nodeAgent, "up ready 100%")
				services[i] = startAgent(t, node(i+1).Addr, servicePort, "ready 100%")
				serve(t, netip.AddrPortFrom(node(i+1).Addr, uint16(healthPort)).String(), func(rw http.ResponseWriter, r *http.Request) {
					if i == 1 && kubeProxyDown.Load() || r.URL.Path != "/healthz" {
						rw.WriteHeader(http.StatusServiceUnavailable)
					}
				})
			}
			web, plain := ref("eu-1", "web"), ref("eu-1", "plain")
			w.upstream(web, servicePort, 1, 2)
			w.upstream(plain, 0, 1, 2)
			table, problems := routes.New(route("web", "/", weighted{web, 100}), route("plain", "/", weighted{plain, 100}))
			require.Empty(t, problems)
			config := w.start(edge.Edge{AgentInterval: fast, CheckInterval: 500 * time.Millisecond, NodeHealth: health, KubeProxyPort: uint16(healthPort)}, table)
			server := func(backend string, i int) string {
				for _, b := range config.Backends {
					if b.Name == backend {
						return b.Servers[i].Name()
					}
				}
				t.Fatal(backend)
				return ""
			}
			const webBackend, plainBackend, nodes = "eu-1.media.web.http", "eu-1.media.plain.http", "nodes.eu-1"
			c := newClient(t, w.frontend)
			// On a busy machine, checks of kube-proxy may fail for a while.
			hits := func(host string, want map[string]int, why string) {
				t.Helper()
				poll(t, fmt.Sprint(host, ": ", want, why), func() bool {
					n := map[string]int{}
					for range 40 {
						n[c.do("GET", host, "/", "").Header.Get("X-Node")]++
					}
					return maps.Equal(n, want)
				})
			}
			type shares = map[string]int
			hits("web", shares{"127.0.0.1": 20, "127.0.0.2": 20}, "")

			services[0].set("ready 25%")
			w.eventually(webBackend, server(webBackend, 0), func(s runtimeapi.Stat) bool { return s.Weight == 25 })
			hits("web", shares{"127.0.0.1": 8, "127.0.0.2": 32}, "")
			hits("plain", shares{"127.0.0.1": 20, "127.0.0.2": 20}, ", the weight of another service")

			agents[1].set("up drain 100%")
			for _, b := range []string{webBackend, plainBackend, nodes} {
				w.eventually(b, server(b, 1), func(s runtimeapi.Stat) bool { return strings.HasPrefix(s.Status, "DRAIN") })
			}
			hits("web", shares{"127.0.0.1": 40}, ", the service agent answers ready all the time")
			hits("plain", shares{"127.0.0.1": 40}, "")

			agents[1].set("up ready 100%")
			for _, b := range []string{webBackend, plainBackend} {
				w.eventually(b, server(b, 1), func(s runtimeapi.Stat) bool { return s.Status == "UP" || s.Status == "no check" })
			}
			hits("web", shares{"127.0.0.1": 8, "127.0.0.2": 32}, ", the weights stay")
			if health == edge.NodeAgentAndKubeProxy {
				kubeProxyDown.Store(true)
				w.eventually(plainBackend, server(plainBackend, 1), func(s runtimeapi.Stat) bool { return strings.HasPrefix(s.Status, "DOWN") })
				hits("plain", shares{"127.0.0.1": 40}, "")
			}
		})
	}
}

// TestFirstAgentCheck uses an interval of an hour between health checks, and requires that each
// agent answers early for the first time. Without a limit on the spread of first checks, most
// servers would wait for minutes.
func TestFirstAgentCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := ref("eu-1", "web")
	agentPort := haproxytest.Ports(t, 1)[0]
	nodes := []int{1, 2, 3, 4, 5, 6, 7, 8}
	for _, i := range nodes {
		startAgent(t, node(i).Addr, w.nodeAgent, "up ready 100%")
		startAgent(t, node(i).Addr, agentPort, "ready 40%")
	}
	w.upstream(web, agentPort, nodes...)
	table, problems := routes.New(route("h", "/", weighted{web, 100}))
	require.Empty(t, problems)
	config := w.start(edge.Edge{AgentInterval: fast, CheckInterval: time.Hour}, table)
	be := config.Backends[0]
	require.Len(t, be.Servers, len(nodes))
	for _, s := range be.Servers {
		w.eventually(be.Name, s.Name(), func(s runtimeapi.Stat) bool { return s.Weight == 40 })
	}
}

// TestCheckOfARoute declares a check. HAProxy detects a broken service on a healthy node. If the
// node drains, the service drains too.
func TestCheckOfARoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a1, _ := startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%"), startAgent(t, node(2).Addr, w.nodeAgent, "up ready 100%")
	web := ref("eu-1", "web")
	port := haproxytest.Ports(t, 1)[0]
	var broken atomic.Bool
	u := edge.Upstream{Ref: web, NodePort: uint16(port)}
	for i := range 2 {
		n := node(i + 1)
		u.Nodes = append(u.Nodes, n)
		serve(t, netip.AddrPortFrom(n.Addr, u.NodePort).String(), func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Node", n.Addr.String())
			if r.URL.Path == "/health" && (r.URL.RawQuery != "deep=1&x=%20" || r.Host != "health.internal" || i == 1 && broken.Load()) {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
	}
	w.upstreams = append(w.upstreams, u)
	table, problems := routes.New(with(route("web", "/", weighted{web, 100}), func(r *routes.Route) {
		r.Check = &routes.Check{Path: "/health?deep=1&x=%20", Host: "health.internal", Interval: 500 * time.Millisecond, Fall: 1, Rise: 1}
	}))
	require.Empty(t, problems)
	config := w.start(edge.Edge{AgentInterval: fast}, table)
	be := config.Backends[0]
	w.eventually(be.Name, be.Servers[1].Name(), func(s runtimeapi.Stat) bool { return s.Status == "UP" && s.CheckStatus == "L7OK" })
	broken.Store(true)
	w.eventually(be.Name, be.Servers[1].Name(), func(s runtimeapi.Stat) bool { return s.Status == "DOWN" })
	a1.set("drain")
	w.eventually(be.Name, be.Servers[0].Name(), func(s runtimeapi.Stat) bool { return strings.HasPrefix(s.Status, "DRAIN") })
	for _, b := range config.Backends {
		require.False(t, strings.HasPrefix(b.Name, "nodes."), "no server tracks a node, so no node is checked")
	}
}

// TestOwnServers routes to servers that are not on nodes, also together with servers on nodes.
// HAProxy checks each server. When one server fails, HAProxy uses the other.
func TestOwnServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, onNode := ref("dc-1", "own"), ref("eu-1", "web")
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	w.upstream(onNode, 0, 1)
	var servers [2]*httptest.Server
	u := edge.Upstream{Ref: own}
	for i := range servers {
		servers[i] = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X-Served-By", strconv.Itoa(i))
		}))
		t.Cleanup(servers[i].Close)
		u.Servers = append(u.Servers, netip.MustParseAddrPort(servers[i].Listener.Addr().String()))
	}
	w.upstreams = append(w.upstreams, u)
	table, problems := routes.New(route("own", "/", weighted{own, 1}), route("both", "/", weighted{own, 1}, weighted{onNode, 1}))
	require.Empty(t, problems)
	w.start(edge.Edge{CheckInterval: time.Second}, table)

	served := func(host string, n int) map[string]int {
		c, by := newClient(t, w.frontend), map[string]int{}
		for range n {
			status, server := c.get(host, "/")
			require.Equal(t, 200, status)
			by[server]++
		}
		return by
	}
	require.Equal(t, map[string]int{"0": 10, "1": 10}, served("own", 20))
	require.InDelta(t, 20, served("both", 40)[onNode.String()], 1)

	const backend = "dc-1.media.own.http"
	gone := haproxycfg.Server{Addr: u.Servers[0]}
	servers[0].Close()
	w.eventually(backend, gone.Name(), func(s runtimeapi.Stat) bool { return strings.HasPrefix(s.Status, "DOWN") })
	require.Equal(t, map[string]int{"1": 10}, served("own", 10))
}

// TestShares requires the declared shares for services with different numbers of servers. A service
// with weight 0 gets nothing, even if its agent answers with 256%.
func TestShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 3 {
		startAgent(t, node(i+1).Addr, w.nodeAgent, "up ready 100%")
	}
	darkAgent := haproxytest.Ports(t, 1)[0]
	startAgent(t, node(1).Addr, darkAgent, "up ready 256%")
	big, small, dark := ref("eu-1", "big"), ref("eu-2", "small"), ref("eu-3", "dark")
	w.upstream(big, 0, 1)
	w.upstream(small, 0, 1, 2, 3)
	w.upstream(dark, darkAgent, 1)
	table, problems := routes.New(route("h", "/", weighted{big, 100}, weighted{small, 50}, weighted{dark, 0}))
	require.Empty(t, problems)
	config := w.start(edge.Edge{AgentInterval: fast}, table)
	be := config.Backends[0]
	w.eventually(be.Name, be.Servers[4].Name(), func(s runtimeapi.Stat) bool { return s.AgentStatus == "L7OK" })
	c, hits := newClient(t, w.frontend), map[string]int{}
	for range 350 { // the weights 100, 17, 17 and 17 add up to 151
		_, by := c.get("h", "/")
		hits[by]++
	}
	require.InDelta(t, 350.0*2/3, hits[big.String()], 6)
	require.InDelta(t, 350.0/3, hits[small.String()], 6)
	require.Zero(t, hits[dark.String()])
}

// TestRetries requires two rules. If a request has reached a server, HAProxy repeats it only if its
// method is safe. If a request has reached no server, HAProxy always repeats it.
func TestRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ports := haproxytest.Ports(t, 2)
	var dropped atomic.Int64
	listen(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			dropped.Add(1) // the connection closes without an answer
		}
	})
	good := netip.MustParseAddrPort(serve(t, "127.0.0.1:0", func(rw http.ResponseWriter, r *http.Request) { _, _ = io.Copy(rw, r.Body) }))
	local := func(port int) netip.AddrPort { return netip.AddrPortFrom(node(1).Addr, uint16(port)) }
	config := &haproxycfg.Config{
		Global: haproxycfg.Global{StatsSocket: w.stats.Path},
		Backends: []haproxycfg.Backend{
			{Name: "drops", Servers: []haproxycfg.Server{{Addr: local(ports[0]), Weight: 256}, {Addr: good, Weight: 1}}},
			{Name: "refuses", Servers: []haproxycfg.Server{{Addr: local(ports[1]), Weight: 256}, {Addr: good, Weight: 1}}},
		},
	}
	addresses := map[string]string{}
	for _, name := range []string{"drops", "refuses"} {
		address := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
		config.Frontends = append(config.Frontends, haproxycfg.Frontend{Name: "to-" + name, Binds: []haproxycfg.Bind{{Address: address}}, DefaultBackend: name})
		addresses[name] = address
	}
	w.run(config)

	// Each request needs a new connection. On an old one, HAProxy reports a failure by closing the
	// connection.
	request := func(on, method string) int {
		return newClient(t, addresses[on]).do(method, "h", "/", "Content-Length: 0\r\n").StatusCode
	}
	for range 10 {
		before := dropped.Load()
		require.Equal(t, 200, request("drops", "GET"))
		require.Equal(t, int64(1), dropped.Load()-before)
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			before := dropped.Load()
			require.Equal(t, 502, request("drops", method), method)
			require.Equal(t, int64(1), dropped.Load()-before, "%s was sent twice", method)
		}
		require.Equal(t, 200, request("refuses", "GET"))
		require.Equal(t, 200, request("refuses", "POST"), "nothing was sent, so another server may get it")
	}
	require.Positive(t, w.stat("refuses", "BACKEND").Redispatches)
}

// TestLongConnections declares a route with long time-outs. A slow answer and a silent tunnel of
// this route last longer than the time-outs of the other routes. To know when these time-outs have
// passed, the test sends a request that the service does not answer, and waits for its status 504.
func TestLongConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	arrived, release := make(chan struct{}), make(chan struct{})
	web := ref("eu-1", "web")
	address := serve(t, "127.0.0.1:0", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			if r.URL.Path == "/long" {
				close(arrived)
			}
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		conn, in, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		_, _ = io.Copy(conn, in)
	})
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: web, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
	table, problems := routes.New(
		route("h", "/short", weighted{web, 100}),
		with(route("h", "/long", weighted{web, 100}), func(r *routes.Route) {
			r.Timeouts = routes.Timeouts{Server: time.Hour, Tunnel: time.Hour}
		}),
	)
	require.Empty(t, problems)
	w.start(edge.Edge{Defaults: haproxycfg.Defaults{
		Timeouts: haproxycfg.Timeouts{Server: 2 * fast, Tunnel: 2 * fast},
	}}, table)

	tunnel := func(path string) *client {
		for deadline := time.Now().Add(time.Minute); ; {
			c := newClient(t, w.frontend)
			r := c.do("GET", "h", path, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
			if path == "/short" && r.StatusCode == http.StatusGatewayTimeout && time.Now().Before(deadline) {
				continue // the machine was too slow for the short time-out
			}
			require.Equal(t, http.StatusSwitchingProtocols, r.StatusCode)
			return c
		}
	}
	echo := func(c *client) error {
		if _, err := io.WriteString(c.conn, "x"); err != nil {
			return err
		}
		_, err := c.in.ReadByte()
		return err
	}
	short, long := tunnel("/short"), tunnel("/long")
	require.NoError(t, echo(long))
	slow := newClient(t, w.frontend)
	conn, err := net.Dial("tcp", w.frontend)
	require.NoError(t, err)
	slow.conn, slow.in = conn, bufio.NewReader(conn)
	_, err = io.WriteString(conn, "GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	<-arrived
	for range 3 {
		require.Equal(t, http.StatusGatewayTimeout, newClient(t, w.frontend).do("GET", "h", "/short", "").StatusCode)
	}
	require.NoError(t, echo(long))
	require.Error(t, echo(short), "the tunnel of the other route has ended")
	close(release)
	r, err := http.ReadResponse(slow.in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode)
}

// TestDescriptors starts HAProxy under a limit of open files. HAProxy starts with the computed
// maxconn. It does not start with a maxconn that does not reserve descriptors for the agent checks.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	const limit = 3000
	config := func() *haproxycfg.Config {
		c := &haproxycfg.Config{Global: haproxycfg.Global{Descriptors: limit}}
		b := haproxycfg.Backend{Name: "b", AgentInterval: time.Hour, Health: haproxycfg.Health{Interval: time.Hour}}
		for i := range 600 {
			b.Servers = append(b.Servers, haproxycfg.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9), Check: true, AgentPort: 9})
		}
		c.Backends = append(c.Backends, b)
		return c
	}
	run := func(c *haproxycfg.Config) error {
		w := newWorld(t)
		limited := filepath.Join(w.dir, "limited")
		script := "#!/bin/sh\nulimit -n " + strconv.Itoa(limit) + "\nexec " + haproxytest.Binary(t) + ` "$@"` + "\n"
		haproxytest.Script(t, limited, script)
		c.Global.StatsSocket = w.stats.Path
		c.Frontends = []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])}}, DefaultBackend: "b"}}
		files, err := c.Render(w.dir)
		require.NoError(t, err)
		configtest.WriteFiles(t, w.dir, files)
		p, err := haproxyproc.Start(t.Context(), haproxyproc.Options{Path: limited, Config: filepath.Join(w.dir, "haproxy.cfg"), StatsSocket: w.stats.Path})
		if err == nil {
			p.Stop()
		}
		return err
	}
	c := config()
	require.Greater(t, c.MaxConn(), 400)
	require.NoError(t, run(c))
	c = config()
	c.Global.MaxConn = limit/2 - 10
	require.Error(t, run(c))
}

// TestHashedBalanceIsConsistent removes the first server. Only the requests of this server move.
func TestHashedBalanceIsConsistent(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 2)
	web := ref("eu-1", "web")
	all := edge.Upstream{Ref: web, NodePort: uint16(ports[0])}
	for i := 1; i <= 8; i++ {
		n := node(i)
		all.Nodes = append(all.Nodes, n)
		startAgent(t, n.Addr, ports[1], "up ready 100%")
		serve(t, netip.AddrPortFrom(n.Addr, all.NodePort).String(), func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Node", n.Addr.String())
		})
	}
	table, problems := routes.New(route("h", "/", weighted{web, 100}))
	require.Empty(t, problems)
	ask := func(u edge.Upstream) map[string]string {
		w := newWorld(t)
		w.nodeAgent, w.upstreams = ports[1], []edge.Upstream{u}
		w.start(edge.Edge{Balance: haproxycfg.URI}, table)
		c, nodes := newClient(t, w.frontend), map[string]string{}
		for i := range 200 {
			path := "/" + strconv.Itoa(i)
			nodes[path] = c.do("GET", "h", path, "").Header.Get("X-Node")
			require.NotEmpty(t, nodes[path])
		}
		return nodes
	}
	before := ask(all)
	fewer := all
	fewer.Nodes = all.Nodes[1:]
	gone := 0
	for path, n := range ask(fewer) {
		if before[path] == all.Nodes[0].Addr.String() {
			gone++
			continue
		}
		require.Equal(t, before[path], n, path)
	}
	require.Positive(t, gone)
}

// TestHashedBalanceIsEven requires equal shares of servers. HAProxy uses only 20 bits of the id of
// a server. The hashes of two server names in the test are equal in these 20 bits.
func TestHashedBalanceIsEven(t *testing.T) {
	t.Parallel()
	port := uint16(haproxytest.Ports(t, 1)[0])
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i)}), port)
	}
	// With the hash itself as the id, these two servers would share their points on the ring.
	low := map[uint32]int{}
	pair := []int{}
	for i := 1; len(pair) == 0; i++ {
		h := fnv.New32a()
		_, _ = io.WriteString(h, haproxycfg.Server{Addr: at(i)}.Name())
		key := h.Sum32()>>1&(1<<20-1) | 1
		if other, ok := low[key]; ok {
			pair = []int{other, i}
		}
		low[key] = i
	}
	w := newWorld(t)
	be := haproxycfg.Backend{Name: "b", Balance: haproxycfg.URI}
	for _, i := range []int{pair[0], pair[1], 1 << 15} {
		serve(t, at(i).String(), func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X-Node", at(i).String()) })
		be.Servers = append(be.Servers, haproxycfg.Server{Addr: at(i)})
	}
	w.frontend = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	w.run(&haproxycfg.Config{
		Global:    haproxycfg.Global{StatsSocket: w.stats.Path},
		Frontends: []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: w.frontend}}, DefaultBackend: "b"}},
		Backends:  []haproxycfg.Backend{be},
	})
	c, hits := newClient(t, w.frontend), map[string]int{}
	for i := range 900 {
		hits[c.do("GET", "h", "/"+strconv.Itoa(i), "").Header.Get("X-Node")]++
	}
	for _, s := range be.Servers {
		require.Less(t, hits[s.Addr.String()], 900*13/30, "%v: want a third each", hits)
	}
}

// TestServerIDs requires different ids of 20 bits for 5,000 servers.
func TestServerIDs(t *testing.T) {
	be := haproxycfg.Backend{Name: "b", Balance: haproxycfg.Source}
	for i := range 5000 { // about ten pairs of their hashes are equal
		be.Servers = append(be.Servers, haproxycfg.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)})
	}
	var text strings.Builder
	_, err := (&haproxycfg.Config{Backends: []haproxycfg.Backend{be}}).WriteTo(&text)
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m) id ([0-9]+)$`).FindAllStringSubmatch(text.String(), -1) {
		id, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.True(t, 1 <= id && id < 1<<20, id)
		require.False(t, seen[id], id)
		seen[id] = true
	}
	require.Len(t, seen, len(be.Servers))
}

// TestAcceptProxy sends a PROXY header. HAProxy forwards the address in it as the client.
func TestAcceptProxy(t *testing.T) {
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	web := ref("eu-1", "web")
	w.upstream(web, 0, 1)
	table, problems := routes.New(route("h", "/", weighted{web, 100}))
	require.Empty(t, problems)
	behind := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	w.start(edge.Edge{HTTP: []haproxycfg.Bind{{Address: behind, AcceptProxy: true}}}, table)
	r := newClient(t, behind).raw("PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\nGET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
	require.Equal(t, "[192.0.2.7]", r.Header.Get("Got-X-Forwarded-For"))
}
