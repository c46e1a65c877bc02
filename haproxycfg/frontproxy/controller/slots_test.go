package controller

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

func testProxy() frontproxy.Proxy {
	return frontproxy.Proxy{Service: "s", Zone: "a", Binds: []haproxycfg.Bind{{Address: ":80"}}}
}

// After a restart of the process, pods keep their slots, and new pods get free slots.
func TestParseSlots(t *testing.T) {
	pod := func(text, zone string) frontproxy.Pod {
		return frontproxy.Pod{Addr: netip.MustParseAddrPort(text), Zone: zone}
	}
	proxy := testProxy()
	config, slots, err := proxy.Config([]frontproxy.Pod{pod("10.0.0.5:80", "a"), pod("[fd00::1]:80", "a"), pod("10.0.0.7:80", "b")}, 0, nil)
	require.NoError(t, err)
	files, err := config.Render("/etc")
	require.NoError(t, err)
	require.Equal(t, slots, parseSlots(files[len(files)-1].Data))

	config.Global.Version = haproxycfg.Version{Major: 3}
	require.Empty(t, parseSlots([]byte("backend b\n    server 10.0.0.5:80 10.0.0.5:80 check\n    server s1\n")))
}

func FuzzParseSlots(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		proxy := testProxy()
		config, _, err := proxy.Config([]frontproxy.Pod{{Addr: netip.MustParseAddrPort("10.0.0.5:80"), Zone: "a"}}, 0, parseSlots(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Render("/etc"); err != nil {
			t.Fatal(err)
		}
	})
}
