package haproxycfg_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

func TestValidate(t *testing.T) {
	type config = haproxycfg.Config
	server := func(c *config) *haproxycfg.Server { return &c.Backends[0].Servers[0] }
	for _, tt := range []struct {
		name   string
		change func(*config)
		want   string
	}{
		{"backend twice", func(c *config) { c.Backends[1].Name = "b" }, `backends 0 and 1 are both named "b"`},
		{"frontend twice", func(c *config) { c.Frontends = append(c.Frontends, c.Frontends[0]) }, `frontends 0 and 2 are both named "f"`},
		{"frontend named like a backend", func(c *config) { c.Frontends[0].Name = "answer" }, `frontend 0 and backend 1 are both named "answer", which HAProxy 3.3 and later refuse`},
		{"map twice", func(c *config) { c.Maps[1].Name = "h" }, `maps 0 and 1 are both named "h"`},
		{"backend name", func(c *config) { c.Backends[0].Name = "a/b" }, `backend "a/b": a name is made of letters, digits and "-_.:"`},
		{"no name", func(c *config) { c.Frontends[0].Name = "" }, `frontend "": a name has 1 to 255 bytes`},
		{"no bind", func(c *config) { c.Frontends[0].Binds = nil }, "frontend f: it has no bind"},
		{"bind to a name", func(c *config) { c.Frontends[0].Binds[0].Address = "localhost:80" }, `frontend f: bind "localhost:80" is neither "host:port" with an IP address and a port nor "unix@/path"`},
		{"bind to port 0", func(c *config) { c.Frontends[0].Binds[0].Address = ":0" }, `bind ":0" is neither`},
		{"bind to a zone", func(c *config) { c.Frontends[0].Binds[0].Address = "[fe80::1%eth0]:80" }, `is neither`},
		{"relative socket", func(c *config) { c.Frontends[0].Binds[0].Address = "unix@x" }, `bind "x": the absolute path of a socket has at most 97 bytes`},
		{"bind twice", func(c *config) {
			c.Frontends = append(c.Frontends, haproxycfg.Frontend{Name: "g", Binds: []haproxycfg.Bind{{Address: "0.0.0.0:80"}}})
		}, "frontends f and g both listen on 0.0.0.0:80"},
		{"bind twice by both families", func(c *config) {
			c.Frontends = append(c.Frontends, haproxycfg.Frontend{Name: "g", Binds: []haproxycfg.Bind{{Address: "[::]:80"}}})
		}, "frontends f and g both listen on [::]:80"},
		{"bind twice by IPv6", func(c *config) {
			c.Frontends[0].Binds[0].IPv6 = true
			c.Frontends = append(c.Frontends, haproxycfg.Frontend{Name: "g", Binds: []haproxycfg.Bind{{Address: "[::]:80"}}})
		}, "frontends f and g both listen on [::]:80"},
		{"IPv6 with a host", func(c *config) { c.Frontends[0].Binds[0] = haproxycfg.Bind{Address: "127.0.0.1:80", IPv6: true} }, `bind "127.0.0.1:80": IPv6 needs an address without a host`},
		{"IPv6 of a socket", func(c *config) { c.Frontends[0].Binds[0] = haproxycfg.Bind{Address: "unix@/x", IPv6: true} }, `bind "unix@/x": IPv6 needs`},
		{"socket twice", func(c *config) {
			c.Frontends[0].Binds = []haproxycfg.Bind{{Address: "unix@/x"}, {Address: "unix@/x"}}
		}, "frontends f and f both listen on unix@/x"},
		{"no certificate", func(c *config) { c.Frontends[0].Binds[0].TLS.Certificates = "" }, "frontend f: bind :80: TLS needs either Certificates or a List"},
		{"old TLS", func(c *config) { c.Frontends[0].Binds[0].TLS.MinVersion = "TLSv1.0" }, `unknown TLS version "TLSv1.0"`},
		{"ALPN", func(c *config) { c.Frontends[0].Binds[0].TLS.ALPN = []string{"h2,x"} }, `"h2,x" is no protocol name`},
		{"empty ALPN", func(c *config) { c.Frontends[0].Binds[0].TLS.ALPN = []string{} }, "ALPN is empty: nil means the default"},
		{"gRPC check of HTTP/1.1", func(c *config) { c.Backends[0].Health = haproxycfg.Health{GRPC: true} }, "Health.GRPC needs Protocol h2c or grpc, and no Health.Path"},
		{"trusted proxies", func(c *config) {
			c.Frontends[0].TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
		}, "frontend f: trusted proxies: 10.0.0.1/8 is not a network such as 10.0.0.0/8"},
		{"trusted IPv4 proxies as IPv6", func(c *config) {
			c.Frontends[0].TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}
		}, "frontend f: trusted proxies: ::ffff:10.0.0.0/104 is not a network such as 10.0.0.0/8"},
		{"no trusted proxy", func(c *config) { c.Frontends[0].TrustedProxies = []netip.Prefix{{}} }, "frontend f: trusted proxies: invalid Prefix is not a network such as 10.0.0.0/8"},
		{"redirection", func(c *config) { c.Frontends[0].RedirectHTTPS = &haproxycfg.HTTPSRedirect{Code: 300} }, "frontend f: 300 is not a status code of a redirect"},
		{"monitor", func(c *config) { c.Frontends[0].Monitor = "ready" }, `Monitor "ready" does not begin with a slash`},
		{"default backend missing", func(c *config) { c.Frontends[0].DefaultBackend = "" }, "frontend f: a router needs a default backend for unknown hosts and paths"},
		{"default backend unknown", func(c *config) { c.Frontends[0].DefaultBackend = "x" }, `frontend f: default backend "x" does not exist`},
		{"map unknown", func(c *config) { c.Frontends[0].Router.Exact = "x" }, `frontend f: router: Exact names map "x", which does not exist`},
		{"backend of a map unknown", func(c *config) { c.Maps[2].Entries[0].Value = "x" }, `frontend f: router: map p: key "a/": backend "x" does not exist`},
		{"key with a space", func(c *config) { c.Maps[2].Entries[0].Key = "a b" }, `map p: entry "a b" to "answer"`},
		{"key too long for HAProxy's trees", func(c *config) { c.Maps[2].Entries[0].Key = "a/" + strings.Repeat("x", 2000) }, "both have 1 to 2000 bytes"},
		{"key twice", func(c *config) { c.Maps[2].Entries = append(c.Maps[2].Entries, c.Maps[2].Entries[0]) }, `map p: key "a/" occurs twice`},
		{"map name", func(c *config) { c.Maps[0].Name, c.Frontends[0].Router.Hosts = "..", ".." }, "map ..: its name is part of a file name"},
		{"static-rr", func(c *config) { c.Backends[0].Balance = "static-rr" }, "backend b: balance static-rr ignores all weights of an agent except 0% and 100%: use roundrobin"},
		{"balance", func(c *config) { c.Backends[0].Balance = "x" }, `backend b: unknown Balance "x"`},
		{"limit", func(c *config) { c.Backends[0].Limits.Requests = -1 }, "backend b: Limits.Requests -1 is not from 0 to 2147483647"},
		{"limit of a source", func(c *config) { c.Backends[0].Limits.Source.Connections = -1 }, "backend b: Limits.Source.Connections -1 is not from 0 to 2147483647"},
		{"name of the table", func(c *config) { c.Global.Observe, c.Backends[0].Name = true, "observed" }, `the name of backend "observed" is reserved with Global.Observe`},
		{"buffer", func(c *config) { c.Global.BufferSize = 100 }, "global: BufferSize 100 is not from 16384 to 1048576"},
		{"headers", func(c *config) { c.Global.MaxHeaders = 32768 }, "global: MaxHeaders 32768 is not from 0 to 32767"},
		{"protocol", func(c *config) { c.Backends[0].Protocol = "h2" }, `backend b: unknown Protocol "h2"`},
		{"client time-outs", func(c *config) { c.Frontends[0].Router.ClientTimeouts = "p" }, `frontend f: router: map p: key "a/": "answer" is not a number of milliseconds`},
		{"shift", func(c *config) { shiftMaps(c, "5/eu-2/x", "b/b/1/1") }, `router: Shift: key "b": "x" is not a number of at least 0`},
		{"shift without a cluster", func(c *config) { shiftMaps(c, "5", "b/b/1/1") }, `router: Shift: "b" to "5": want the name of a backend and POINTS/NAME or POINTS/NAME/UNTIL`},
		{"parts of a shift", func(c *config) { shiftMaps(c, "5/eu-2", "b/b") }, `router: ShiftParts: "b/eu-2" to "b/b": want FIRST/SECOND/MIN1/MIN2`},
		{"backend of a part", func(c *config) { shiftMaps(c, "5/eu-2", "b/gone/1/1") }, `router: ShiftParts: key "b/eu-2": backend "gone" does not exist`},
		{"servers of a part", func(c *config) { shiftMaps(c, "5/eu-2", "b/b/1/-1") }, `router: ShiftParts: key "b/eu-2": "-1" is not a number of at least 0`},
		{"client time-outs of no map", func(c *config) { c.Frontends[0].Router.ClientTimeouts = "x" }, `frontend f: router: ClientTimeouts names map "x", which does not exist`},
		{"too many servers", func(c *config) {
			for i := range 5000 {
				c.Backends[0].Servers = append(c.Backends[0].Servers, haproxycfg.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 1)})
			}
		}, "backend b: 5002 servers are more than roundrobin's 4095: use leastconn"},
		{"server twice", func(c *config) { c.Backends[0].Servers[1] = *server(c) }, "backend b: server 10.0.0.1:80-9801: the backend has it twice"},
		{"server without address", func(c *config) { server(c).Addr = netip.AddrPort{} }, "it lacks an address or a port"},
		{"server without port", func(c *config) { server(c).Addr = netip.MustParseAddrPort("10.0.0.1:0") }, "backend b: server 10.0.0.1:0-9801: it lacks an address or a port"},
		{"mapped address", func(c *config) { server(c).Addr = netip.MustParseAddrPort("[::ffff:10.0.0.1]:80") }, "IPv4 written as IPv6"},
		{"weight", func(c *config) { server(c).Weight = 257 }, "backend b: server 10.0.0.1:80-9801: weight 257 is not from -1 to 256"},
		{"track and check", func(c *config) { server(c).Track = "nodes/10.0.0.1:80-9801" }, "it both tracks nodes/10.0.0.1:80-9801 and has a check, which HAProxy refuses"},
		{"track of nothing", func(c *config) { c.Backends[0].Servers[1].Track = "nodes/n1" }, `backend b: server 10.0.0.2:80: it tracks "nodes/n1", which is not a checked server`},
		{"track of itself", func(c *config) { c.Backends[0].Servers[1].Track = "b/10.0.0.2:80" }, "which is not a checked server"},
		{"agent-send without agent", func(c *config) { c.Backends[0].Servers[1].AgentSend = "x" }, `AgentSend "x" is not one line of text for an agent port`},
		{"answer and servers", func(c *config) { c.Backends[0].Response = &haproxycfg.FixedResponse{Status: 200} }, "backend b: it has both a fixed response and servers"},
		{"status", func(c *config) { c.Backends[1].Response.Status = 42 }, "backend answer: Response.Status 42 is not from 200 to 599"},
		{"type of no body", func(c *config) {
			c.Backends[1].Response = &haproxycfg.FixedResponse{Status: 204, ContentType: "text/html"}
		}, "backend answer: Response.ContentType without Response.Body"},
		{"monitor with a query", func(c *config) { c.Frontends[0].Monitor = "/a?b" }, `frontend f: Monitor "/a?b" contains '?', which no path of a request contains`},
		{"health path", func(c *config) { c.Backends[0].Health.Path = "/a#b" }, `backend b: Health.Path "/a#b" contains '#', which no path of a request contains`},
		{"health host", func(c *config) { c.Backends[0].Health = haproxycfg.Health{Host: "h"} }, "backend b: Health.Host without Health.Path"},
		{"negative", func(c *config) { c.Defaults.Client = -time.Second }, "defaults: Client -1s is negative"},
		{"too precise", func(c *config) { c.Backends[0].AgentInterval = time.Microsecond }, "backend b: AgentInterval 1µs is not whole milliseconds"},
		{"too long", func(c *config) { c.Backends[0].Timeouts.Tunnel = 25 * 24 * time.Hour }, "backend b: Tunnel 600h0m0s is longer than 24 days"},
		{"retry event", func(c *config) { c.Defaults.RetryOn = []haproxycfg.RetryEvent{"all-retryable-errors"} }, `defaults: unknown RetryOn "all-retryable-errors"`},
		{"retry event twice", func(c *config) { c.Defaults.RetryOn = []haproxycfg.RetryEvent{"502", "502"} }, `defaults: RetryOn names "502" twice`},
		{"no retry events", func(c *config) { c.Defaults.RetryOn = []haproxycfg.RetryEvent{} }, "defaults: RetryOn is empty"},
		{"descriptors", func(c *config) { c.Global.Descriptors = 100 }, "global: 100 descriptors leave none for connections: checks, agents and listeners need 261"},
		{"socket", func(c *config) { c.Global.StatsSocket = "/" + strings.Repeat("x", 97) }, "the absolute path of a socket has at most 97 bytes"},
		{"socket that HAProxy would expand", func(c *config) { c.Global.StatsSocket = "/run/$USER" }, `StatsSocket "/run/$USER": the path of a socket has neither "$" nor ","`},
		{"two sockets in one", func(c *config) { c.Frontends[0].Binds[0].Address = "unix@/a,:8080" }, `bind "/a,:8080": the path of a socket has neither "$" nor ","`},
		{"log to a variable", func(c *config) { c.Global.Logs[0].Address = "/dev/$LOG" }, `global: log 0: Address "/dev/$LOG": the path of a socket has neither`},
		{"log to a name", func(c *config) { c.Global.Logs[0].Address = "syslog:514" }, `global: log 0: Address "syslog:514" is neither "stdout"`},
		{"log to nowhere", func(c *config) { c.Global.Logs[0].Address = "" }, `global: log 0: Address "" is neither "stdout"`},
		{"log", func(c *config) { c.Global.Logs[0].Facility = "local8" }, `global: log 0: unknown Facility "local8"`},
		{"variable", func(c *config) { c.Global.Variables[0].Name = "a-b" }, `variable "a-b": a name is made of 1 to 64 letters, digits, "_" and "."`},
		{"variable twice", func(c *config) { c.Global.Variables = append(c.Global.Variables, c.Global.Variables[0]) }, `variable "n" occurs twice`},
		{"variable too small", func(c *config) { c.Global.Variables[0].Value = -1 }, `variable n -1 is not from 0`},
		{"queue limit of no variable", func(c *config) { c.Backends[0].QueueLimit = "x" }, `backend b: QueueLimit names variable "x", which does not exist`},
		{"reuse", func(c *config) { c.Backends[0].Reuse = "x" }, `backend b: unknown Reuse "x"`},
		{"server options", func(c *config) { c.Backends[0].Options.EjectErrors = -1 }, `backend b: Options.EjectErrors -1 is not from 0 to 32767`},
		{"zones and router", func(c *config) { c.Frontends[0].Zones = c.Frontends[1].Zones }, "frontend f: it has both a Router and Zones"},
		{"zones without own", func(c *config) { c.Frontends[1].DefaultBackend = "" }, "frontend z: Zones need a default backend"},
		{"zones of no backend", func(c *config) { c.Frontends[1].Zones.Other = "x" }, `frontend z: Zones.Other names backend "x", which does not exist`},
		{"overprovision", func(c *config) { c.Frontends[1].Zones.Overprovision = 99 }, "frontend z: Zones.Overprovision 99 is not from 100 to 1000"},
		{"panic without line", func(c *config) { c.Frontends[1].Zones.PanicBelow = "" }, `frontend z: Zones.PanicBelow names variable "", which does not exist`},
		{"budget without switch", func(c *config) { c.Frontends[1].RetryBudget.Switch = "" }, "frontend z: RetryBudget needs a Switch, because HAProxy 2.6 does not count repeated requests"},
		{"budget and observe", func(c *config) {
			c.Global.Observe, c.Global.Version = true, haproxycfg.Version{Major: 3}
		}, "frontend z: RetryBudget needs the counter that Global.Observe uses"},
		{"table of the budget", func(c *config) {
			c.Backends[2].Name, c.Global.Version = "z:retries", haproxycfg.Version{Major: 3}
		}, "frontend z: RetryBudget needs a table with the name z:retries, which a backend has"},
		{"trace", func(c *config) { c.Frontends[1].Trace = &haproxycfg.Trace{Sampled: 10001} }, "frontend z: Trace.Sampled 10001 is not from 0 to 10000"},
		{"limits twice", func(c *config) { c.Backends[0].Limits.Requests, c.Frontends[1].Limits.Requests = 1, 1 }, "frontend z: both a frontend and a backend have Limits"},
		{"monitor of no backend", func(c *config) { c.Frontends[1].Monitor, c.Frontends[1].MonitorBackends = "/m", []string{"x"} }, `frontend z: MonitorBackends names backend "x", which does not exist`},
		{"drain switch", func(c *config) { c.Frontends[1].DrainSwitch = "x" }, `frontend z: DrainSwitch names variable "x", which does not exist`},
		{"slots and servers", func(c *config) { c.Backends[0].Servers[1].Slot = "s" }, "backend b: server s: either all servers of a backend have a Slot, or none"},
		{"slot", func(c *config) { c.Backends[2].Servers[0].Slot = "a/b" }, `backend slots: server a/b: Slot "a/b": a name is made of`},
		{"slot twice", func(c *config) {
			c.Backends[2].Servers = append(c.Backends[2].Servers, c.Backends[2].Servers[0])
		}, "backend slots: server s1: the backend has it twice"},
		{"line end", func(c *config) { c.Global.StateFile = "a\nb" }, `global: StateFile "a\nb" contains a line end or NUL`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := fieldsConfig()
			require.NoError(t, c.Validate())
			tt.change(c)
			err := c.Validate()
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
			require.ErrorContains(t, err, tt.want)
			_, err = c.Render("/etc/haproxy")
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
		})
	}
}

