package frontproxy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
)

var v3 = haproxycfg.Version{Major: 3}

// pods returns n pods with the addresses 10.ZONE.0.1, 10.ZONE.0.2 and so on.
func pods(n int, zone string) []frontproxy.Pod {
	all := make([]frontproxy.Pod, n)
	for i := range all {
		all[i] = frontproxy.Pod{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, zone[0], byte(i >> 8), byte(i)}), 8080), Zone: zone}
	}
	return all
}

func newProxy(version haproxycfg.Version) *frontproxy.Proxy {
	return &frontproxy.Proxy{
		Service: "shop.web", Zone: "a", Binds: []haproxycfg.Bind{{Address: ":8080"}}, Admin: []haproxycfg.Bind{{Address: ":8405"}},
		Global: haproxycfg.Global{Version: version, StatsSocket: configtest.GoldenDir + "/stats.sock"},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	all := append(pods(3, "a"), pods(2, "b")...)
	for _, version := range []haproxycfg.Version{{}, {Major: 3}} {
		configs := map[string]*haproxycfg.Config{}
		add := func(name string, p *frontproxy.Proxy, pods []frontproxy.Pod, expected int) {
			c, _, err := p.Config(pods, expected, nil)
			require.NoError(t, err)
			configs[name] = &c
		}
		add("defaults", newProxy(version), all, 4)
		if version == (haproxycfg.Version{}) {
			add("no-pods", newProxy(version), nil, 0)
			sidecar := newProxy(version)
			sidecar.LocalPort, sidecar.Settings = 3000, frontproxy.Settings{PerPod: 100}
			add("sidecar", sidecar, nil, 0)
		}
		full := newProxy(version)
		full.Binds[0].AcceptProxy, full.Monitor = true, "/ready"
		full.Settings = frontproxy.Settings{
			Protocol: haproxycfg.GRPC, Balance: haproxycfg.RoundRobin, Connect: 300 * time.Millisecond, Server: time.Minute, KeepAlive: 2 * time.Minute,
			Retries: 1, RetryOn: []haproxycfg.RetryEvent{haproxycfg.RetryConnFailure, haproxycfg.Retry503}, RetryPercent: 10, RetriesPerSecond: -1,
			EjectErrors: 5, EjectTime: 12 * time.Second, HealthPath: "/healthz", HealthHost: "web", PanicBelow: 50, Overprovision: 120, NoSpill: true,
			PerPod: 32, Pending: 100, QueueTime: time.Second, Reuse: haproxycfg.ReuseSafe, NoPool: true, SlowStart: 20 * time.Second,
			CloseOneIn: 100, Limits: haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: 400}, Source: haproxycfg.Limit{Connections: 20}},
			AccessLog: true, TraceSample: 100, ReplaceForwarded: true, Grace: 10 * time.Second, HardStop: time.Minute,
		}
		add("everything", full, all, 4)
		configtest.Golden(t, configs)
	}
}

func TestSettingsThatContradict(t *testing.T) {
	t.Parallel()
	type settings = frontproxy.Settings
	for _, tt := range []struct {
		settings settings
		field    string
	}{
		{settings{Connect: -1}, "Connect"},
		{settings{Server: time.Microsecond}, "Server"},
		{settings{KeepAlive: 25 * 24 * time.Hour}, "KeepAlive"},
		{settings{Balance: haproxycfg.Source}, "Balance"},
		{settings{PerPod: -1}, "PerPod"},
		{settings{PanicBelow: 101}, "PanicBelow"},
		{settings{Overprovision: 99}, "Overprovision"},
		{settings{TraceSample: 10001}, "TraceSample"},
		{settings{EjectTime: time.Millisecond}, "EjectTime"},
		{settings{Retries: -1, RetryOn: []haproxycfg.RetryEvent{haproxycfg.Retry503}}, "RetryOn"},
		{settings{Retries: -1, RetryPercent: 10}, "RetryPercent"},
		{settings{RetryPercent: -1, RetriesPerSecond: 10}, "RetriesPerSecond"},
		{settings{EjectErrors: -1, EjectTime: time.Minute}, "EjectTime"},
		{settings{EjectErrors: -1, PanicBelow: 50}, "PanicBelow"},
		{settings{HealthHost: "x"}, "HealthHost"},
		{settings{HealthPath: "/", HealthHost: "a b"}, "HealthHost"},
		{settings{HealthPath: "healthz"}, "HealthPath"},
		{settings{HealthPath: "/a b"}, "HealthPath"},
		{settings{Protocol: "http3"}, "Protocol"},
		{settings{Reuse: "sometimes"}, "Reuse"},
		{settings{RetryOn: []haproxycfg.RetryEvent{"500"}}, "RetryOn"},
		{settings{RetryOn: []haproxycfg.RetryEvent{"503", "503"}}, "RetryOn"},
		{settings{Pending: 5}, "Pending"},
		{settings{QueueTime: time.Second}, "QueueTime"},
		{settings{NoPool: true, PoolPurge: time.Second}, "PoolPurge"},
		{settings{Grace: 30 * time.Second}, "HardStop"},
		{settings{Limits: haproxycfg.Limits{Source: haproxycfg.Limit{Requests: -1}}}, "Limits.Source.Requests"},
	} {
		err := tt.settings.Validate()
		var fault *frontproxy.FieldError
		require.ErrorAs(t, err, &fault, tt.field)
		require.Equal(t, tt.field, fault.Field)
		require.NotContains(t, err.Error(), "\n", "one fault")
		p := newProxy(v3)
		p.Settings = tt.settings
		_, _, err = p.Config(nil, 0, nil)
		require.ErrorAs(t, err, &fault)
	}
	require.NoError(t, (&settings{}).Validate())
}

