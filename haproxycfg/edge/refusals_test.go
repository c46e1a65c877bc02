package edge_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// echoEdge starts HAProxy with the host example.com. The service at /public answers with the
// headers of the request: one line for each name, with its values. In a name, "_" replaces each
// character other than letters and digits, as in a CGI program. The line of a trailer begins with
// "trailer".
func echoEdge(t *testing.T, trusted ...netip.Prefix) *client {
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	address := serve(t, "127.0.0.1:0", func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			env := strings.Map(func(c rune) rune {
				if '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' {
					return c
				}
				return '_'
			}, strings.ToUpper(name))
			fmt.Fprintf(rw, "%s=%s\n", env, strings.Join(r.Header[name], ","))
		}
		for name, values := range r.Trailer {
			fmt.Fprintf(rw, "trailer %s=%s\n", name, strings.Join(values, ","))
		}
	})
	public := ref("eu-1", "public")
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: public, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
	w.start(edge.Edge{TrustedProxies: trusted}, tableOf(t, route("example.com", "/public", weighted{public, 100})))
	return newClient(t, w.frontend)
}

// TestDotSegments sends paths that some server could resolve to a path above the declared one. Each
// gets status 400. Similar paths without a dot segment get an answer of the service.
func TestDotSegments(t *testing.T) {
	t.Parallel()
	c := echoEdge(t)
	for _, below := range []string{
		"..", ".", "../", "./x", "../admin", "x/../../admin", "/../../admin", "x/..", "x/./y",
		"%2e", "%2e%2e/admin", "%2E%2E/admin", ".%2e/admin", "%2e./admin",
		"..%2fadmin", "%2e%2e%2fadmin", "%2F..%2Fadmin", "x%2f..%2f..%2fadmin",
		`..\admin`, `..%5cadmin`, `x\..\..\admin`, `x%5C..`,
		"..;/admin", "..;a=b/admin", "..;", "%2e%2e;/admin", "..%3b/admin", "..%3Ba=b/admin",
		"%252e%252e/admin", "..%252fadmin", "..%255cadmin", "%25252e%25252e/admin", "%2525252e./admin", "..%253bx/admin",
		"%25%32%65%25%32%65/admin", "%25%32e./admin", "%%32%65%%32%65/admin",
		"..%00/admin", "..%3f", "..%23x", "..%2500",
		"%c0%ae%c0%ae/admin", "%C0%AE./admin", "%e0%80%ae%e0%80%ae/admin", "..%c0%afadmin", "..%c1%9cadmin", "..%e0%80%afadmin",
		"%u002e%u002e/admin", "..%u002fadmin", "%25c0%25ae./admin",
		"%2e%2e/admin%", "%2e%2e/admin%zz", "../%2", "%zz/%25%32%65%25%32%65/admin", // for these paths, url_dec has no result
		"%f0%80%80%ae./admin", "%uff0e%uff0e/admin", "..%u2215admin", "%ef%bc%8e%ef%bc%8e/admin", "..%ef%bc%8fadmin", "..%e2%88%95admin",
		".%09./admin", "%0a..%0D/admin", "..%250a", ".%25%30%39./admin", "%2e%%30%64%2e/admin", "%zz/.%25%30%61./admin",
		"%zz/..%25%33%62/admin", "%zz/..%%33%46", "%zz/..%25%32%33x", "%zz/..%25%30%30", strings.Repeat("%09", 2000) + "../admin",
		"../" + strings.Repeat("%25", 4000), strings.Repeat("%25", 4000) + "/../x", strings.Repeat("a/", 4000) + "..",
		"%" + strings.Repeat("25", 3000) + "/..",
	} {
		for _, target := range []string{"/public/" + below, "http://example.com/public/" + below, "/public/" + below + "?q"} {
			r := c.do("GET", "example.com", target, "")
			require.Equal(t, http.StatusBadRequest, r.StatusCode, "%.80s", target)
			require.Contains(t, mustRead(t, r), "sent an invalid request", "%.80s: the service has refused the path, not HAProxy", target)
		}
		for _, exact := range []bool{false, true} { // HAProxy would never serve a declaration of this path
			_, problems := routes.New(with(route("example.com", "/public/"+below, weighted{ref("eu-1", "public"), 100}), func(r *routes.Route) { r.Exact = exact }))
			require.NotEmpty(t, problems, "%.80s", below)
		}
	}
	for _, target := range []string{"/..", "/../public", "/%2e%2e/public", "/./public", `/\../public`, "http://example.com/../public"} {
		require.Equal(t, http.StatusBadRequest, c.do("GET", "example.com", target, "").StatusCode, target)
	}
	for _, below := range []string{
		"", "x", "...", ".../x", ".hidden", "..hidden", "x..", "x.", "a..b/c", ".well-known/x", "%2ehidden", "x%2e%2e", "..%20x",
		"a%2fb", "a%252fb", "a;b=c", "a..;/b", "50%25", "%2e%2e%2e", "..x/%2f", "?x=/../y", "x?/..", "a+b/..c", "%c3%a4",
	} {
		require.Equal(t, http.StatusOK, c.do("GET", "example.com", "/public/"+below, "").StatusCode, below)
		_, problems := routes.New(route("example.com", "/public/"+below, weighted{ref("eu-1", "public"), 100}))
		for _, p := range problems {
			require.NotContains(t, p.Message, "400", below)
		}
	}
}