func TestValidateEndsAtTwenty(t *testing.T) {
	c := fieldsConfig()
	for range 1000 {
		c.Backends[0].Servers = append(c.Backends[0].Servers, haproxycfg.Server{})
	}
	require.Len(t, strings.Split(c.Validate().Error(), "\n"), 20)
}

func TestRenderRefusesDirectory(t *testing.T) {
	for _, dir := range []string{"a'b", `a"b`, `a\b`, "a\nb"} {
		_, err := fieldsConfig().Render(dir)
		require.ErrorContains(t, err, "haproxycfg: directory")
	}
}

func TestWriteTo(t *testing.T) {
	c := fieldsConfig()
	files, err := c.Render("")
	require.NoError(t, err)
	var b strings.Builder
	n, err := c.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, int64(b.Len()), n)
	require.Equal(t, string(files[len(files)-1].Data), b.String())
	require.Contains(t, b.String(), `map_str("maps/h-`)
	_, err = (&haproxycfg.Config{Backends: []haproxycfg.Backend{{}}}).WriteTo(&b)
	require.Error(t, err)
}

// TestServersTwice makes random lists of servers, sorted and unsorted. Validate reports exactly the
// servers that occur twice.
func TestServersTwice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	twice := 0
	for range 2000 {
		c := haproxycfg.Config{Backends: []haproxycfg.Backend{{Name: "a"}, {Name: "b"}}}
		want := 0
		for i := range c.Backends {
			b := &c.Backends[i]
			for range rnd.IntN(6) {
				b.Servers = append(b.Servers, haproxycfg.Server{
					Addr:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(3))}), uint16(1+rnd.IntN(3))),
					AgentPort: uint16(rnd.IntN(2)),
				})
			}
			if rnd.IntN(2) == 0 {
				slices.SortFunc(b.Servers, func(x, y haproxycfg.Server) int { return x.Addr.Compare(y.Addr) })
			}
			names := map[string]bool{}
			for _, s := range b.Servers {
				if names[s.Name()] {
					want++
				}
				names[s.Name()] = true
			}
		}
		err := c.Validate()
		if want == 0 {
			require.NoError(t, err)
			continue
		}
		twice++
		require.Equal(t, want, strings.Count(err.Error(), "the backend has it twice"))
		require.Equal(t, want, strings.Count(err.Error(), "\n")+1)
	}
	require.Greater(t, twice, 500)
}

// shiftMaps adds the maps of a shift of the backend b to the cluster eu-2.
func shiftMaps(c *haproxycfg.Config, share, parts string) {
	c.Frontends[0].Router.Shift, c.Frontends[0].Router.ShiftParts = "s", "t"
	c.Maps = append(c.Maps,
		haproxycfg.Map{Name: "s", Entries: []haproxycfg.MapEntry{{Key: "b", Value: share}}},
		haproxycfg.Map{Name: "t", Entries: []haproxycfg.MapEntry{{Key: "b/eu-2", Value: parts}}})
}
