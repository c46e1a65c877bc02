package edge_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// match returns the route for a request by comparing it with every route. It is a plain second
// implementation of the rules, and shares no code with routes.Table.Match.
func match(table routes.Table, host, path string) (routes.Route, bool) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return routes.Route{}, false // no host name, such as "*.example.com"
	}
	path, _, _ = strings.Cut(path, "?")
	declared := func(h string) bool {
		for _, r := range table.Routes() {
			if r.Host == h {
				return true
			}
		}
		return false
	}
	if !declared(host) {
		label, rest, _ := strings.Cut(host, ".")
		if label == "" {
			return routes.Route{}, false
		}
		host = "*." + rest
	}
	var best routes.Route
	found := false
	for _, r := range table.Routes() {
		if r.Host != host {
			continue
		}
		if r.Exact && r.Path == path {
			return r, true
		}
		prefix := strings.TrimSuffix(r.Path, "/") + "/"
		if !r.Exact && strings.HasPrefix(path+"/", prefix) && (!found || len(r.Path) > len(best.Path)) {
			best, found = r, true
		}
	}
	return best, found
}

// ask sends a request. The service of the route that the function "match" returns must answer the
// request.
func ask(t testing.TB, c *client, table routes.Table, host, path string) {
	t.Helper()
	want, wantStatus := "", http.StatusNotFound
	if r, ok := match(table, host, path); ok {
		want, wantStatus = r.Backends[0].Ref.String(), http.StatusOK
	}
	bare, _, _ := strings.Cut(path, "?")
	r, ok := table.Match(host, bare)
	require.Equal(t, want != "", ok, "Table.Match(%q, %q)", host, bare)
	require.True(t, !ok || r.Backends[0].Ref.String() == want, "Table.Match(%q, %q) = %v, want %s", host, bare, r, want)
	if strings.HasSuffix(bare, "/..") {
		want, wantStatus = "", http.StatusBadRequest
	}
	status, servedBy := c.get(host, path)
	require.Equal(t, fmt.Sprint(wantStatus, want), fmt.Sprint(status, servedBy), "host %q path %q", host, path)
}

// awkward are routes that a faulty router would confuse with each other. Each route has its own
// service, named by the index of the route.
var awkward = [...]struct {
	host, path string
	exact      bool
}{
	{"example.com", "/", false},
	{"example.com", "/api", false},
	{"example.com", "/api/v1", false},
	{"example.com", "/api/v1", true},
	{"example.com", "/api/v1/", true},
	{"example.com", "/apiary/x", false},
	{"example.com", "/%61pi", false},
	{"example.com", "/a(b),c'd;f=g&h$HOME", false},
	{"api.example.com", "/only", false}, // hides the wildcard
	{"*.example.com", "/", false},
	{"*.example.com", "/api", false},
	{"*.deep.example.com", "/x", false},
	{"exact.example.org", "/", true},
	{"exact.example.org", "/one", true},
	{"a.example.org", "/", false},
	{"aa.example.org", "/", false},
	{"xn--mnchen-3ya.example", "/stra%C3%9Fe", false},
	{"a-very-long-label-that-goes-to-the-limit-of-sixty-three-bytes-a.example.org", "/" + strings.Repeat("long/", 200) + "end", false},
}

func awkwardTable(t testing.TB) routes.Table {
	var rs []routes.Route
	for i, a := range awkward {
		rs = append(rs, with(route(a.host, a.path, weighted{ref("eu-1", "s"+strconv.Itoa(i)), 100}), func(r *routes.Route) { r.Exact = a.exact }))
	}
	table, problems := routes.New(rs...)
	require.Empty(t, problems)
	require.Len(t, table.Routes(), len(awkward))
	return table
}

