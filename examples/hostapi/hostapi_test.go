package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

const someHosts = `[
	{"app": "A Simple App", "host": "a.com", "endpoint": "10.0.0.24"},
	{"app": "Shops", "host": "*.shop.example.com", "endpoint": "10.0.0.25:8443"},
	{"app": "One Shop", "host": "one.shop.example.com", "endpoint": "10.0.0.26"}
]`

func TestHosts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.json")
	replace(t, file, someHosts)
	p := start(t, "-hosts", file, "-max-age", "1m")

	tests := []struct {
		path, want string
		code       int
	}{
		{"/hosts/a.com", `{"app":"A Simple App","host":"a.com","endpoint":"10.0.0.24"}`, 200},
		{"/hosts/A.Com.", `{"app":"A Simple App","host":"a.com","endpoint":"10.0.0.24"}`, 200},
		{"/hosts/x.shop.example.com", `{"app":"Shops","host":"*.shop.example.com","endpoint":"10.0.0.25:8443"}`, 200},
		{"/hosts/one.shop.example.com", `{"app":"One Shop","host":"one.shop.example.com","endpoint":"10.0.0.26"}`, 200},
		{"/hosts/x.y.shop.example.com", `{"error":"host not found","host":"x.y.shop.example.com"}`, 404},
		{"/hosts/shop.example.com", `{"error":"host not found","host":"shop.example.com"}`, 404},
		{"/hosts/10.0.0.1", `{"error":"no host has such a name","host":"10.0.0.1"}`, 404},
		{"/hosts/a%2Fb%22%3Cb%3E", `{"error":"no host has such a name","host":"a/b\"\u003cb\u003e"}`, 404},
		{"/host/a.com", `{"error":"there are GET /hosts/{host} and GET /changes"}`, 400},
		{"/hosts/", `{"error":"there are GET /hosts/{host} and GET /changes"}`, 400},
		{"/changes?since=v&wait=soon", `{"error":"wait: want whole seconds"}`, 400},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			resp, body := p.get(tt.path)
			require.Equal(t, tt.code, resp.StatusCode)
			require.Equal(t, tt.want+"\n", body)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			if tt.code != 400 {
				require.Equal(t, map[int]string{200: "max-age=60", 404: "max-age=5"}[tt.code], resp.Header.Get("Cache-Control"))
			}
		})
	}

	resp, _ := p.get("/hosts/a.com")
	tag := resp.Header.Get("ETag")
	require.Regexp(t, `^"[0-9a-f]{16}"$`, tag)
	for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		resp, body := p.get("/hosts/a.com", "If-None-Match", header)
		require.Equal(t, 304, resp.StatusCode, header)
		require.Empty(t, body)
		require.Equal(t, "max-age=60", resp.Header.Get("Cache-Control"))
	}
	resp, _ = p.get("/hosts/one.shop.example.com", "If-None-Match", tag)
	require.Equal(t, 200, resp.StatusCode)
	resp, err := http.Head("http://" + p.addr + "/hosts/a.com")
	require.NoError(t, err)
	require.Equal(t, tag, resp.Header.Get("ETag"))
	resp, err = http.Post("http://"+p.addr+"/hosts/a.com", "text/plain", strings.NewReader("hello"))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 413, resp.StatusCode)
	require.True(t, resp.Close, "the body is not read")

	require.Contains(t, p.metrics(), `headgate_hostapi_requests_total{code="200",method="head",route="hosts"} 1`)
	require.Contains(t, p.metrics(), "headgate_hostapi_hosts 3")
	clitest.Scrape(t, p.metrics())

	// hostapi follows a change. It ignores a file that is not JSON, and leaves out a malformed
	// entry.
	replace(t, file, strings.ReplaceAll(someHosts, "10.0.0.24", "10.0.0.99"))
	p.eventually(func() bool { return p.endpoint("a.com") == "10.0.0.99" })
	resp, _ = p.get("/hosts/a.com", "If-None-Match", tag)
	require.Equal(t, 200, resp.StatusCode)
	replace(t, file, someHosts[:40])
	p.eventually(func() bool { return strings.Contains(p.metrics(), `headgate_hostapi_problems{source="hosts"} 1`) })
	require.Equal(t, "10.0.0.99", p.endpoint("a.com"))
	replace(t, file, `[{"host": "a.com", "endpoint": "10.0.0.1"}, {"host": "b.com", "endpoint": "10.0.0"}]`)
	p.eventually(func() bool { return p.endpoint("a.com") == "10.0.0.1" })
	require.Empty(t, p.endpoint("b.com"))
	require.Contains(t, p.stderr.String(), "hosts.json:1: entry 1: endpoint: ")
}