// TestInvalidHosts sends hosts that are no host names. No wildcard covers them. Otherwise HAProxy
// would redirect clients to hosts that nobody has declared, such as "evil" in "evil/x.example.com".
func TestInvalidHosts(t *testing.T) {
	t.Parallel()
	address := serve(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) {})
	service := ref("eu-1", "service")
	for _, redirect := range []*haproxycfg.HTTPSRedirect{nil, {}} {
		w := newWorld(t)
		startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
		w.upstreams = append(w.upstreams, edge.Upstream{Ref: service, NodePort: netip.MustParseAddrPort(address).Port(), Nodes: []edge.Node{node(1)}})
		w.start(edge.Edge{RedirectHTTPS: redirect}, tableOf(t, route("*.example.com", "/", weighted{service, 100})))
		c := newClient(t, w.frontend)
		want := map[bool]int{true: http.StatusPermanentRedirect, false: http.StatusOK}[redirect != nil]
		for _, host := range []string{
			"x.example.com", "X.Example.COM.:80", "a_b.example.com", "_a-b_.example.com", strings.Repeat("a", 63) + ".example.com",
			"x.example.com:", "x.example.com:1", "x.example.com:0080", "x.example.com:65535", "x.example.com:10000",
		} {
			require.Equal(t, want, c.do("GET", host, "/", "").StatusCode, host)
		}
		invalid := []string{
			"evil/x.example.com", "evil?.example.com", "evil#.example.com", `evil\x.example.com`, "user@x.example.com", "[2001:db8::66]/.example.com",
			"[2001:db8::66].example.com", "x:80.example.com", "a b.example.com", "'<b>.example.com", "*.example.com", "%41.example.com", "\u00e4.example.com",
			"x.example.com/", "x.example.com,x.example.com", ".example.com", "-.example.com", "-a.example.com", "a-.example.com", strings.Repeat("a", 64) + ".example.com",
		}
		for _, port := range []string{"0", "00", "65536", "65540", "65600", "66000", "70000", "99999", "100000", "0065536", "99999999", strings.Repeat("9", 400)} {
			invalid = append(invalid, "x.example.com:"+port, "x.example.com.:"+port)
		}
		// HAProxy 2.6 permits control characters in headers. A server in C reads the host only up to a NUL.
		for c := range 0x100 {
			if b := string([]byte{byte(c)}); b != "\n" && (c <= ' ' || c >= 0x7f) {
				invalid = append(invalid, "x"+b+"y.example.com", "evil"+b+".example.com", "x.example.com"+b+"evil", "x.example.com:80"+b+"0")
			}
		}
		for _, host := range invalid {
			// Some versions of HAProxy answer 400 themselves to some of these hosts.
			require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, c.do("GET", host, "/", "").StatusCode, "%q", host)
		}
	}
}

// TestPathBytes sends paths with bytes that RFC 3986 does not permit in a path. HTTP/2 can transport
// them.
func TestPathBytes(t *testing.T) {
	t.Parallel()
	c := echoEdge(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	get := func(path string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.addr, http.NoBody)
		require.NoError(t, err)
		r.Host, r.URL.Opaque = "example.com", path
		response, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, 2, response.ProtoMajor)
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, get("/public/x"))
	for _, path := range []string{"/public/\xc0\xae\xc0\xae/admin", "/public/..\xc0\xafadmin", "/public/\xff", "/public/\uff0e\uff0e/admin", "/public/\u00e4"} {
		require.Equal(t, http.StatusBadRequest, get(path), "%q", path)
	}
}