// TestRoundTrip sends requests to a real HAProxy. It sends one for each declared host and path, and
// others for similar hosts and paths.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	table := awkwardTable(t)
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	for _, r := range table.Refs() {
		w.upstream(r, 0, 1)
	}
	w.start(edge.Edge{}, table)
	c := newClient(t, w.frontend)

	t.Run("declared", func(t *testing.T) {
		for i, r := range table.Routes() {
			host := strings.Replace(r.Host, "*", "any", 1)
			path := r.Path
			if i > 0 && !r.Exact && table.Routes()[i-1].Host == r.Host && table.Routes()[i-1].Path == path {
				path += "/below" // an exact route covers the path itself
			}
			status, servedBy := c.get(host, path)
			require.Equal(t, 200, status, r)
			require.Equal(t, r.Backends[0].Ref.String(), servedBy, "route %d: %s%s", i, r.Host, path)
		}
	})
	t.Run("near misses", func(t *testing.T) {
		asked := 0
		for _, r := range table.Routes() {
			host := strings.Replace(r.Host, "*", "any", 1)
			for _, h := range nearHosts(host) {
				for _, p := range nearPaths(r.Path) {
					ask(t, c, table, h, p)
					asked++
				}
			}
		}
		require.Greater(t, asked, 3000)
	})
	// These expectations are written by hand, so that they find faults in match too.
	for _, tt := range []struct{ name, host, path, want string }{
		{"root", "example.com", "/", "s0"},
		{"no segment", "example.com", "/apiary", "s0"},
		{"segment", "example.com", "/api/x", "s1"},
		{"trailing slash", "example.com", "/api/", "s1"},
		{"query", "example.com", "/api?x=/api/v1/x", "s1"},
		{"longest", "example.com", "/api/v1/x", "s2"},
		{"exact before prefix", "example.com", "/api/v1", "s3"},
		{"exact with slash", "example.com", "/api/v1/", "s4"},
		{"double slash is literal", "example.com", "//api", "s0"},
		{"double slash inside", "example.com", "/api//v1", "s1"},
		{"percent is literal", "example.com", "/%61pi/x", "s6"},
		{"upper-case path", "example.com", "/API", "s0"},
		{"upper-case host", "EXAMPLE.Com", "/api", "s1"},
		{"port", "example.com:8080", "/api", "s1"},
		{"empty port", "example.com:", "/api", "s1"},
		{"one dot", "example.com.", "/api", "s1"},
		{"dot and port", "example.com.:80", "/api", "s1"},
		{"two dots", "example.com..", "/api", ""},
		{"wildcard", "x.example.com", "/", "s9"},
		{"wildcard is one label", "y.x.example.com", "/", ""},
		{"wildcard is not no label", ".example.com", "/", ""},
		{"wildcard path", "x.example.com", "/api/y", "s10"},
		{"declared host hides wildcard", "api.example.com", "/api", ""},
		{"declared host has its own", "api.example.com", "/only/this", "s8"},
		{"deeper wildcard", "y.deep.example.com", "/x", "s11"},
		{"deeper wildcard, other path", "y.deep.example.com", "/y", ""},
		{"host of the deeper wildcard", "deep.example.com", "/x", "s9"},
		{"exact root", "exact.example.org", "/", "s12"},
		{"below exact root", "exact.example.org", "/two", ""},
		{"below exact", "exact.example.org", "/one/x", ""},
		{"host is no prefix", "a.example.or", "/", ""},
		{"host is no suffix", "ba.example.org", "/", ""},
		{"unknown", "example.net", "/", ""},
		{"address", "127.0.0.1", "/", ""},
		{"IPv6 address", "[::1]:80", "/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, servedBy := c.get(tt.host, tt.path)
			if tt.want == "" {
				require.Equal(t, 404, status, servedBy)
				return
			}
			require.Equal(t, ref("eu-1", tt.want).String(), servedBy)
		})
	}
	t.Run("absolute form", func(t *testing.T) {
		r := c.raw("GET http://example.com/api/v1/x?y HTTP/1.1\r\nHost: example.com\r\n\r\n")
		require.Equal(t, ref("eu-1", "s2").String(), r.Header.Get("X-Served-By"))
	})
	t.Run("absolute form without path", func(t *testing.T) {
		r := c.raw("GET http://example.com HTTP/1.1\r\nHost: example.com\r\n\r\n")
		require.Equal(t, ref("eu-1", "s0").String(), r.Header.Get("X-Served-By"), "it means / (RFC 9110, section 4.2.3)")
	})
	t.Run("no host", func(t *testing.T) {
		r := c.raw("GET /api HTTP/1.0\r\n\r\n")
		require.Equal(t, 404, r.StatusCode)
		require.Equal(t, "404 not found", mustRead(t, r))
	})
	t.Run("OPTIONS *", func(t *testing.T) {
		require.Equal(t, 404, c.do("OPTIONS", "example.com", "*", "").StatusCode)
	})
	t.Run("two values in one Host", func(t *testing.T) {
		// The rule must not use req.hdr: it would read two values, and route by the last one. The
		// body shows that HAProxy has answered, and not a service.
		for _, host := range []string{"example.net, example.com", "x,example.com", "example.com, exact.example.org"} {
			r := c.do("GET", host, "/", "")
			require.Empty(t, r.Header.Get("X-Served-By"), host)
			if r.StatusCode == 400 { // HAProxy 3.0 and later refuse such a request
				continue
			}
			require.Equal(t, 404, r.StatusCode, host)
			require.Equal(t, "404 not found", mustRead(t, r), host)
		}
	})
	t.Run("forwarded headers are ours", func(t *testing.T) {
		r := c.do("GET", "example.com", "/", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n")
		require.Equal(t, "[127.0.0.1]", r.Header.Get("Got-X-Forwarded-For"))
		require.Equal(t, "[http]", r.Header.Get("Got-X-Forwarded-Proto"))
		require.Equal(t, "[]", r.Header.Get("Got-X-Forwarded-Host"))
		require.Equal(t, "[]", r.Header.Get("Got-Forwarded"))
	})
}