// A cache with a feed of changes applies each change at once. While the API is down, the cache
// serves known hosts. After a restart of the API, the cache does not ask about these hosts again.
func TestRouterFollowsChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.json")
	replace(t, file, someHosts)
	// Nobody else can listen on this port until the test ends.
	addr := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0])
	p := startAt(t, addr, "-hosts", file, "-max-age", "1h", "-negative-max-age", "1h")

	source := &httpapi.Client{URL: "http://" + p.addr + "/hosts/{host}"}
	cache := &hostlookup.Cache{Source: source}
	feed := &httpapi.Feed{URL: "http://" + p.addr + "/changes"}
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	broken := make(chan error, 100)
	go func() { followed <- cache.Follow(ctx, feed, func(err error) { broken <- err }) }()
	defer func() {
		cancel()
		require.ErrorIs(t, <-followed, context.Canceled)
		require.NoError(t, cache.Close())
		source.CloseIdleConnections()
		feed.CloseIdleConnections()
	}()
	look := func(host string) string {
		ep, err := cache.LookupHost(ctx, host)
		if err != nil {
			return err.Error()
		}
		return ep.Addr
	}
	waiting := func(p *process) func() bool {
		return func() bool { return strings.Contains(p.metrics(), "headgate_hostapi_followers 1") }
	}
	p.eventually(waiting(p))
	require.Equal(t, "10.0.0.24", look("a.com"))
	require.Equal(t, "10.0.0.25:8443", look("x.shop.example.com"))
	require.Equal(t, hostlookup.ErrNotFound.Error(), look("new.com"))

	replace(t, file, `[
		{"app": "A Simple App", "host": "a.com", "endpoint": "10.0.0.30"},
		{"app": "Shops", "host": "*.shop.example.com", "endpoint": "10.0.0.31"},
		{"app": "New", "host": "new.com", "endpoint": "10.0.0.32"}]`)
	p.eventually(func() bool { return look("new.com") == "10.0.0.32" && look("x.shop.example.com") == "10.0.0.31" })
	p.eventually(func() bool { return look("a.com") == "10.0.0.30" && look("one.shop.example.com") == "10.0.0.31" })

	p.eventually(waiting(p))
	p.stop() // answers the request that waits
	require.ErrorContains(t, <-broken, "httpapi: feed")
	require.Equal(t, "10.0.0.30", look("a.com"))
	p = startAt(t, addr, "-hosts", file, "-max-age", "1h")
	p.eventually(waiting(p))
	calls := cache.Stats().Calls
	require.Equal(t, "10.0.0.30", look("a.com"))
	require.Equal(t, calls, cache.Stats().Calls, "equal hosts have the same version in another process")
}

func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.json")
	replace(t, file, someHosts)
	p := start(t, "-hosts", file, "-max-waiting", "1")
	var version string
	_, body := p.get("/changes")
	require.NoError(t, scan(body, `{"version":"%16s","reset":true}`, &version))
	_, body = p.get("/changes?since=" + version + "&wait=0")
	require.Equal(t, `{"version":"`+version+`"}`+"\n", body)
	_, body = p.get("/changes?since=" + version + "&wait=1")
	require.Equal(t, `{"version":"`+version+`"}`+"\n", body)

	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + p.addr + "/changes?since=" + version)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- fmt.Sprint(string(body), err)
	}()
	p.eventually(func() bool { return strings.Contains(p.metrics(), "headgate_hostapi_followers 1") })
	resp, body := p.get("/changes?since=" + version)
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Equal(t, `{"error":"too many requests wait for changes"}`+"\n", body)

	replace(t, file, strings.Replace(someHosts, "10.0.0.24", "10.0.0.99", 1))
	require.Regexp(t, `^{"version":"[0-9a-f]{16}","changes":\[{"host":"a.com","app":"A Simple App","endpoint":"10.0.0.99","max_age":30}\]}\n<nil>$`, <-answered)
}

func scan(text, format string, version *string) error {
	_, err := fmt.Sscanf(text, format, version)
	return err
}

