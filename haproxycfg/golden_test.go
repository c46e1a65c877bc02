package haproxycfg_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
)

func TestGolden(t *testing.T) {
	t.Parallel()
	const dir = configtest.GoldenDir
	everything := &haproxycfg.Config{
		Global: haproxycfg.Global{
			Descriptors: 20000, Threads: 2, User: "root", Group: "root",
			StatsSocket: dir + "/stats.sock", StateFile: dir + "/state",
			HardStopAfter: 10 * time.Minute, MaxReloads: 100, Grace: 2 * time.Second, CloseSpread: 1500 * time.Millisecond,
			BufferSize: 32768, MaxHeaders: 200,
			Logs: []haproxycfg.Log{{Address: "stdout", Format: "raw", Level: "notice"}, {Address: "127.0.0.1:514", Facility: "local7"}},
		},
		Defaults: haproxycfg.Defaults{
			Timeouts:  haproxycfg.Timeouts{Connect: 500 * time.Millisecond, Queue: 2 * time.Second, Server: 90 * time.Second, Tunnel: 24 * time.Hour, Check: time.Second},
			Client:    90 * time.Second,
			ClientFin: 10 * time.Second, HTTPRequest: 5 * time.Second, KeepAlive: 5 * time.Minute,
			Retries: 2,
			RetryOn: []haproxycfg.RetryEvent{haproxycfg.RetryConnFailure, haproxycfg.RetryResponseTimeout, haproxycfg.RetryJunkResponse, haproxycfg.Retry503},
		},
		Frontends: []haproxycfg.Frontend{
			{
				Name: "plain", MaxConn: 1000,
				Binds:         []haproxycfg.Bind{{Address: ":80"}, {Address: ":81", IPv6: true}, {Address: "[::1]:8080", AcceptProxy: true}, {Address: "unix@" + dir + "/plain sock"}},
				RedirectHTTPS: &haproxycfg.HTTPSRedirect{Port: 8443, Code: 301}, Forwarded: haproxycfg.ForwardedAppend,
				Monitor: "/ready", DefaultBackend: "sorry",
			},
			{
				Name: "tls",
				Binds: []haproxycfg.Bind{
					{Address: "[::]:443", TLS: &haproxycfg.TLS{Certificates: dir + "/certs"}},
					{Address: "127.0.0.1:8443", AcceptProxy: true, TLS: &haproxycfg.TLS{Certificates: dir + "/certs", MinVersion: "TLSv1.3", ALPN: []string{"http/1.1"}, StrictSNI: true}},
				},
				Router: &haproxycfg.Router{Hosts: "h", Exact: "e", Prefix: "p"}, DefaultBackend: "sorry",
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
			},
			{
				Name: "listed", DefaultBackend: "sorry",
				Binds: []haproxycfg.Bind{{Address: "127.0.0.2:8443", TLS: &haproxycfg.TLS{List: "l", StrictSNI: true}}, {Address: "127.0.0.2:8080"}},
			},
			{Name: "exporter", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8405"}}, Exporter: "/metrics", Forwarded: haproxycfg.ForwardedKeep},
		},
		Backends: []haproxycfg.Backend{
			{
				Name: "a.one", Balance: haproxycfg.LeastConn, AgentInterval: 1500 * time.Millisecond,
				Timeouts: haproxycfg.Timeouts{Server: time.Hour, Tunnel: 48 * time.Hour},
				Servers: []haproxycfg.Server{
					{Addr: netip.MustParseAddrPort("10.0.0.1:31000"), Track: "nodes/10.0.0.1:9707-9707", AgentPort: 9801},
					{Addr: netip.MustParseAddrPort("[fd00::2]:31000"), Track: "nodes/fd00::2:9707-9707", Weight: 256},
					{Addr: netip.MustParseAddrPort("10.0.0.3:31000"), Weight: haproxycfg.NoTraffic, AgentPort: 9801, AgentSend: "media/tracks 'it' #1 $HOME \\n"},
				},
			},
			{Name: "b-two", Balance: haproxycfg.Random, Health: haproxycfg.Health{Path: "/a'b%20d", Host: "50%.example.com", Interval: 10 * time.Second, FastInterval: time.Second, Rise: 1, Fall: 5}, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31001"), Check: true}}},
			{Name: "c:hash", Balance: haproxycfg.URI, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31002")}}},
			{Name: "d:hash", Balance: haproxycfg.Source, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31002")}}},
			{Name: "empty"},
			{Name: "limited", Limits: haproxycfg.Limits{
				Limit:  haproxycfg.Limit{Requests: 1000, Connections: 500},
				Source: haproxycfg.Limit{Requests: 50, Connections: 10},
			}},
			{Name: "limited:all", Limits: haproxycfg.Limits{Limit: haproxycfg.Limit{Connections: 500}}},
			{Name: "grpc:check", Protocol: haproxycfg.GRPC, Health: haproxycfg.Health{GRPC: true}, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31003"), Check: true}}},
			{Name: "grpc", Protocol: haproxycfg.GRPC, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31003"), Check: true}}},
			{Name: "nodes", Balance: haproxycfg.RoundRobin, Health: haproxycfg.Health{Path: "/healthz"}, Servers: []haproxycfg.Server{
				{Addr: netip.MustParseAddrPort("10.0.0.1:9707"), Check: true, AgentPort: 9707},
				{Addr: netip.MustParseAddrPort("[fd00::2]:9707"), Check: true, AgentPort: 9707},
			}},
			{Name: "no-content", Response: &haproxycfg.FixedResponse{Status: 204}},
			{Name: "sorry", Response: &haproxycfg.FixedResponse{Status: 404, ContentType: "text/html; charset=utf-8", Body: `<p class="x">it's $HOME # 100% \ not "here"`}},
		},
		CertificateLists: []haproxycfg.CertificateList{{Name: "l", Certificates: []haproxycfg.Certificate{configtest.Certificate(t, "www.example.com", "*.example.com")}}},
		Maps: []haproxycfg.Map{
			{Name: "h", Entries: []haproxycfg.MapEntry{{Key: "www.example.com", Value: "v"}, {Key: "*.example.com", Value: "w"}}},
			{Name: "e", Entries: []haproxycfg.MapEntry{{Key: "v/x", Value: "a.one"}}},
			{Name: "p", Entries: []haproxycfg.MapEntry{{Key: "v/", Value: "b-two"}, {Key: "w/a%20'\"\\$#/", Value: "empty"}}},
		},
	}
	observing := &haproxycfg.Config{
		Global: haproxycfg.Global{Observe: true, Logs: []haproxycfg.Log{{Address: "stdout", Format: "raw"}}},
		Frontends: []haproxycfg.Frontend{{
			Name: "plain", Binds: []haproxycfg.Bind{{Address: ":80"}}, Monitor: "/ready",
			Router: &haproxycfg.Router{Hosts: "h", Exact: "e", Prefix: "p"}, DefaultBackend: "limited",
		}},
		Backends: []haproxycfg.Backend{{Name: "limited", Limits: haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: 9}, Source: haproxycfg.Limit{Connections: 3}}}},
		Maps:     []haproxycfg.Map{{Name: "h"}, {Name: "e"}, {Name: "p"}},
	}
	exporter := &haproxycfg.Config{Frontends: []haproxycfg.Frontend{{Name: "metrics", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8405"}}, Exporter: "/metrics"}}}
	configtest.Golden(t, map[string]*haproxycfg.Config{"exporter-alone": exporter, "everything": everything, "observing": observing})
	later := *everything
	later.Global.Version = haproxycfg.Version{Major: 3, Minor: 2}
	configtest.Golden(t, map[string]*haproxycfg.Config{"everything": &later})
}

// zonesConfig returns a Config with all fields that spread requests over zones, clients over
// proxies, or connections over time.
func zonesConfig(version haproxycfg.Version) *haproxycfg.Config {
	const dir = configtest.GoldenDir
	server := func(addr string) haproxycfg.Server {
		return haproxycfg.Server{Addr: netip.MustParseAddrPort(addr), Check: true}
	}
	options := haproxycfg.ServerOptions{MaxConn: 64, SlowStart: 10 * time.Second, EjectErrors: 10, PoolPurge: time.Second}
	health := haproxycfg.Health{Path: "/healthz", Interval: 10 * time.Second, FastInterval: 10 * time.Second, Rise: 3}
	slot := server("127.0.0.1:1")
	slot.Slot, slot.Disabled = "s2", true
	used := server("10.1.0.1:8080")
	used.Slot = "s1"
	return &haproxycfg.Config{
		Global: haproxycfg.Global{
			Version: version, StatsSocket: dir + "/stats.sock", Grace: 5 * time.Second, HardStopAfter: 30 * time.Second,
			Variables: []haproxycfg.Variable{{Name: "expected", Value: 12}, {Name: "panic", Value: 3}, {Name: "pending", Value: 12}, {Name: "may_retry", Value: 1}, {Name: "draining"}},
			Logs:      []haproxycfg.Log{{Address: "stdout", Format: "raw"}},
		},
		Frontends: []haproxycfg.Frontend{
			{
				Name: "front", Binds: []haproxycfg.Bind{{Address: ":8080", AcceptProxy: true}},
				Forwarded: haproxycfg.ForwardedAppend, KeepHeaderNames: true, RequestID: true,
				Monitor: "/ready", MonitorBackends: []string{"front:panic"},
				Trace: &haproxycfg.Trace{Sampled: 100}, CloseOneIn: 1000, CloseStopping: true, DrainSwitch: "draining",
				Limits:      haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: 400}, Source: haproxycfg.Limit{Requests: 50}},
				RetryBudget: &haproxycfg.RetryBudget{Percent: 20, PerSecond: 3, Switch: "may_retry"},
				Zones: &haproxycfg.Zones{
					Other: "front:other", Expected: "expected", Panic: "front:panic", PanicBelow: "panic", SpillOnQueue: true,
				},
				DefaultBackend: "front:own",
			},
			{Name: "metrics", Binds: []haproxycfg.Bind{{Address: ":8405"}}, Exporter: "/metrics", ExporterNoMaint: true, NoLog: true, Forwarded: haproxycfg.ForwardedKeep},
		},
		Backends: []haproxycfg.Backend{
			{
				Name: "front:own", Balance: haproxycfg.LeastConn, Reuse: haproxycfg.ReuseAlways, QueueLimit: "pending",
				Timeouts: haproxycfg.Timeouts{Queue: 200 * time.Millisecond}, Health: health, Options: options,
				Servers: []haproxycfg.Server{server("10.0.0.1:8080"), server("[fd00::2]:8080")},
			},
			{Name: "front:other", Balance: haproxycfg.LeastConn, Health: health, Options: options, Servers: []haproxycfg.Server{used, slot}},
			{
				Name: "front:panic", Balance: haproxycfg.LeastConn, Protocol: haproxycfg.GRPC, Options: haproxycfg.ServerOptions{NoPool: true},
				Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:8080")}},
			},
		},
	}
}

func TestGoldenZones(t *testing.T) {
	t.Parallel()
	for _, version := range []haproxycfg.Version{{}, {Major: 2, Minor: 9}, {Major: 3, Minor: 2}} {
		configtest.Golden(t, map[string]*haproxycfg.Config{"zones": zonesConfig(version)})
	}
}