// TestClientHeaders sends headers by which a client could pretend to be another client. The service
// gets only the headers that HAProxy has set.
func TestClientHeaders(t *testing.T) {
	t.Parallel()
	c := echoEdge(t)
	const own = "X_FORWARDED_FOR=127.0.0.1\nX_FORWARDED_PROTO=http\n"
	got := func(headers string) string {
		r := c.do("GET", "example.com", "/public", headers)
		require.Equal(t, http.StatusOK, r.StatusCode, headers)
		return mustRead(t, r)
	}
	for _, name := range []string{
		"X-Forwarded-For", "X_Forwarded_For", "x-forwarded_for", "X.Forwarded.For", "X~Forwarded-For", "X!Forwarded-For", "X_Forwarded_Proto",
		"X_Forwarded_Host", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Ssl",
		"X-Forwarded-Server", "X-Forwarded-By", "X-Forwarded-Client-Cert", "X-Forwarded-User", "X-Forwarded", "Forwarded", "Forwarded-For",
		"X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "WL-Proxy-Client-IP", "CF-Connecting-IP",
		"Fastly-Client-IP", "Fly-Client-IP", "X-Sucuri-ClientIP", "DO-Connecting-IP", "X-Nf-Client-Connection-Ip", "X-Vercel-Forwarded-For",
		"Client-Cert", "Client-Cert-Chain", "X-Amzn-Mtls-Clientcert", "CloudFront-Viewer-Address", "X-Remote-Addr", "X-Originating-IP", "X-Envoy-External-Address", "X-Azure-ClientIP", "X-ProxyUser-Ip",
		"X-Original-URL", "X-Original-Host", "X-Original-Forwarded-For", "X-Rewrite-URL", "X-Host", "X-Url-Scheme", "Front-End-Https",
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Proxy", "Proxy_", "X-Accel-Mapping", "X-Sendfile-Type", "Remote_User",
	} {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			require.Equal(t, own, got(n+": 192.0.2.66\r\n"+n+": 192.0.2.67\r\n"), n)
		}
	}
	for _, connection := range []string{
		"X-Forwarded-For", "X-Forwarded-For, X-Forwarded-Proto", "X-Forwarded-For, close", "keep-alive, x-forwarded-proto", "Host", "TE",
	} {
		require.Equal(t, own, got("Connection: "+connection+"\r\n"), connection)
	}
	require.Equal(t, own, got("Connection: X-Forwarded-For\r\nConnection: X-Forwarded-Proto\r\n"))
	// Other headers pass.
	for _, name := range []string{"Accept", "Authorization", "Cookie", "X-Request-Id", "X-Api-Key", "X-Client-Version", "Sec-Fetch-Site", "Via", "Origin"} {
		want := strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "=a b\n"
		require.Contains(t, got(name+": a b\r\n"), want)
	}
}

// TestTrailers sends a trailer that has the name of a header that HAProxy sets. HAProxy removes it
// from version 3.2 on. Earlier versions have no such option, so they pass trailers on.
func TestTrailers(t *testing.T) {
	t.Parallel()
	c := echoEdge(t)
	const chunked = "Host: example.com\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n"
	r := c.raw("POST /public HTTP/1.1\r\n" + chunked + "1\r\nx\r\n0\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n")
	require.Equal(t, http.StatusOK, r.StatusCode)
	const passed = "trailer X-Forwarded-For=192.0.2.66\n"
	if configtest.Version(t).AtLeast(3, 2) {
		require.NotContains(t, mustRead(t, r), "192.0.2.66")
	} else {
		require.Contains(t, mustRead(t, r), passed)
	}
}

// TestUpgrades requires that a client can upgrade to a WebSocket and to no other protocol. After an
// upgrade to HTTP/2, a client could send the server requests that no route covers.
func TestUpgrades(t *testing.T) {
	t.Parallel()
	c := echoEdge(t)
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
	got := func(headers string) string {
		r := c.do("GET", "example.com", "/public", headers+key)
		require.Equal(t, http.StatusOK, r.StatusCode, headers)
		var kept []string
		for line := range strings.Lines(mustRead(t, r)) {
			name, _, _ := strings.Cut(line, "=")
			if name == "UPGRADE" || name == "CONNECTION" || name == "HTTP2_SETTINGS" {
				kept = append(kept, strings.TrimSpace(line))
			}
		}
		return strings.ToLower(strings.Join(kept, " "))
	}
	for _, upgrade := range []string{"websocket", "WebSocket", "h2c, websocket", "websocket, h2c", "foo,websocket"} {
		require.Equal(t, "connection=upgrade upgrade=websocket", got("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "+upgrade+"\r\n"), upgrade)
	}
	require.Equal(t, "connection=upgrade upgrade=websocket", got("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"))
	for _, upgrade := range []string{
		"h2c", "H2C", "h2", " h2c", "h2c;x", "h2c/1", "x, h2c", "TLS/1.0", "HTTP/2.0", "HTTP/3.0", "IRC/6.9", "connect-udp", "foo", "websocket/13",
		"websocket;x", "websocketx", "h2c\r\nUpgrade: h2",
	} {
		require.Empty(t, got("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "+upgrade+"\r\n"), upgrade)
	}
	require.Empty(t, got("Upgrade: websocket\r\n"), "Connection does not name Upgrade, so the client wants none")
	require.Empty(t, got("Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n"))
}
