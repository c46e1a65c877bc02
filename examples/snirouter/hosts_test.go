package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// While the API is down, the router serves known hosts. A client of a new host gets a temporary
// error, and not the answer for an unknown host.
func TestAPIDownAndBack(t *testing.T) {
	a, b := newSite(t, "site a", "a.test"), newSite(t, "site b", "b.test")
	api := newAPI(t, "a.test", a.tls, "b.test", b.tls)
	p := start(t, "-api", api.template(), "-cache-ttl", "1ms")
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	ask := func(host string) string {
		_, body := get(client(t, p.tls, conf), "https://"+host+"/")
		return body
	}
	require.Contains(t, ask("a.test"), "site a")
	require.Contains(t, ask("c.test"), "unrecognized name")
	api.down.Store(true)
	for range 5 {
		require.Contains(t, ask("a.test"), "site a")
		require.Contains(t, ask("b.test"), "tls: internal error")
	}
	code, body := get(client(t, p.http, nil), "http://b.test/")
	require.Equal(t, 503, code)
	require.Contains(t, body, "try again")
	require.Contains(t, p.stderr.String(), "the API fails")
	p.metric(`headgate_router_connections_total{outcome="lookup_failed",protocol="tls"} 5`)
	_, metrics := p.ask("GET", "/metrics")
	clitest.Scrape(t, metrics)
	require.Regexp(t, `headgate_router_lookups_total\{level="stale"\} [1-9]`, metrics)
	require.Regexp(t, `headgate_router_api_errors_total [1-9]`, metrics)
	code, _ = p.ask("GET", "/readyz")
	require.Equal(t, 200, code, "a router that knows hosts is ready")

	api.down.Store(false)
	p.eventually(func() bool { return strings.Contains(ask("b.test"), "site b") })
	require.Contains(t, ask("a.test"), "site a")
}

// With -changes, a change takes effect long before the cached answer expires.
func TestChangesAreFollowed(t *testing.T) {
	a, b := newSite(t, "site a", "a.test"), newSite(t, "site b", "a.test")
	api := newAPI(t, "a.test", a.tls)
	changed := make(chan struct{})
	feed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("since") {
		case "":
			fmt.Fprint(w, `{"version": "1", "reset": true}`)
		case "1":
			select {
			case <-changed:
				fmt.Fprintf(w, `{"version": "2", "changes": [{"host": "a.test", "endpoint": %q}]}`, b.tls)
			case <-r.Context().Done():
			}
		default:
			<-r.Context().Done()
		}
	}))
	defer feed.Close()
	p := start(t, "-api", api.template(), "-cache-ttl", "1h", "-changes", feed.URL)
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	ask := func() string {
		_, body := get(client(t, p.tls, conf), "https://a.test/")
		return body
	}
	require.Contains(t, ask(), "site a")
	close(changed)
	p.eventually(func() bool { return strings.Contains(ask(), "site b") })
	p.cancel()
	p.wait() // feed.Close waits for the requests of the router
}

// A record is a host in a cache file.
type record struct {
	App, Host, Endpoint string
	Expires             time.Time
}

func cacheFile(t *testing.T, data []byte) (records []record) {
	t.Helper()
	require.NoError(t, json.Unmarshal(data, &records))
	return records
}

