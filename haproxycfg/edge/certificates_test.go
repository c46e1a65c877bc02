package edge_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// certificateWorld serves six hosts with three certificates.
func certificateWorld(t *testing.T, global haproxycfg.Global) (w *world, port string, roots *x509.CertPool) {
	w = newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	web := ref("eu-1", "web")
	w.upstream(web, 0, 1)
	var declared []routes.Route
	for _, host := range []string{"a.example.com", "b.example.com", "c.example.com", "*.wild.example.com", "*.example.net", "example.net"} {
		declared = append(declared, route(host, "/", weighted{web, 100}))
	}
	e := edge.Edge{Global: global, Certificates: []haproxycfg.Certificate{
		configtest.Certificate(t, "a.example.com", "*.wild.example.com"),
		configtest.Certificate(t, "b.example.com", "c.example.com"),
		configtest.Certificate(t, "*.example.net", "example.net"),
	}}
	roots = x509.NewCertPool()
	for _, c := range e.Certificates {
		block, _ := pem.Decode(c.PEM)
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		roots.AddCert(cert)
	}
	port = strconv.Itoa(haproxytest.Ports(t, 1)[0])
	e.HTTPS = []haproxycfg.Bind{{Address: "127.0.0.1:" + port, TLS: &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true}}}
	w.start(e, tableOf(t, declared...))
	return w, port, roots
}

// TestMisdirected sends requests for several hosts over connections whose certificate covers only
// some of the hosts. A request for any other host gets 421. The server name of the connection does
// not matter.
func TestMisdirected(t *testing.T) {
	t.Parallel()
	w, port, roots := certificateWorld(t, haproxycfg.Global{})
	for _, tt := range []struct {
		server, host string
		want         int
	}{
		{"a.example.com", "a.example.com", 200},
		{"a.example.com", "A.Example.COM", 200},
		{"a.example.com", "a.example.com:" + port, 200},
		{"a.example.com", "a.example.com.", 200},
		{"a.example.com", "a.example.com.:443", 200},
		{"a.example.com", "x.wild.example.com", 200}, // the same certificate, another server name
		{"x.wild.example.com", "a.example.com", 200},
		{"x.wild.example.com", "y.wild.example.com", 200},
		{"b.example.com", "c.example.com", 200},
		{"example.net", "www.example.net", 200},
		{"a.example.com", "b.example.com", 421},
		{"a.example.com", "wild.example.com", 421},
		{"a.example.com", "y.x.wild.example.com", 421}, // a wildcard covers one label
		{"a.example.com", ".wild.example.com", 421},
		{"b.example.com", "a.example.com", 421},
		{"b.example.com", "x.wild.example.com", 421},
		{"example.net", "a.b.example.net", 421},
		{"example.net", "unknown.example.org", 421},
		{"example.net", "127.0.0.1", 421},
		{"example.net", "[::1]:443", 421},
	} {
		t.Run(tt.server+" "+tt.host, func(t *testing.T) {
			t.Parallel()
			for _, protocol := range []string{"http/1.1", "h2"} {
				transport := &http.Transport{ForceAttemptHTTP2: protocol == "h2", TLSClientConfig: &tls.Config{
					RootCAs: roots, ServerName: tt.server, NextProtos: []string{protocol},
				}}
				req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+w.tlsAddress+"/", nil)
				require.NoError(t, err)
				req.Host = tt.host
				r, err := transport.RoundTrip(req)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, r.Body)
				require.NoError(t, err)
				require.NoError(t, r.Body.Close())
				transport.CloseIdleConnections()
				require.Equal(t, tt.want, r.StatusCode, protocol)
				require.Equal(t, protocol == "h2", r.ProtoMajor == 2)
				require.Equal(t, tt.want == 200, r.Header.Get("X-Served-By") != "")
			}
		})
	}
	t.Run("a resumed session", func(t *testing.T) {
		sessions := tls.NewLRUClientSessionCache(4)
		for i := range 3 {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "b.example.com", ClientSessionCache: sessions}}
			for host, want := range map[string]int{"b.example.com": 200, "a.example.com": 421} {
				req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+w.tlsAddress+"/", nil)
				require.NoError(t, err)
				req.Host = host
				r, err := transport.RoundTrip(req)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, r.Body)
				require.NoError(t, err)
				require.NoError(t, r.Body.Close())
				require.Equal(t, want, r.StatusCode)
				require.Equal(t, i > 0, r.TLS.DidResume)
			}
			transport.CloseIdleConnections()
		}
	})
	t.Run("without TLS", func(t *testing.T) {
		status, _ := newClient(t, w.frontend).get("b.example.com", "/")
		require.Equal(t, 200, status, "no certificate is involved")
	})
	t.Run("curl", func(t *testing.T) {
		for _, version := range []string{"--http1.1", "--http2"} {
			for host, want := range map[string]string{"c.example.com": "200", "a.example.com": "421"} {
				out, err := exec.CommandContext(t.Context(), "curl", "-sk", version, "--resolve", "b.example.com:"+port+":127.0.0.1",
					"-H", "Host: "+host, "-o", filepath.Join(t.TempDir(), "body"), "-w", "%{http_code}", "https://b.example.com:"+port+"/").CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Equal(t, want, string(out), "%s %s", version, host)
			}
		}
	})
}

// TestStrictSNI connects without a server name, and with names that no certificate covers. HAProxy
// refuses these handshakes, so no client sees the certificate of another host.
func TestStrictSNI(t *testing.T) {
	t.Parallel()
	w, _, roots := certificateWorld(t, haproxycfg.Global{})
	dial := func(server string) error {
		conn, err := tls.Dial("tcp", w.tlsAddress, &tls.Config{RootCAs: roots, ServerName: server, InsecureSkipVerify: server == ""})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	require.NoError(t, dial("a.example.com"))
	require.NoError(t, dial("one.wild.example.com"))
	for _, server := range []string{"", "d.example.com", "two.one.wild.example.com"} {
		require.ErrorContains(t, dial(server), "unrecognized name", "%q", server)
	}
}