func TestDeclaredInClusters(t *testing.T) {
	dir := t.TempDir()
	declarations := filepath.Join(dir, "routes.yaml")
	service := func(cluster, annotations string) {
		replace(t, filepath.Join(dir, cluster, "services.yaml"),
			"apiVersion: v1\nkind: Service\nmetadata: {namespace: media, name: tracks, annotations: {"+annotations+"}}\nspec: {type: NodePort}\n")
	}
	service("eu-1", "")
	service("eu-2", "")
	replace(t, declarations, `routes:
- host: api.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
`)
	hosts := filepath.Join(dir, "hosts.json")
	replace(t, hosts, `[{"host": "pinned.example.com", "endpoint": "10.0.9.9"}]`)
	p := start(t, "-routes", declarations, "-hosts", hosts,
		"-endpoint", "eu-1=10.0.0.24", "-endpoint", "eu-2=10.0.1.24:8443",
		"-cluster", "eu-1=dir:"+filepath.Join(dir, "eu-1"), "-cluster", "eu-2=dir:"+filepath.Join(dir, "eu-2"))
	_, body := p.get("/hosts/api.example.com")
	require.Equal(t, `{"app":"media/tracks","host":"api.example.com","endpoint":"10.0.0.24"}`+"\n", body)
	require.Equal(t, "10.0.9.9", p.endpoint("pinned.example.com"))

	service("eu-1", `headgate.dev/drain: "true"`)
	p.eventually(func() bool { return p.endpoint("api.example.com") == "10.0.1.24:8443" })
	service("eu-1", `headgate.dev/weight: "80"`)
	p.eventually(func() bool { return p.endpoint("api.example.com") == "10.0.0.24" })

	// The hosts file has precedence over the declarations. Declarations that are not YAML change
	// nothing.
	replace(t, declarations, `routes:
- host: pinned.example.com
  backends: [{cluster: eu-1, namespace: media, service: tracks, port: http}]
- host: api.example.com
  backends: [{cluster: eu-2, namespace: media, service: tracks, port: http}]
`)
	p.eventually(func() bool { return p.endpoint("api.example.com") == "10.0.1.24:8443" })
	require.Equal(t, "10.0.9.9", p.endpoint("pinned.example.com"))
	replace(t, declarations, "routes: [")
	p.eventually(func() bool { return strings.Contains(p.metrics(), `headgate_hostapi_problems{source="routes"} 1`) })
	require.Equal(t, "10.0.1.24:8443", p.endpoint("api.example.com"))
	require.NoError(t, os.Remove(declarations))
	p.eventually(func() bool {
		return strings.Contains(p.stderr.String(), "no such file or directory; what the file declared before is kept")
	})
	require.Equal(t, "10.0.1.24:8443", p.endpoint("api.example.com"))
}

func TestTooManyHostsRemoved(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.json")
	list := func(n int) string {
		var entries []string
		for i := range n {
			entries = append(entries, fmt.Sprintf(`{"host": "h%d.com", "endpoint": "10.0.0.1"}`, i))
		}
		return "[" + strings.Join(entries, ",") + "]"
	}
	replace(t, file, list(40))
	p := start(t, "-hosts", file)
	replace(t, file, list(10))
	p.eventually(func() bool {
		return strings.Contains(p.stderr.String(), "30 of 40 hosts would be removed at once, h10.com first; at most 50% may be")
	})
	require.Equal(t, "10.0.0.1", p.endpoint("h39.com"))
	p.eventually(func() bool { return strings.Contains(p.metrics(), "headgate_hostapi_change_refused 1") })
	replace(t, file, list(20))
	p.eventually(func() bool { return p.endpoint("h39.com") == "" })
	p.eventually(func() bool { return strings.Contains(p.metrics(), "headgate_hostapi_host_changes_total 20") })
	p.eventually(func() bool { return strings.Contains(p.metrics(), "headgate_hostapi_change_refused 0") })
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	hosts, token := filepath.Join(dir, "hosts.json"), filepath.Join(dir, "token")
	replace(t, hosts, someHosts)
	replace(t, token, "secret\n")
	p := start(t, "-hosts", hosts, "-token-file", token)
	for header, want := range map[string]int{"Bearer secret": 200, "bearer  secret": 200, "": 401, "Bearer": 401, "Bearer secre": 401, "Basic secret": 401} {
		resp, body := p.get("/hosts/a.com", "Authorization", header)
		require.Equal(t, want, resp.StatusCode, header)
		if want == 401 {
			require.Equal(t, `Bearer realm="headgate"`, resp.Header.Get("WWW-Authenticate"))
			require.NotContains(t, body, "10.0.0.24")
		}
	}
	replace(t, token, "renewed\n")
	resp, _ := p.get("/changes", "Authorization", "Bearer renewed")
	require.Equal(t, 200, resp.StatusCode)
}