// If the API is down at the start, the router uses the cache file of its last run.
func TestCacheFile(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	api := newAPI(t, "a.test", a.tls)
	file := filepath.Join(t.TempDir(), "cache.json")
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	args := []string{"-api", api.template(), "-cache-file", file}

	before := time.Now()
	first := start(t, args...)
	_, body := get(client(t, first.tls, conf), "https://a.test/")
	require.Contains(t, body, "site a")
	_, _ = get(client(t, first.tls, conf), "https://unknown.test/")
	first.cancel()
	require.Equal(t, cli.ExitOK, first.wait())
	saved, err := os.ReadFile(file)
	require.NoError(t, err)
	records := cacheFile(t, saved)
	require.Len(t, records, 1)
	require.WithinRange(t, records[0].Expires, before, time.Now().Add(30*time.Second))
	require.Equal(t, record{"App of a.test", "a.test", a.tls, records[0].Expires}, records[0])
	_, problems, err := hostlookup.ParseHosts(file, saved)
	require.NoError(t, err)
	require.Empty(t, problems, "the cache file is a hosts file")

	api.down.Store(true)
	leftover := filepath.Join(filepath.Dir(file), ".cache.json123456") // of a router that was killed
	require.NoError(t, os.WriteFile(leftover, []byte("[{"), 0o600))
	second := start(t, args...)
	_, body = get(client(t, second.tls, conf), "https://a.test/")
	require.Contains(t, body, "site a")
	require.Contains(t, second.stderr.String(), "the cache begins with known hosts")
	api.down.Store(false)
	api.set("a.test", newSite(t, "moved", "a.test").tls)

	// As soon as the API answers, its answer has precedence over the file.
	second.cancel()
	require.Equal(t, cli.ExitOK, second.wait())
	require.NoFileExists(t, leftover)
	third := start(t, args...)
	third.eventually(func() bool { // on a slow machine, the API may answer after the router has used the file
		_, body = get(client(t, third.tls, conf), "https://a.test/")
		return strings.Contains(body, "moved")
	})

	// If a host in the file has no time, the router uses the modification time of the file.
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `[{"app": "App of a.test", "host": "a.test", "endpoint": %q}]`, a.tls), 0o600))
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(-23*time.Hour)))
	young := start(t, args...)
	require.Contains(t, young.stderr.String(), "the cache begins with known hosts")
	young.cancel()
	require.Equal(t, cli.ExitOK, young.wait())
	saved, err = os.ReadFile(file)
	require.NoError(t, err)
	// The file has whole seconds, rounded to the nearest one.
	require.WithinRange(t, cacheFile(t, saved)[0].Expires, before.Add(-24*time.Hour), time.Now().Add(-23*time.Hour+time.Second/2))
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `[{"host": "a.test", "endpoint": %q}]`, a.tls), 0o600))
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(-25*time.Hour)))
	old := start(t, args...)
	require.Contains(t, old.stderr.String(), "the cache begins empty")
	require.NoError(t, os.WriteFile(file, []byte("[{"), 0o600))
	broken := start(t, args...)
	require.Contains(t, broken.stderr.String(), "the cache begins empty")
}

// The hosts file has precedence over the API, and the API over the default.
func TestOrderOfSources(t *testing.T) {
	a, b, rest := newSite(t, "site a", "a.test"), newSite(t, "site b", "a.test", "b.test"), newSite(t, "the rest", "c.test")
	api := newAPI(t, "a.test", b.tls, "b.test", b.tls)
	file := hostsFile(t, "a.test", a.tls)
	p := start(t, "-hosts", file, "-poll", "10ms", "-api", api.template(), "-default", rest.tls, "-no-name", rest.tls)
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	for host, want := range map[string]string{"a.test": "site a", "b.test": "site b", "c.test": "the rest"} {
		_, body := get(client(t, p.tls, conf), "https://"+host+"/")
		require.Contains(t, body, want)
	}
	c, err := tls.Dial("tcp", p.tls, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, []string{"c.test"}, c.ConnectionState().PeerCertificates[0].DNSNames)

	writeHosts(t, file, "other.test", a.tls)
	p.eventually(func() bool {
		_, body := get(client(t, p.tls, conf), "https://a.test/")
		return strings.Contains(body, "site b")
	})
}

// A metric shows when the client certificate expires that the router sends to the API.
func TestExpiryOfTheClientCertificate(t *testing.T) {
	pair := testcert.New("router")
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certificate, pair.PEM(), 0o600))
	require.NoError(t, os.WriteFile(key, pair.KeyPEM(), 0o600))
	p := start(t, "-api", newAPI(t).template(), "-api-certificate", certificate, "-api-key", key)
	p.metric(fmt.Sprintf("headgate_router_certificate_expiry_timestamp_seconds{file=%q} %v", certificate, float64(pair.TLS.Leaf.NotAfter.Unix())))
}