func variable(t *testing.T, c haproxycfg.Config, name string) int {
	t.Helper()
	i := slices.IndexFunc(c.Global.Variables, func(v haproxycfg.Variable) bool { return v.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return c.Global.Variables[i].Value
}

func backend(t *testing.T, c haproxycfg.Config, name string) haproxycfg.Backend {
	t.Helper()
	i := slices.IndexFunc(c.Backends, func(b haproxycfg.Backend) bool { return b.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return c.Backends[i]
}

func TestPodsByZone(t *testing.T) {
	t.Parallel()
	local, other, panicking := frontproxy.Backends("shop.web")
	for _, tt := range []struct {
		pods                               []frontproxy.Pod
		expected                           int
		local, other, panicking, threshold int
		wantExpected                       int
	}{
		{append(pods(12, "a"), pods(24, "b")...), 0, 12, 24, 12, 9, 12},
		{pods(9, "a"), 12, 9, 0, 9, 3, 12},
		{pods(12, "a"), 5, 12, 0, 12, 3, 12},
		{pods(6, "b"), 4, 0, 6, 6, 2, 4},
		{nil, 0, 0, 0, 0, 0, 0},
		{[]frontproxy.Pod{
			{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Zone: "a"},
			{Addr: netip.MustParseAddrPort("[::ffff:10.0.0.1]:80"), Zone: "b"},
			{Addr: netip.MustParseAddrPort("10.0.0.1:0"), Zone: "a"},
			{Addr: netip.MustParseAddrPort("[fe80::1%eth0]:80"), Zone: "a"},
			{Zone: "a"},
			{Addr: netip.MustParseAddrPort("10.0.0.2:80")},
		}, 1, 1, 1, 1, 1, 1},
	} {
		shuffled := slices.Clone(tt.pods)
		slices.Reverse(shuffled)
		c, slots, err := newProxy(v3).Config(tt.pods, tt.expected, nil)
		require.NoError(t, err)
		require.Nil(t, slots)
		require.Len(t, backend(t, c, local).Servers, tt.local)
		require.Len(t, backend(t, c, other).Servers, tt.other)
		require.Len(t, backend(t, c, panicking).Servers, tt.panicking)
		require.Equal(t, tt.threshold, variable(t, c, "panic_below"))
		require.Equal(t, tt.wantExpected, variable(t, c, "expected_pods"))
		again, _, err := newProxy(v3).Config(shuffled, tt.expected, nil)
		require.NoError(t, err)
		require.Equal(t, c, again, "the order of the pods does not matter")
	}
	everywhere := newProxy(v3)
	everywhere.Zone = ""
	c, _, err := everywhere.Config(append(pods(2, "a"), pods(1, "b")...), 0, nil)
	require.NoError(t, err)
	require.Len(t, backend(t, c, local).Servers, 3)
}

// TestOnlyServersAndVariablesChange compares the texts for different pods. They must be equal,
// except for the lines that a controller can change at run time.
func TestOnlyServersAndVariablesChange(t *testing.T) {
	t.Parallel()
	for _, version := range []haproxycfg.Version{{}, v3} {
		p := newProxy(version)
		p.Settings.PerPod = 10
		fixed := func(pods []frontproxy.Pod, expected int, slots frontproxy.Slots) (string, frontproxy.Slots) {
			c, slots, err := p.Config(pods, expected, slots)
			require.NoError(t, err)
			files, err := c.Render("")
			require.NoError(t, err)
			require.Len(t, files, 1)
			lines := strings.Split(string(files[0].Data), "\n")
			return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
				line = strings.TrimSpace(line)
				return strings.HasPrefix(line, "server ") || strings.HasPrefix(line, "set-var proc.")
			}), "\n"), slots
		}
		none, slots := fixed(nil, 0, nil)
		some, slots := fixed(append(pods(3, "a"), pods(2, "b")...), 4, slots)
		more, _ := fixed(append(pods(100, "a"), pods(70, "b")...), 120, slots)
		require.Equal(t, none, some)
		require.Equal(t, none, more)
	}
}

func BenchmarkConfig(b *testing.B) {
	for _, version := range []haproxycfg.Version{{}, v3} {
		all := append(pods(1000, "a"), pods(1000, "b")...)
		p := newProxy(version)
		_, slots, err := p.Config(all, 1000, nil)
		require.NoError(b, err)
		b.Run(fmt.Sprintf("pods=1000/other=1000/haproxy=%v", version), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, _, err := p.Config(all, 1000, slots)
				if err != nil {
					b.Fatal(err)
				}
				files, err := c.Render("/etc/haproxy")
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(files[0].Data)))
			}
		})
	}
}