// TestRoundTripOfLongestKeys routes by keys of the largest length that a map allows. The keys
// differ only in their last bytes.
func TestRoundTripOfLongestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	// Declared paths are shorter than a map allows, so the test replaces "LONG" in the maps.
	long := "/" + strings.Repeat("x", 2000-len("example.com")-len("/")-len("ba/")) // "ba/" is the longest suffix
	var declared []routes.Route
	for i, path := range []string{"/", long[:1000], "/LONG", "/LONGa", "/LONGb"} {
		r := ref("eu-1", "s"+strconv.Itoa(i))
		declared = append(declared, route("example.com", path, weighted{r, 100}))
		w.upstream(r, 0, 1)
	}
	exact := ref("eu-1", "exact")
	declared = append(declared, with(route("example.com", "/LONGba", weighted{exact, 100}), func(r *routes.Route) { r.Exact = true }))
	w.upstream(exact, 0, 1)
	config := w.config(edge.Edge{}, tableOf(t, declared...))
	for _, m := range config.Maps {
		for i := range m.Entries {
			m.Entries[i].Key = strings.Replace(m.Entries[i].Key, "/LONG", long, 1)
		}
	}
	w.run(config)
	c := newClient(t, w.frontend)
	for path, want := range map[string]string{
		"/": "s0", long[:999]: "s0", long[:1000]: "s1", long[:1000] + "/": "s1", long[:1900]: "s0",
		long: "s2", long + "/": "s2", long + "/x": "s2", long + "a": "s3", long + "a/x": "s3", long + "b": "s4", long + "c": "s0",
		long + "ba": "exact", long + "bb": "s0",
	} {
		status, servedBy := c.get("example.com", path)
		require.Equal(t, 200, status, len(path))
		require.Equal(t, ref("eu-1", want).String(), servedBy, "%d bytes, then %q", len(path), path[max(0, len(path)-4):])
	}
}

func nearHosts(host string) []string {
	first, rest, _ := strings.Cut(host, ".")
	return []string{
		host, strings.ToUpper(host), host + ".", host + "..", host + ":443", host + ".:8080", host + ":",
		"x." + host, "x" + host, host + "x", rest, "." + rest, first + "x." + rest, first, host[1:], "*." + rest,
	}
}

