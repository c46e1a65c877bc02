package deploy

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// TestUseSpares gives new nodes spare servers. The package haproxycfg/edge tests the same with
// HAProxy.
func TestUseSpares(t *testing.T) {
	port := func(ip string, port uint16) haproxycfg.Server {
		s := haproxycfg.Server{Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), port), Check: true, AgentPort: 9707}
		s.Slot = s.Name()
		return s
	}
	own := func(ip string) haproxycfg.Server { return port(ip, 9707) }
	in := func(spare, ip string) haproxycfg.Server { s := own(ip); s.Slot = spare; return s }
	spare := func(i int) haproxycfg.Server { return own("10.0.0.1").Spare(i) }
	config := func(nodes ...haproxycfg.Server) *haproxycfg.Config {
		web := haproxycfg.Backend{Name: "web"}
		for _, n := range nodes {
			if !n.Disabled {
				web.Servers = append(web.Servers, haproxycfg.Server{Addr: netip.AddrPortFrom(n.Addr.Addr(), 80), Track: "nodes/" + n.Slot})
			}
		}
		return &haproxycfg.Config{Backends: []haproxycfg.Backend{{Name: "nodes", Servers: nodes}, web}}
	}
	type list = []haproxycfg.Server
	a, b, c, d := "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
	for _, tt := range []struct {
		name         string
		before, want list
		after        list // nil: no node needs a spare server, or there are too few
		busy         map[string]string
	}{
		{"the same nodes", list{own(a), spare(1)}, list{own(a), spare(1)}, nil, nil},
		{"a new node", list{own(a), spare(1), spare(2)}, list{own(a), own(b), spare(1), spare(2)}, list{own(a), in("spare1", b), spare(2)}, nil},
		{"two new nodes", list{spare(1), spare(2)}, list{own(a), own(b), spare(1), spare(2)}, list{in("spare1", a), in("spare2", b)}, nil},
		{"too many new nodes", list{own(a), spare(1)}, list{own(a), own(b), own(c), spare(1)}, nil, nil},
		{"a node keeps its spare server", list{in("spare1", b), in("spare2", c)}, list{own(c), spare(1), spare(2)}, list{spare(1), in("spare2", c)}, nil},
		{"the node of a spare server leaves, and a spare server is free", list{in("spare1", b), in("spare2", c), spare(3)}, list{own(c), own(d), spare(1), spare(2), spare(3)}, list{spare(1), in("spare2", c), in("spare3", d)}, nil},
		{"the node of a spare server leaves, and no spare server is free", list{in("spare1", b), in("spare2", c)}, list{own(c), own(d), spare(1), spare(2)}, nil, nil},
		{"more spare servers than before", list{own(a), spare(1)}, list{own(a), own(b), own(c), spare(1), spare(2)}, nil, nil},
		{"fewer spare servers than before", list{own(a), spare(1), in("spare2", b)}, list{own(a), own(b), spare(1)}, nil, nil},
		{"HAProxy still has the node", list{own(a), spare(1)}, list{own(a), own(b), spare(1)}, nil, map[string]string{"nodes/10.0.0.2:9707-9707": "x"}},
		{"two new servers with one IP address", list{own(a), spare(1), spare(2)}, list{own(a), own(b), port(b, 9708), spare(1), spare(2)}, nil, nil},
		{"a second server with the IP address of a spare server", list{own(a), in("spare1", b), spare(2)}, list{own(a), own(b), port(b, 9708), spare(1), spare(2)}, nil, nil},
		{"no spare servers", list{own(a)}, list{own(a), own(b)}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var disk bytes.Buffer
			_, err := config(tt.before...).WriteTo(&disk)
			require.NoError(t, err)
			wanted := config(tt.want...)
			got := useSpares(wanted, disk.Bytes(), tt.busy)
			require.Equal(t, config(tt.want...), wanted, "useSpares does not change its argument")
			if tt.after == nil {
				require.Nil(t, got)
				return
			}
			require.ElementsMatch(t, config(tt.after...).Backends[0].Servers, got.Backends[0].Servers)
			require.ElementsMatch(t, config(tt.after...).Backends[1].Servers, got.Backends[1].Servers)
			require.NoError(t, got.Validate())
			_, spares := presentServers(sectionOf(disk.Bytes(), "backend nodes"))
			require.NotEmpty(t, spares)
			free := 0
			for _, n := range tt.before {
				if n.Disabled {
					free++
				}
			}
			require.Equal(t, len(tt.before)-free, cutSections(disk.Bytes())["backend nodes"].servers, "a share of lost servers ignores free spare servers")
			require.Empty(t, sectionOf(disk.Bytes(), "backend node"))
		})
	}
}
