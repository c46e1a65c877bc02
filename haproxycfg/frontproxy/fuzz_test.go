package frontproxy_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// bits are the input of a fuzz test. The test reads numbers from it. After the end, each number is
// 0.
type bits []byte

func (b *bits) next() int {
	if len(*b) == 0 {
		return 0
	}
	n := int((*b)[0])
	*b = (*b)[1:]
	return n
}

// The function of returns one of the values. It returns the first one most often.
func of[T any](b *bits, values ...T) T { return values[b.next()%len(values)] }

func fuzzedProxy(b *bits, service, zone, text string) *frontproxy.Proxy {
	ms := func() time.Duration { return of(b, 0, time.Duration(b.next()*b.next()+1)*time.Millisecond) }
	number := func() int { return of(b, 0, -1, b.next(), b.next()*256) }
	p := &frontproxy.Proxy{
		Service: service, Zone: zone, LocalPort: of(b, uint16(0), 3000),
		Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8080", AcceptProxy: of(b, false, true)}}, Monitor: of(b, "", "/ready", text),
		Global: haproxycfg.Global{Version: of(b, haproxycfg.Version{}, haproxycfg.Version{Major: 2, Minor: 9}, haproxycfg.Version{Major: 3}, haproxycfg.Version{Major: 3, Minor: 4})},
		Settings: frontproxy.Settings{
			Protocol: of(b, "", haproxycfg.GRPC, haproxycfg.H2C, haproxycfg.Protocol(text)), Balance: of(b, "", haproxycfg.RoundRobin, haproxycfg.Random, haproxycfg.Balance(text)),
			Connect: ms(), Server: ms(), KeepAlive: ms(), Retries: number(), RetryPercent: number(), RetriesPerSecond: number(),
			RetryOn:     of(b, nil, []haproxycfg.RetryEvent{haproxycfg.Retry503}, []haproxycfg.RetryEvent{haproxycfg.RetryEvent(text)}),
			EjectErrors: number(), EjectTime: ms(), HealthPath: of(b, "", "/healthz", text), HealthHost: of(b, "", text), PanicBelow: number(),
			Overprovision: number(), NoSpill: of(b, false, true), PerPod: number(), Pending: number(), QueueTime: ms(),
			Reuse: of(b, "", haproxycfg.ReuseSafe, haproxycfg.Reuse(text)), PoolPurge: ms(), NoPool: of(b, false, true), SlowStart: ms(), CloseOneIn: number(),
			Limits:    haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: number()}, Source: haproxycfg.Limit{Connections: number()}},
			AccessLog: of(b, false, true), TraceSample: number(), ReplaceForwarded: of(b, false, true), Grace: ms(), HardStop: ms(),
		},
	}
	if of(b, false, true) {
		p.Admin = []haproxycfg.Bind{{Address: "127.0.0.1:8405"}}
	}
	return p
}

// FuzzConfig requires that Config returns an error or a valid configuration, and that the same
// arguments give the same text. For a sample of the inputs, the real HAProxy must accept the text.
func FuzzConfig(f *testing.F) {
	f.Add("shop.web", "a", "x", []byte{}, []byte{10, 0, 0, 1, 31, 144, 'a', 10, 0, 0, 2, 31, 144, 'b'}, 3)
	f.Add("web", "", "/ x'y", []byte{0, 1, 1, 2, 1, 1, 2, 3, 1, 5, 9, 2, 2, 4, 0, 0, 1, 1, 5, 2, 3, 1, 1, 1, 0, 1}, []byte{10, 0, 0, 1, 31, 144, 'a'}, 0)
	f.Add("a b\nc", "a", "", []byte{1}, []byte{}, -5)
	f.Add("web", "a", "h", []byte{0, 0, 0, 2, 1, 1}, []byte{0, 0, 0, 0, 0, 0, 'a', 127, 0, 0, 1, 0, 80, 'a'}, 1<<31-1)
	binaryPath := haproxytest.Binary(f)
	out, err := exec.Command(binaryPath, "-v").Output()
	require.NoError(f, err)
	installedVersion, err := haproxycfg.ParseVersion(string(out))
	require.NoError(f, err)
	n := 0
	f.Fuzz(func(t *testing.T, service, zone, text string, settings, addrs []byte, expected int) {
		b := bits(settings)
		p := fuzzedProxy(&b, service, zone, text)
		var pods []frontproxy.Pod
		for ; len(addrs) >= 7 && len(pods) < 300; addrs = addrs[7:] {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte(addrs[:4])), binary.BigEndian.Uint16(addrs[4:]))
			pods = append(pods, frontproxy.Pod{Addr: addr, Zone: string(addrs[6:7])})
		}
		c, slots, err := p.Config(pods, expected, nil)
		if err != nil {
			require.Empty(t, c)
			return
		}
		files, err := c.Render("")
		require.NoError(t, err)
		again, after, err := p.Config(pods, expected, slots)
		require.NoError(t, err)
		require.Equal(t, c, again)
		require.Equal(t, slots, after)
		if n++; n%100 != 1 || !installedVersion.AtLeast(max(c.Global.Version.Major, 2), c.Global.Version.Minor) {
			return
		}
		dir := haproxytest.Dir(t)
		configtest.WriteFiles(t, dir, files)
		if out, err := exec.CommandContext(t.Context(), binaryPath, "-c", "-f", filepath.Join(dir, haproxytest.ConfigFile)).CombinedOutput(); err != nil {
			text, _ := os.ReadFile(filepath.Join(dir, haproxytest.ConfigFile))
			t.Fatalf("haproxy -c: %v\n%s\n%s", err, out, text)
		}
	})
}