func nearPaths(path string) []string {
	paths := []string{
		path, path + "/", path + "//", path + "x", path + "/x", path + "/x/y", "/" + path, path + "?q=/api/v1", path + "/?q",
		strings.ToUpper(path), path + ";v=1", path + "/..", path + "%2F", strings.Replace(path, "a", "%61", 1), "/", "/x",
	}
	if up := path[:strings.LastIndexByte(path, '/')+1]; up != "/" {
		paths = append(paths, up, strings.TrimSuffix(up, "/"))
	}
	if len(path) > 2 {
		paths = append(paths, path[:len(path)-1])
	}
	return paths
}

// TestRoundTripRandom does the same as TestRoundTrip with random tables. Their hosts and paths
// consist of few different parts, so that many of them nearly match.
func TestRoundTripRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			pick := func(s ...string) string { return s[rng.IntN(len(s))] }
			randomHost := func() string {
				labels := make([]string, 1+rng.IntN(3))
				for i := range labels {
					labels[i] = pick("a", "b", "ab", "a-b")
				}
				return strings.Join(labels, ".") + "." + pick("com", "a.com")
			}
			randomPath := func() string {
				var p string
				for range rng.IntN(4) {
					p += "/" + pick("a", "b", "ab", "A", "%61", "a.b")
				}
				return p
			}
			w := newWorld(t)
			startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
			var rs []routes.Route
			seen := map[string]bool{}
			for len(rs) < 60 {
				r := route(randomHost(), cmp.Or(randomPath(), "/"), weighted{ref("eu-1", "s"+strconv.Itoa(len(rs))), 100})
				if rng.IntN(3) == 0 {
					_, rest, _ := strings.Cut(r.Host, ".")
					r.Host = "*." + rest
				}
				r.Exact = rng.IntN(4) == 0
				if key := fmt.Sprint(r.Host, r.Path, r.Exact); !seen[key] {
					seen[key] = true
					rs = append(rs, r)
				}
			}
			table, problems := routes.New(rs...)
			require.Empty(t, problems)
			for _, r := range table.Refs() {
				w.upstream(r, 0, 1)
			}
			w.start(edge.Edge{}, table)
			c := newClient(t, w.frontend)
			found := 0
			for range 1000 {
				host := pick("", "", "", "A.", "x.") + randomHost() + pick("", "", "", ".", ":80", ".:1")
				path := cmp.Or(randomPath()+pick("", "", "/", "//", "?q", "/a?b"), "/")
				if path[0] == '?' {
					path = "/" + path
				}
				ask(t, c, table, host, path)
				if _, ok := match(table, host, path); ok {
					found++
				}
			}
			require.Greater(t, found, 100, "only misses")
		})
	}
}