// certificates writes a certificate for 127.0.0.1 that is its own authority, and its key.
func certificates(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	pair := testcert.New("127.0.0.1")
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(t, cert, string(pair.PEM()))
	replace(t, key, string(pair.KeyPEM()))
	return cert, cert, key
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts.json")
	replace(t, hosts, someHosts)
	ca, cert, key := certificates(t, dir)
	p := start(t, "-hosts", hosts, "-certificate", cert, "-key", key, "-client-ca", ca)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	pemData, err := os.ReadFile(ca)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pemData))

	source := &httpapi.Client{URL: "https://" + p.addr + "/hosts/{host}", TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	defer source.CloseIdleConnections()
	ep, err := source.LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.24", ep.Addr)
	require.Contains(t, p.metrics(), `headgate_hostapi_certificate_expiry_timestamp_seconds{file="`+cert+`"} `)
	stranger := &httpapi.Client{URL: source.URL, TLS: &tls.Config{RootCAs: roots}}
	_, err = stranger.LookupHost(t.Context(), "a.com")
	require.Error(t, err) // a TLS alert, or the error of a closed connection
	require.NotErrorIs(t, err, hostlookup.ErrNotFound)
}

// Programs replace the file of the certificate and the file of the key one after the other. Between
// the two replacements, the API uses the last good pair.
func TestCertificateWhileItIsReplaced(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	hosts := filepath.Join(dir, "hosts.json")
	replace(t, hosts, someHosts)
	_, cert, key := certificates(t, dir)
	_, nextCert, nextKey := certificates(t, next)
	p := start(t, "-hosts", hosts, "-certificate", cert, "-key", key)
	served := func() string {
		conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer conn.Close()
		return string(conn.ConnectionState().PeerCertificates[0].Raw)
	}
	read := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	first := served()
	faults := func() int { return strings.Count(p.stderr.String(), "the last good certificate stays") }
	for i, step := range []func(){
		func() { replace(t, cert, read(nextCert)) },         // the key is still the old one
		func() { require.NoError(t, os.Truncate(cert, 0)) }, // somebody writes it
		func() { require.NoError(t, os.Remove(cert)) },
		func() { require.NoError(t, os.Mkdir(cert, 0o700)) },
	} {
		step()
		require.Equal(t, first, served())
		require.Equal(t, first, served())
		require.Equal(t, i+1, faults(), "each fault is logged once: %s", p.stderr)
	}
	require.NoError(t, os.Remove(cert))
	replace(t, cert, read(nextCert))
	replace(t, key, read(nextKey))
	require.NotEqual(t, first, served(), "the new pair is complete")
	require.Contains(t, p.stderr.String(), "certificate read")
}

// A new file of -client-ca takes effect at the next handshake. If the file no longer contains the
// authority of a client, the client cannot resume its session. A broken file changes nothing.
func TestClientAuthoritiesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	hosts, authorities := filepath.Join(dir, "hosts.json"), filepath.Join(dir, "clients.pem")
	replace(t, hosts, someHosts)
	firstCA, cert, key := certificates(t, t.TempDir())
	nextCA, nextCert, nextKey := certificates(t, t.TempDir())
	read := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	replace(t, authorities, read(firstCA))
	p := start(t, "-hosts", hosts, "-certificate", cert, "-key", key, "-client-ca", authorities)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(read(firstCA))))
	client := func(cert, key string) func() error {
		pair, err := tls.LoadX509KeyPair(cert, key)
		require.NoError(t, err)
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
			RootCAs: roots, Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		}}}
		return func() error {
			defer c.CloseIdleConnections()
			resp, err := c.Get("https://" + p.addr + "/hosts/a.com")
			if err == nil {
				resp.Body.Close()
				require.Equal(t, "HTTP/2.0", resp.Proto)
			}
			return err
		}
	}
	first, next := client(cert, key), client(nextCert, nextKey)
	require.NoError(t, first())
	require.NoError(t, first(), "with the session of the first connection")
	require.Error(t, next())
	replace(t, authorities, read(nextCA))
	require.NoError(t, next())
	require.Error(t, first())
	replace(t, authorities, "")
	require.NoError(t, next())
	require.Error(t, first())
	require.Contains(t, p.stderr.String(), authorities+": no certificate in it")
}

