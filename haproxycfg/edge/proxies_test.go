package edge_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// trusted is the address of a trusted proxy, and untrusted the address of any other client.
const trusted, untrusted = "127.1.0.1", "127.2.0.1"

// proxiesWorld serves example.com with redirects to HTTPS. HAProxy trusts the networks.
func proxiesWorld(t *testing.T, e edge.Edge, networks ...string) *world {
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	web := ref("eu-1", "web")
	w.upstream(web, 0, 1)
	e.Certificates = []haproxycfg.Certificate{configtest.Certificate(t, "example.com")}
	e.HTTPS = []haproxycfg.Bind{{
		Address: fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]),
		TLS:     &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true},
	}}
	for _, n := range networks {
		e.TrustedProxies = append(e.TrustedProxies, netip.MustParsePrefix(n))
	}
	w.start(e, tableOf(t, route("example.com", "/", weighted{web, 100})))
	return w
}

func clientOn(t testing.TB, conn net.Conn) *client {
	c := newClient(t, "")
	c.conn, c.in = conn, bufio.NewReader(conn)
	return c
}

// TestRedirectBehindProxies requires that only trusted proxies decide that a request came over TLS.
// HAProxy never redirects a request that claims to have come over TLS: behind a proxy that is
// missing in the list, this would be a loop.
func TestRedirectBehindProxies(t *testing.T) {
	t.Parallel()
	w := proxiesWorld(t, edge.Edge{RedirectHTTPS: &haproxycfg.HTTPSRedirect{}}, "192.0.2.0/24", "127.1.0.0/16", "2001:db8::/32")
	nobody := proxiesWorld(t, edge.Edge{RedirectHTTPS: &haproxycfg.HTTPSRedirect{}})
	everybody := proxiesWorld(t, edge.Edge{RedirectHTTPS: &haproxycfg.HTTPSRedirect{}, Forwarded: haproxycfg.ForwardedAppend})
	const https, http = "X-Forwarded-Proto: https\r\n", "X-Forwarded-Proto: http\r\n"
	for _, tt := range []struct {
		world                 *world
		source, host, headers string
		want                  int
	}{
		{w, trusted, "example.com", https, 200},
		{w, trusted, "example.com", "x-forwarded-proto: HTTPS\r\n", 200},
		{w, trusted, "example.com", http, 308},
		{w, trusted, "example.com", "", 308},
		{w, trusted, "other.example", https, 404},
		{w, untrusted, "example.com", https, 421},
		{w, untrusted, "example.com", http + https, 421},
		{w, untrusted, "example.com", http, 308},
		{w, untrusted, "example.com", "X_Forwarded_Proto: https\r\n", 308},
		{w, untrusted, "example.com", "", 308},
		{w, untrusted, "other.example", https, 404},
		{nobody, trusted, "example.com", https, 421},
		{nobody, trusted, "example.com", "", 308},
		{everybody, untrusted, "example.com", https, 200},
		{everybody, untrusted, "example.com", "", 308},
	} {
		r := tt.world.clientFrom(tt.source).do("GET", tt.host, "/", tt.headers)
		require.Equal(t, tt.want, r.StatusCode, "%s %s %q", tt.source, tt.host, tt.headers)
		if tt.want == 200 {
			require.Equal(t, "[https]", strings.ToLower(r.Header.Get("Got-X-Forwarded-Proto")))
		}
	}
}

// TestForwardedByProxies requires that services get the X-Forwarded headers of trusted proxies
// only.
func TestForwardedByProxies(t *testing.T) {
	t.Parallel()
	w := proxiesWorld(t, edge.Edge{}, "127.1.0.0/16")
	const sent = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Host: evil.example\r\nForwarded: for=192.0.2.3\r\n"
	for _, tt := range []struct{ source, headers, addresses, proto string }{
		{trusted, sent, "[192.0.2.1 192.0.2.2 127.1.0.1]", "[https]"},
		{trusted, "", "[127.1.0.1]", "[http]"},
		{untrusted, sent, "[127.2.0.1]", "[http]"},
		{untrusted, "", "[127.2.0.1]", "[http]"},
	} {
		r := w.clientFrom(tt.source).do("GET", "example.com", "/", tt.headers)
		require.Equal(t, http.StatusOK, r.StatusCode)
		require.Equal(t, tt.addresses, r.Header.Get("Got-X-Forwarded-For"), tt.source)
		require.Equal(t, tt.proto, r.Header.Get("Got-X-Forwarded-Proto"), tt.source)
		require.Equal(t, "[]", r.Header.Get("Got-X-Forwarded-Host"), tt.source)
		require.Equal(t, "[]", r.Header.Get("Got-Forwarded"), tt.source)
	}
}

// TestHeadersOfProxies sends headers whose names resemble X-Forwarded-For and X-Forwarded-Proto,
// the two headers that HAProxy keeps from a trusted proxy. The service gets none of them.
func TestHeadersOfProxies(t *testing.T) {
	t.Parallel()
	c := echoEdge(t, netip.MustParsePrefix("127.0.0.1/32"))
	for _, word := range []string{"for", "proto"} {
		for i := range word {
			for _, name := range []string{word[:i], word[:i] + "x", word + word[i:], word[:i] + "x" + word[i+1:], word[:i+1] + "-x"} {
				if name == word {
					continue
				}
				name = "X-Forwarded-" + name
				got := mustRead(t, c.do("GET", "example.com", "/public", name+": 192.0.2.66\r\n"))
				require.Equal(t, "X_FORWARDED_FOR=127.0.0.1\nX_FORWARDED_PROTO=http\n", got, name)
			}
		}
	}
	got := mustRead(t, c.do("GET", "example.com", "/public", "X-Forwarded-For: 192.0.2.66\r\nX-Forwarded-Proto: https\r\n"))
	require.Equal(t, "X_FORWARDED_FOR=192.0.2.66,127.0.0.1\nX_FORWARDED_PROTO=https\n", got)
}

