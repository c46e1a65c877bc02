package edge_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// oddName returns all printable ASCII characters except "/" and the characters in the argument.
func oddName(without string) string {
	var b strings.Builder
	for c := rune(' '); c < 0x7f; c++ {
		if c != '/' && !strings.ContainsRune(without, c) {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// TestOddSocketPaths requires that HAProxy listens exactly at the path of a socket. The paths
// contain all printable characters except "$" and ",", which Validate refuses. The test cuts the
// name of all characters into two halves, because the path of a socket is short.
func TestOddSocketPaths(t *testing.T) {
	name := oddName("$,")
	for _, half := range []string{name[:len(name)/2], name[len(name)/2:], "${HOME}", "$HOME", "a,b", "a,unix@/b"} {
		t.Run(half, func(t *testing.T) {
			w := newWorld(t)
			stats, listener := filepath.Join(w.dir, "s"+half), filepath.Join(w.dir, "l"+half)
			c := &haproxycfg.Config{
				Global:    haproxycfg.Global{StatsSocket: w.stats.Path},
				Frontends: []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: "unix@" + listener}}, DefaultBackend: "b"}},
				Backends:  []haproxycfg.Backend{{Name: "b", Response: &haproxycfg.FixedResponse{Status: 200}}},
			}
			if strings.ContainsAny(half, "$,") {
				require.ErrorContains(t, c.Validate(), "bind")
				c.Frontends[0].Binds[0].Address, c.Global.StatsSocket = ":80", stats
				require.ErrorContains(t, c.Validate(), "StatsSocket")
				return
			}
			c.Global.StatsSocket = stats
			files, err := c.Render(w.dir)
			require.NoError(t, err)
			configtest.WriteFiles(t, w.dir, files)
			p, err := haproxyproc.Start(t.Context(), haproxyproc.Options{Config: filepath.Join(w.dir, "haproxy.cfg"), StatsSocket: stats})
			require.NoError(t, err)
			defer p.Stop()
			for _, path := range []string{stats, listener} {
				conn, err := net.Dial("unix", path)
				require.NoError(t, err)
				_ = conn.Close()
			}
		})
	}
}

// TestOddDirectory puts maps, certificates and the state file into directories with all printable
// characters in their names. HAProxy finds them all.
func TestOddDirectory(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, oddName(`'"\`))
	certs := filepath.Join(w.dir, oddName(""))
	cert := configtest.WriteCertificate(t, certs, "example.com")
	state := certs + ".state"
	require.NoError(t, os.WriteFile(state, []byte("1\n"), 0o600))
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	w.upstream(ref("eu-1", "web"), 0, 1)
	table, problems := routes.New(route("example.com", "/", weighted{ref("eu-1", "web"), 100}))
	require.Empty(t, problems)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(haproxytest.Ports(t, 1)[0]))
	e := edge.Edge{
		Global:        haproxycfg.Global{StatsSocket: w.stats.Path, StateFile: state},
		HTTPS:         []haproxycfg.Bind{{Address: address, TLS: &haproxycfg.TLS{Certificates: certs}}},
		NodeAgentPort: uint16(w.nodeAgent),
	}
	config, problems := e.Config(table, w.upstreams)
	require.Empty(t, problems)
	_, err := (&deploy.Dir{Path: dir, Check: deploy.Checker{Haproxy: haproxytest.Binary(t)}.Check}).Apply(t.Context(), config)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	require.NoError(t, err)
	haproxytest.Start(t, w.dir, string(text))
	known := x509.NewCertPool()
	known.AddCert(cert)
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "example.com", RootCAs: known})
	require.NoError(t, err)
	c := newClient(t, address)
	c.conn, c.in = conn, bufio.NewReader(conn)
	status, servedBy := c.get("example.com", "/")
	require.Equal(t, 200, status)
	require.Equal(t, ref("eu-1", "web").String(), servedBy)
}