// At SIGHUP, hostapi reads its files again, and continues to run.
func TestHangup(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts.json")
	replace(t, hosts, someHosts)
	p := start(t, "-hosts", hosts)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), "reading the files again") }, time.Minute, 10*time.Millisecond)
	resp, _ := p.get("/hosts/a.com")
	require.Equal(t, 200, resp.StatusCode)
}

// While hostapi runs, its files become FIFOs, and nobody writes to the FIFOs. hostapi keeps its
// hosts, and still ends at SIGTERM.
func TestFilesThatBecomeFIFOs(t *testing.T) {
	dir := t.TempDir()
	hosts, routes := filepath.Join(dir, "hosts.json"), filepath.Join(dir, "routes.yaml")
	replace(t, hosts, someHosts)
	replace(t, routes, "routes: []\n")
	p := start(t, "-hosts", hosts, "-routes", routes, "-endpoint", "a=10.0.0.1")
	for _, file := range []string{hosts, routes} {
		require.NoError(t, os.Remove(file))
		require.NoError(t, syscall.Mkfifo(file, 0o600))
		p.eventually(func() bool {
			return strings.Contains(p.stderr.String(), filepath.Base(file)+": a FIFO, not a regular file")
		})
	}
	resp, _ := p.get("/hosts/a.com")
	require.Equal(t, 200, resp.StatusCode)
	p.stop()
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	hosts, declarations, empty := filepath.Join(dir, "hosts.json"), filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "empty")
	replace(t, hosts, someHosts)
	replace(t, declarations, "routes: []\n")
	replace(t, empty, "")
	missing := filepath.Join(dir, "missing")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	type testCase struct {
		name string
		args []string
		code int
		want string
	}
	tests := []testCase{
		{"nothing given", nil, cli.ExitUsage, "-hosts or -routes is needed"},
		{"no endpoint", []string{"-routes", declarations}, cli.ExitUsage, "-routes needs -endpoint"},
		{"endpoint without routes", []string{"-hosts", hosts, "-endpoint", "a=10.0.0.1"}, cli.ExitUsage, "are for -routes"},
		{"bad endpoint", []string{"-routes", declarations, "-endpoint", "a=10.0.0"}, cli.ExitUsage, "-endpoint: a: "},
		{"endpoint twice", []string{"-routes", declarations, "-endpoint", "a=10.0.0.1", "-endpoint", "a=10.0.0.2"}, cli.ExitUsage, "once for each cluster"},
		{"cluster without endpoint", []string{"-routes", declarations, "-endpoint", "a=10.0.0.1", "-cluster", "b=dir:" + dir}, cli.ExitUsage, "b has no -endpoint"},
		{"bad cluster", []string{"-routes", declarations, "-endpoint", "a=10.0.0.1", "-cluster", "a=" + dir}, cli.ExitUsage, "want NAME=dir:DIR"},
		{"half a key pair", []string{"-hosts", hosts, "-certificate", hosts}, cli.ExitUsage, "go together"},
		{"half seconds", []string{"-hosts", hosts, "-max-age", "1500ms"}, cli.ExitUsage, "want whole seconds"},
		{"no connections", []string{"-hosts", hosts, "-max-connections", "0"}, cli.ExitUsage, "must be 1 or more"},
		{"bad share", []string{"-hosts", hosts, "-max-removed", "half"}, cli.ExitUsage, "want a share"},
		{"no such hosts", []string{"-hosts", missing}, cli.ExitFailed, "missing"},
		{"hosts are no JSON", []string{"-hosts", declarations}, cli.ExitFailed, "routes.yaml"},
		{"no such routes", []string{"-routes", missing, "-endpoint", "a=10.0.0.1"}, cli.ExitFailed, "missing"},
		{"routes are none", []string{"-routes", empty, "-endpoint", "a=10.0.0.1"}, cli.ExitFailed, "empty"},
		{"no such cluster", []string{"-routes", declarations, "-endpoint", "a=10.0.0.1", "-cluster", "a=dir:" + missing}, cli.ExitFailed, "cluster a: "},
		{"empty token", []string{"-hosts", hosts, "-token-file", empty}, cli.ExitFailed, "empty"},
		{"no such certificate", []string{"-hosts", hosts, "-certificate", missing, "-key", missing}, cli.ExitFailed, "missing"},
		{"taken port", []string{"-hosts", hosts, "-listen", taken.Addr().String()}, cli.ExitFailed, "address already in use"},
		{"taken admin port", []string{"-hosts", hosts, "-admin", taken.Addr().String()}, cli.ExitFailed, "address already in use"},
	}
	fifo, huge := filepath.Join(dir, "fifo"), filepath.Join(dir, "huge")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	replace(t, huge, "")
	require.NoError(t, os.Truncate(huge, 1<<40))
	_, certificate, key := certificates(t, dir)
	for _, tt := range []testCase{
		{"-hosts", nil, cli.ExitFailed, ""},
		{"-routes", []string{"-endpoint", "a=10.0.0.1"}, cli.ExitFailed, ""},
		{"-config", nil, cli.ExitUsage, ""},
		{"-token-file", []string{"-hosts", hosts}, cli.ExitFailed, ""},
		{"-certificate", []string{"-hosts", hosts, "-key", key}, cli.ExitFailed, ""},
		{"-key", []string{"-hosts", hosts, "-certificate", certificate}, cli.ExitFailed, ""},
		{"-client-ca", []string{"-hosts", hosts, "-certificate", certificate, "-key", key}, cli.ExitFailed, ""},
	} {
		for file, want := range map[string]string{fifo: "a FIFO, not a regular file", huge: "1099511627776 bytes, and at most "} {
			tests = append(tests, testCase{tt.name + " " + filepath.Base(file), append(tt.args, tt.name, file), tt.code, file + ": " + want})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stderr := &clitest.Output{}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code := run(ctx, cli.Invocation{Args: append([]string{"-listen", "127.0.0.1:0"}, tt.args...), Stderr: stderr})
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr.String(), tt.want)
			require.NoError(t, ctx.Err())
		})
	}
}