// A router is not ready, and says why, if the API has never answered and the cache is empty.
func TestNotReadyBeforeTheFirstAnswer(t *testing.T) {
	api := newAPI(t, "a.test", "10.0.0.24")
	api.down.Store(true)
	dir := t.TempDir()
	p := start(t, "-api", api.template(), "-cache-file", filepath.Join(dir, "cache.json"))
	code, body := p.ask("GET", "/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, body, "the API has not answered yet, and no cache is loaded")
	p.eventually(func() bool {
		_, body = p.ask("GET", "/readyz")
		return strings.Contains(body, "503 Service Unavailable")
	}, "the reason of the API")
	api.down.Store(false)
	p.eventually(func() bool { // no client has to come first
		code, _ = p.ask("GET", "/readyz")
		return code == 200
	})
	require.Zero(t, api.calls.Load())
	api.down.Store(true)
	code, body = p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)

	// A loaded cache is enough.
	saved := filepath.Join(dir, "saved.json")
	require.NoError(t, os.WriteFile(saved, []byte(fmt.Sprintf(`[{"app": "a", "host": "a.test", "endpoint": "10.0.0.24", "expires": %q}]`,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339))), 0o600))
	p = start(t, "-api", api.template(), "-cache-file", saved)
	code, body = p.ask("GET", "/readyz")
	require.Equal(t, 200, code, body)
}

// SIGHUP reads the file of -api-ca again. A broken file changes nothing.
func TestHangupReadsTheAuthorities(t *testing.T) {
	site := newSite(t, "site a", "a.test")
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"app": "a", "host": "a.test", "endpoint": %q}`, site.tls)
	}))
	defer api.Close()
	api.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	authorities := filepath.Join(t.TempDir(), "api.pem")
	write := func(text []byte) { require.NoError(t, os.WriteFile(authorities, text, 0o600)) }
	write(theAuthority().PEM())
	p := start(t, "-api", api.URL+"/{host}", "-api-ca", authorities)
	conf := &tls.Config{RootCAs: theAuthority().Pool()}
	ask := func() string {
		_, body := get(client(t, p.tls, conf), "https://a.test/")
		return body
	}
	require.NotContains(t, ask(), "site a")
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.eventually(func() bool { return strings.Contains(ask(), "site a") })
	write(nil)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), "the authorities of -api-ca stay as they are") })
	require.Contains(t, ask(), "site a")
}

// While the router runs, the hosts file, the cache file and the token file become FIFOs, and nobody
// writes to the FIFOs. The router keeps its hosts, and still ends at SIGTERM.
func TestFilesThatBecomeFIFOs(t *testing.T) {
	dir := t.TempDir()
	cache, token := filepath.Join(dir, "cache.json"), filepath.Join(dir, "token")
	for _, file := range []string{cache, token} {
		require.NoError(t, os.WriteFile(file, []byte("[]"), 0o600))
	}
	hosts := hostsFile(t, "a.test", "10.0.0.24")
	p := start(t, "-hosts", hosts, "-poll", "10ms", "-api", newAPI(t).template(), "-api-token-file", token, "-cache-file", cache)
	for _, file := range []string{hosts, cache, token} {
		require.NoError(t, os.Remove(file))
		require.NoError(t, syscall.Mkfifo(file, 0o600))
	}
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), hosts+": a FIFO, not a regular file") })
	p.cancel()
	require.Equal(t, cli.ExitOK, p.wait())
	require.Contains(t, p.stderr.String(), "the cache is not saved")
}

// At the start, the cache file is a FIFO, for example because of a mistake in a script. The router
// starts with an empty cache, and does not remove or replace the FIFO.
func TestCacheFileIsAFIFO(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache.json")
	require.NoError(t, syscall.Mkfifo(cache, 0o600))
	p := start(t, "-api", newAPI(t).template(), "-cache-file", cache)
	require.Contains(t, p.stderr.String(), cache+": a FIFO, not a regular file")
	p.cancel()
	require.Equal(t, cli.ExitOK, p.wait())
	info, err := os.Lstat(cache)
	require.NoError(t, err)
	require.Equal(t, os.ModeNamedPipe, info.Mode().Type())
}

// At SIGHUP, the router reads its files again and continues to run. It also reads the file of
// -not-found-page, although it does not notice changes of this file by itself.
func TestHangup(t *testing.T) {
	page := filepath.Join(t.TempDir(), "404.html")
	require.NoError(t, os.WriteFile(page, []byte("first {{.Host}}"), 0o600))
	p := start(t, "-hosts", hostsFile(t, "a.test", "10.0.0.24"), "-not-found-page", page)
	body := func() string {
		_, body := get(client(t, p.http, nil), "http://b.test/")
		return body
	}
	require.Equal(t, "first b.test", body())
	require.NoError(t, os.WriteFile(page, []byte("second {{.Host}}"), 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.eventually(func() bool { return body() == "second b.test" })
	require.NoError(t, os.WriteFile(page, []byte("{{.Nothing"), 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), "stays as it is") })
	require.Equal(t, "second b.test", body())
}