// TestRoundTripTLS sends requests over TLS and HTTP/2. HAProxy chooses the certificate by the
// server name. It redirects requests without TLS.
func TestRoundTripTLS(t *testing.T) {
	t.Parallel()
	table := awkwardTable(t)
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	for _, r := range table.Refs() {
		w.upstream(r, 0, 1)
	}
	certs := filepath.Join(w.dir, "certs")
	pool := x509.NewCertPool()
	pool.AddCert(configtest.WriteCertificate(t, certs, "example.com"))
	pool.AddCert(configtest.WriteCertificate(t, certs, "api.example.com"))
	port := haproxytest.Ports(t, 1)[0]
	w.start(edge.Edge{
		HTTPS:         []haproxycfg.Bind{{Address: "127.0.0.1:" + strconv.Itoa(port), TLS: &haproxycfg.TLS{Certificates: certs}}},
		RedirectHTTPS: &haproxycfg.HTTPSRedirect{Port: uint16(port)},
	}, table)

	for _, tt := range []struct{ host, path, want string }{
		{"example.com", "/api/v1/x", "s2"},
		{"EXAMPLE.com:8443", "/apiary", "s0"},
		{"api.example.com", "/only", "s8"},
		{"api.example.com", "/", ""},
	} {
		t.Run(tt.host+tt.path, func(t *testing.T) {
			name := strings.ToLower(strings.TrimSuffix(tt.host, ":8443"))
			transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+w.tlsAddress+tt.path, nil)
			require.NoError(t, err)
			req.Host = tt.host
			r, err := transport.RoundTrip(req)
			require.NoError(t, err)
			defer r.Body.Close()
			require.Equal(t, 2, r.ProtoMajor)
			require.Equal(t, name, r.TLS.PeerCertificates[0].Subject.CommonName)
			if tt.want == "" {
				require.Equal(t, 404, r.StatusCode)
				return
			}
			require.Equal(t, ref("eu-1", tt.want).String(), r.Header.Get("X-Served-By"))
			require.Equal(t, "[https]", r.Header.Get("Got-X-Forwarded-Proto"))
		})
	}
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		d := &tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}
		conn, err := d.DialContext(t.Context(), "tcp", w.tlsAddress)
		if err == nil {
			_ = conn.Close()
		}
		require.Error(t, err)
	})
	t.Run("redirection", func(t *testing.T) {
		c := newClient(t, w.frontend)
		for _, host := range []string{"evil.example", "127.0.0.1", "a.b.c.example.com"} {
			require.Equal(t, 404, c.do("GET", host, "/api/v1", "").StatusCode, "%s is not declared", host)
		}
		r := c.do("POST", "Example.com:80", "/api/v1?x=1", "Content-Length: 0\r\n")
		require.Equal(t, 308, r.StatusCode)
		require.Equal(t, fmt.Sprintf("https://example.com:%d/api/v1?x=1", port), r.Header.Get("Location"))
		require.Equal(t, 404, c.raw("GET /api HTTP/1.0\r\n\r\n").StatusCode)
	})
}

// TestUnavailable requires status 503, not 404, for a declared route without servers.
func TestUnavailable(t *testing.T) {
	w := newWorld(t)
	w.frontend = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	table, problems := routes.New(route("example.com", "/", weighted{ref("eu-1", "gone"), 100}))
	require.Empty(t, problems)
	e := edge.Edge{HTTP: []haproxycfg.Bind{{Address: w.frontend}}, Global: haproxycfg.Global{StatsSocket: w.stats.Path}}
	config, problems := e.Config(table, nil)
	require.Len(t, problems, 1)
	w.run(config)
	status, _ := newClient(t, w.frontend).get("example.com", "/x")
	require.Equal(t, 503, status)
}

// TestAdminFrontend requests metrics and readiness, and requires 404 for other paths.
func TestAdminFrontend(t *testing.T) {
	w := newWorld(t)
	admin := "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
	w.start(edge.Edge{Admin: []haproxycfg.Bind{{Address: admin}}, Monitor: "/.well-known/ready"}, routes.Table{})
	c := newClient(t, admin)
	require.Equal(t, 200, c.do("GET", "x", "/ready", "").StatusCode)
	require.Contains(t, mustRead(t, c.do("GET", "x", "/metrics", "")), "haproxy_process_nbthread")
	require.Equal(t, 404, c.do("GET", "x", "/", "").StatusCode)
	require.Equal(t, 200, newClient(t, w.frontend).do("GET", "x", "/.well-known/ready", "").StatusCode)
}

// TestQuotingReachesHAProxy renders a body with special characters. HAProxy sends exactly this
// body.
func TestQuotingReachesHAProxy(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for c := rune(' '); c < 0x7f; c++ {
		b.WriteRune(c)
	}
	for _, body := range []string{b.String(), "'", "''''", `\`, `\n`, `"$HOME" ${HOME} %[src] # %% `, "\t tab", "grüße 你好"} {
		t.Run(body, func(t *testing.T) {
			w := newWorld(t)
			w.frontend = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0])
			w.run(&haproxycfg.Config{
				Global:    haproxycfg.Global{StatsSocket: w.stats.Path},
				Frontends: []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: w.frontend}}, DefaultBackend: "b"}},
				Backends:  []haproxycfg.Backend{{Name: "b", Response: &haproxycfg.FixedResponse{Status: 200, Body: body}}},
			})
			require.Equal(t, body, mustRead(t, newClient(t, w.frontend).do("GET", "x", "/", "")))
		})
	}
}