// Idle connections and half requests hold all of -max-connections. A client still gets its answer
// at once, even if it has the same address.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const limit = 100
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts.json")
	replace(t, hosts, `[{"app": "a", "host": "a.test", "endpoint": "10.0.0.1"}]`)
	for name, send := range map[string]string{
		"silent":          "",
		"half a request":  "GET /hosts/a.test HTTP/1.1\r\nHo",
		"idle keep-alive": "GET /hosts/a.test HTTP/1.1\r\nHost: api.test\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "-hosts", hosts, "-max-connections", strconv.Itoa(limit))
			p.eventually(func() bool { // on a busy machine, hostapi may have closed the first connections before the last one
				for range limit {
					c, err := net.Dial("tcp", p.addr)
					require.NoError(t, err)
					t.Cleanup(func() { c.Close() })
					_, err = io.WriteString(c, send)
					require.NoError(t, err)
					if strings.HasSuffix(send, "\r\n\r\n") {
						_, err := bufio.NewReader(c).ReadString('\n')
						require.NoError(t, err)
					}
				}
				for range 10 {
					client := &http.Client{Transport: &http.Transport{}}
					resp, body := get(t, client, "http://"+p.addr+"/hosts/a.test")
					require.Equal(t, http.StatusOK, resp.StatusCode, body)
					t.Cleanup(client.CloseIdleConnections)
				}
				return regexp.MustCompile(`headgate_hostapi_limited_total\{reason="idle"\} [1-9]`).MatchString(p.metrics())
			})
		})
	}
}

// TestUnits checks that hostapi accepts the command in its systemd unit.
func TestUnits(t *testing.T) {
	clitest.CheckUnits(t)
	unit, socket := clitest.ReadUnit(t, "headgate-hostapi.service"), clitest.ReadUnit(t, "headgate-hostapi.socket")
	fs := cli.NewFlagSet(program)
	s := register(fs)
	stderr := &clitest.Output{}
	code, done := cli.Invocation{Args: unit.Command(t)[1:], Stderr: stderr}.Parse(fs)
	require.False(t, done, "%d: %s", code, stderr)
	require.NoError(t, s.check())
	require.Equal(t, "systemd:"+socket.Get(t, "FileDescriptorName"), s.api.Listen)
	require.Equal(t, "headgate-hostapi.socket", unit.Get(t, "Sockets"))
	require.Equal(t, "notify", unit.Get(t, "Type"))
	require.Less(t, stopTimeout, unit.Duration(t, "TimeoutStopSec"))
}
