package peer

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func setup(hosts int) Setup {
	return Setup{
		Dir:         "/tmp/run",
		Listen:      netip.MustParseAddrPort("127.0.0.1:8443"),
		Hosts:       Sites(hosts),
		Backends:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9000"), netip.MustParseAddrPort("127.0.0.1:9001")},
		Connections: 5000,
		Descriptors: 20000,
	}
}

// TestPlans checks that every router gets the same task: each name with its backend, and the
// address to listen on.
func TestPlans(t *testing.T) {
	for name, test := range map[string]struct {
		router Router
		args   string
		files  map[string][]string // expected lines
	}{
		"nginx": {
			router: Nginx("/usr/sbin/nginx", "/lib/ngx_stream_module.so", "1.2", false),
			args:   "/usr/sbin/nginx -p /tmp/run -e stderr -c /tmp/run/nginx.conf",
			files: map[string][]string{
				"nginx.conf": {
					"load_module /lib/ngx_stream_module.so;", "worker_processes 1;", "worker_connections 10064;", "listen 127.0.0.1:8443 backlog=4096;",
					"upstream b0 { server 127.0.0.1:9000; }", "upstream b1 { server 127.0.0.1:9001; }", "include /tmp/run/hosts.map;",
					"preread_timeout 5s;", "proxy_connect_timeout 5s;", "proxy_timeout 10m;", "access_log off;", "map_hash_max_size 6000;",
				},
				"hosts.map": {"site-000000.apps.example b0;", "site-000001.apps.example b1;", "site-002999.apps.example b1;"},
			},
		},
		"HAProxy": {
			router: HAProxy("/usr/sbin/haproxy", "2.6"),
			args:   "/usr/sbin/haproxy -db -q -f /tmp/run/haproxy.cfg",
			files: map[string][]string{
				"haproxy.cfg": {
					"nbthread 1", "maxconn 5064", "option splice-auto", "backlog 4096", "bind 127.0.0.1:8443", "server s 127.0.0.1:9000", "server s 127.0.0.1:9001",
					"timeout connect 5s", "timeout client 10m", "tcp-request inspect-delay 5s",
					"use_backend %[req.ssl_sni,lower,map(/tmp/run/hosts.map)]",
				},
				"hosts.map": {"site-000000.apps.example b0", "site-002999.apps.example b1"},
			},
		},
		"sniproxy": {
			router: SNIProxy("/usr/sbin/sniproxy", "0.6"),
			args:   "/usr/sbin/sniproxy -f -c /tmp/run/sniproxy.conf",
			files: map[string][]string{"sniproxy.conf": {
				"listener 127.0.0.1:8443 {", "^site-000000[.]apps[.]example$ 127.0.0.1:9000", "^site-002999[.]apps[.]example$ 127.0.0.1:9001",
			}},
		},
		"tcpproxy": {
			router: TCPProxy("/tmp/tcprouter", "v0"),
			args:   "/tmp/tcprouter -listen 127.0.0.1:8443 -hosts /tmp/run/hosts.json",
		},
		"plain Go": {
			router: Plain("/tmp/plainrouter", "1"),
			args:   "/tmp/plainrouter -listen 127.0.0.1:8443 -hosts /tmp/run/hosts.json",
		},
		"snirouter": {
			router: SNIRouter("/tmp/snirouter -tls {listen} -hosts {hosts} -admin= ", ""),
			args:   "/tmp/snirouter -tls 127.0.0.1:8443 -hosts /tmp/run/hosts.json -admin=",
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := test.router.Plan(setup(3000))
			require.Equal(t, name, test.router.Name)
			require.Equal(t, test.args, strings.Join(plan.Args, " "))
			require.Equal(t, plan, test.router.Plan(setup(3000)), "the same for the same")
			for file, lines := range test.files {
				have := make(map[string]bool)
				for line := range strings.Lines(string(plan.Files[file])) {
					have[strings.TrimSpace(line)] = true
				}
				for _, line := range lines {
					require.True(t, have[line], "%s: no line %q", file, line)
				}
			}
			all := 0
			for _, data := range plan.Files {
				all += strings.Count(strings.ReplaceAll(string(data), "[.]", "."), ".apps.example")
			}
			require.Equal(t, 3000, all)
		})
	}
}

// TestPlanForTwoCores checks that the routers with a setting for it get a worker for each processor.
func TestPlanForTwoCores(t *testing.T) {
	s := setup(1)
	s.Cores = 2
	require.Contains(t, string(Nginx("nginx", "", "", false).Plan(s).Files["nginx.conf"]), "worker_processes 2;\n")
	require.Contains(t, string(HAProxy("haproxy", "").Plan(s).Files["haproxy.cfg"]), "\tnbthread 2\n")
}

// TestHostsFit checks that snirouter can read a million hosts: it reads at most 64 MiB.
func TestHostsFit(t *testing.T) {
	s := setup(1000)
	s.Backends = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:65535")}
	require.LessOrEqual(t, 1000*len(SNIRouter("x", "").Plan(s).Files["hosts.json"]), 64<<20)
}

func TestNginxHalfClose(t *testing.T) {
	half := Nginx("nginx", "", "", true)
	require.Equal(t, "nginx, half-close", half.Name)
	require.Contains(t, string(half.Plan(setup(1)).Files["nginx.conf"]), "\t\tproxy_half_close on;\n")
	require.NotContains(t, string(Nginx("nginx", "", "", false).Plan(setup(1)).Files["nginx.conf"]), "half_close")
}

func TestPlanForRoot(t *testing.T) {
	s := setup(1)
	s.Root = true
	require.Contains(t, string(Nginx("nginx", "", "", false).Plan(s).Files["nginx.conf"]), "user root;\ndaemon off;\n")
	require.Contains(t, string(SNIProxy("sniproxy", "").Plan(s).Files["sniproxy.conf"]), "user root\n")
	require.NotContains(t, string(Nginx("nginx", "", "", false).Plan(setup(1)).Files["nginx.conf"]), "user root")
	require.NotContains(t, string(Nginx("nginx", "", "", false).Plan(setup(1)).Files["nginx.conf"]), "load_module")
}

func TestHostsAsJSON(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		var hosts []struct{ Host, Endpoint string }
		require.NoError(t, json.Unmarshal(Plain("x", "").Plan(setup(n)).Files["hosts.json"], &hosts))
		require.Len(t, hosts, n)
		for i, h := range hosts {
			require.Equal(t, Sites(n)[i], h.Host)
			require.Equal(t, setup(n).Backend(i).String(), h.Endpoint)
		}
	}
}