// TestProxyProtocolAddress connects with PROXY protocol headers. HAProxy compares the address in
// the header with the trusted networks, also in its IPv6 form.
func TestProxyProtocolAddress(t *testing.T) {
	t.Parallel()
	w := proxiesWorld(t, edge.Edge{RedirectHTTPS: &haproxycfg.HTTPSRedirect{}}, "192.0.2.0/24", "2001:db8::/32")
	address := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0])
	other := newWorld(t)
	other.upstreams, other.nodeAgent = w.upstreams, w.nodeAgent
	other.start(edge.Edge{
		HTTP:          []haproxycfg.Bind{{Address: address, AcceptProxy: true}},
		RedirectHTTPS: &haproxycfg.HTTPSRedirect{}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}, tableOf(t, route("example.com", "/", weighted{ref("eu-1", "web"), 100})))
	for header, want := range map[string]int{
		"TCP4 192.0.2.1 127.0.0.1 1 2":     200,
		"TCP4 198.51.100.1 127.0.0.1 1 2":  421,
		"TCP6 2001:db8::1 ::1 1 2":         200,
		"TCP6 2001:db9::1 ::1 1 2":         421,
		"TCP6 ::ffff:192.0.2.1 ::1 1 2":    200,
		"TCP6 ::ffff:198.51.100.1 ::1 1 2": 421,
		"UNKNOWN":                          421, // HAProxy compares the address of the connection
	} {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		_, err = io.WriteString(conn, "PROXY "+header+"\r\n")
		require.NoError(t, err)
		c := clientOn(t, conn)
		require.Equal(t, want, c.do("GET", "example.com", "/", "X-Forwarded-Proto: https\r\n").StatusCode, header)
	}
}

// TestObserveRedirects sends requests that HAProxy neither redirects nor serves without Observe.
// With Observe, HAProxy redirects and serves them, and counts them.
func TestObserveRedirects(t *testing.T) {
	t.Parallel()
	w := proxiesWorld(t, edge.Edge{Global: haproxycfg.Global{Observe: true}, RedirectHTTPS: &haproxycfg.HTTPSRedirect{}}, "127.1.0.0/16")
	const https = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n"
	want := w.observed()
	for _, tt := range []struct {
		source, host, headers string
		status                int
		reason                haproxycfg.Refusal
		addresses             string
	}{
		{untrusted, "example.com", "", 308, "", ""},
		{untrusted, "other.example", "", 308, haproxycfg.RefusedUndeclaredHost, ""},
		{untrusted, "example.com", https, 200, haproxycfg.RefusedUntrustedProxy, "[127.2.0.1]"},
		{untrusted, "other.example", https, 404, "", ""},
		{trusted, "example.com", https, 200, "", "[192.0.2.1 127.1.0.1]"},
		{trusted, "example.com", https + "X-Forwarded-Port: 443\r\n", 200, haproxycfg.RefusedClientHeader, "[192.0.2.1 127.1.0.1]"},
		{trusted, "example.com", https + "X-Real-IP: 192.0.2.1\r\n", 200, haproxycfg.RefusedClientHeader, "[192.0.2.1 127.1.0.1]"},
	} {
		r := w.clientFrom(tt.source).do("GET", tt.host, "/", tt.headers)
		require.Equal(t, tt.status, r.StatusCode, "%s %s %q", tt.source, tt.host, tt.headers)
		require.Equal(t, tt.addresses, r.Header.Get("Got-X-Forwarded-For"))
		if tt.reason != "" {
			want[tt.reason]++
		}
		require.Equal(t, want, w.observed(), "%s %s %q", tt.source, tt.host, tt.headers)
	}
}

// TestObserveServerNames connects with server names that strict-sni would refuse. With Observe,
// HAProxy shows the first certificate, as without strict-sni, and counts the requests.
func TestObserveServerNames(t *testing.T) {
	t.Parallel()
	w, _, _ := certificateWorld(t, haproxycfg.Global{Observe: true})
	want := w.observed()
	for _, tt := range []struct {
		server  string
		refused bool
	}{
		{"a.example.com", false},
		{"A.Example.COM", false},
		{"x.wild.example.com", false},
		{"example.net", false},
		{"c.example.com", false},
		{"", true},
		{"other.example", true},
		{"y.x.wild.example.com", true},
		{"wild.example.com", true},
	} {
		conn, err := tls.Dial("tcp", w.tlsAddress, &tls.Config{InsecureSkipVerify: true, ServerName: tt.server})
		require.NoError(t, err, tt.server)
		host := conn.ConnectionState().PeerCertificates[0].DNSNames[0]
		if tt.refused {
			require.Equal(t, "a.example.com", host, "the first certificate")
			want[haproxycfg.RefusedServerName]++
		}
		r := clientOn(t, conn).do("GET", strings.Replace(host, "*", "x", 1), "/", "")
		require.Equal(t, http.StatusOK, r.StatusCode, tt.server)
		require.Equal(t, want, w.observed(), tt.server)
	}
}

// TestObserveWithoutCertificates: HAProxy does not start without strict-sni if there is no
// certificate, so strict-sni stays.
func TestObserveWithoutCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	address := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0])
	w.start(edge.Edge{
		Global: haproxycfg.Global{Observe: true},
		HTTPS:  []haproxycfg.Bind{{Address: address, TLS: &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true}}},
	}, routes.Table{})
	_, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	require.Error(t, err)
}
