package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

var errDown = errors.New("API is down")

// api starts a server, and returns a Client of it.
func api(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	h := &Client{URL: server.URL + "/hosts/{host}"}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

func reply(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// ttlOf returns the TTL of the hostlookup.Error in err. If there is no such error in err, it
// returns 0.
func ttlOf(err error) time.Duration {
	if e, ok := errors.AsType[*hostlookup.Error](err); ok {
		return e.TTL
	}
	return 0
}

func TestClientAnswers(t *testing.T) {
	const good = `{"app": "A Simple App", "host": "a.com", "endpoint": "10.0.0.24"}`
	ep := hostlookup.Endpoint{App: "A Simple App", Host: "a.com", Addr: "10.0.0.24"}
	withTTL := func(ttl time.Duration) hostlookup.Endpoint { e := ep; e.TTL = ttl; return e }
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    hostlookup.Endpoint
		err     string
		ttl     time.Duration // of the error
	}{
		"found":              {handler: reply(200, good), want: ep},
		"other members":      {handler: reply(200, `{"endpoint": "10.0.0.24", "host": "a.com", "app": "A Simple App", "id": 7}`+"\n"), want: ep},
		"with max-age":       {handler: reply(200, good, "Cache-Control", "max-age=60"), want: withTTL(time.Minute)},
		"with no-store":      {handler: reply(200, good, "Cache-Control", "no-store"), want: withTTL(-1)},
		"with age":           {handler: reply(200, good, "Cache-Control", "max-age=60", "Age", "15"), want: withTTL(45 * time.Second)},
		"not found":          {handler: reply(404, "no such host"), err: hostlookup.ErrNotFound.Error()},
		"not found, max-age": {handler: reply(404, "", "Cache-Control", "max-age=60"), err: hostlookup.ErrNotFound.Error(), ttl: time.Minute},
		"not found, long":    {handler: reply(404, strings.Repeat("x", 100_000)), err: hostlookup.ErrNotFound.Error()},

		"gone is no 404":       {handler: reply(410, ""), err: "API answered 410 Gone"},
		"no content":           {handler: reply(204, ""), err: "API answered 204"},
		"redirect":             {handler: reply(302, "", "Location", "/elsewhere"), err: "API answered 302"},
		"not authorized":       {handler: reply(401, "who are you?"), err: `API answered 401 Unauthorized: "who are you?"`},
		"too many":             {handler: reply(429, "", "Retry-After", "7"), err: "API answered 429", ttl: 7 * time.Second},
		"unavailable":          {handler: reply(503, "", "Retry-After", "120"), err: "API answered 503", ttl: 2 * time.Minute},
		"broken":               {handler: reply(500, strings.Repeat("x", 1000)), err: "API answered 500"},
		"no JSON":              {handler: reply(200, "<html>"), err: "the API's answer: invalid character"},
		"empty":                {handler: reply(200, ""), err: "the API's answer"},
		"null":                 {handler: reply(200, "null"), err: "null"},
		"an array":             {handler: reply(200, "["+good+"]"), err: "an array where an object belongs"},
		"two objects":          {handler: reply(200, good+good), err: "after top-level value"},
		"a number":             {handler: reply(200, `{"endpoint": 10}`), err: "a number where a string belongs"},
		"other case":           {handler: reply(200, `{"app": "A Simple App", "host": "a.com", "endpoint": "10.0.0.24", "Endpoint": "10.0.0.9", "HOST": 7}`), want: ep},
		"only another case":    {handler: reply(200, `{"Endpoint": "10.0.0.24"}`), err: "empty in the API's answer"},
		"twice":                {handler: reply(200, `{"endpoint": "10.0.0.24", "endpoint": "10.0.0.24"}`), err: "endpoint: member comes twice"},
		"null the second time": {handler: reply(200, `{"endpoint": "10.0.0.24", "endpoint": null}`), err: "endpoint: member comes twice"},
		"no endpoint":          {handler: reply(200, `{"app": "x", "host": "a.com"}`), err: "empty in the API's answer"},
		"bad endpoint":         {handler: reply(200, `{"endpoint": "10.0.0.24:http"}`), err: "port"},
		"too long":             {handler: reply(200, `{"endpoint": "10.0.0.24", "x": "`+strings.Repeat("x", 64<<10)+`"}`), err: "longer than 65536 bytes"},
		"cut off":              {handler: reply(200, good, "Content-Length", "1000"), err: "reading the API's answer"},
		"closes at once":       {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, err: "EOF"},
		"never ending headers": {handler: reply(200, good, "X", strings.Repeat("x", 100_000)), err: "exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := api(t, test.handler).LookupHost(t.Context(), "a.com")
			require.Equal(t, hostlookup.Answer{Endpoint: test.want}, got)
			if test.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.err)
			require.Regexp(t, "^(httpapi|hostlookup): ", err.Error())
			require.Equal(t, strings.HasPrefix(name, "not found"), errors.Is(err, hostlookup.ErrNotFound))
			require.Equal(t, test.ttl, ttlOf(err))
			require.LessOrEqual(t, len(err.Error()), 300)
		})
	}
}

// The host of an answer is in normal form.
func TestHostOfAnswer(t *testing.T) {
	for host, want := range map[string]string{"*.Tenant.Example.": "*.tenant.example", "A.com:443": "a.com", "": "", "no host": "no host"} {
		ep, err := parseEndpoint([]byte(`{"host": "` + host + `", "endpoint": "10.0.0.1"}`))
		require.NoError(t, err)
		require.Equal(t, want, ep.Host)
	}
}

// A Client refuses the endpoint of a host that it did not ask for, as a hosts file has no such entry.
func TestAnswerForAnotherHost(t *testing.T) {
	for _, test := range []struct {
		asked, host string
		refused     bool
	}{
		{asked: "a.com", host: "a.com"},
		{asked: "a.com", host: "A.com.:443"},
		{asked: "a.com", host: ""},
		{asked: "A.com.", host: "a.com"},
		{asked: "Shop.A.com", host: "*.a.com"},
		{asked: "shop.a.com", host: "*.a.com"},
		{asked: "shop.a.com", host: "*.A.com"},
		{asked: "*.a.com", host: "*.a.com"},
		{asked: "a.com", host: "b.com", refused: true},
		{asked: "a.com", host: "www.a.com", refused: true},
		{asked: "a.com", host: "no host", refused: true},
		{asked: "a.com", host: "*.com.example", refused: true},
		{asked: "a.com", host: "*.a.com", refused: true},
		{asked: "shop.a.com", host: "a.com", refused: true},
		{asked: "deep.shop.a.com", host: "*.a.com", refused: true},
		{asked: "shop.a.com", host: "*", refused: true},
	} {
		_, err := api(t, reply(200, `{"host": "`+test.host+`", "endpoint": "10.0.0.1"}`)).LookupHost(t.Context(), test.asked)
		if !test.refused {
			require.NoError(t, err, "%+v", test)
			continue
		}
		require.EqualError(t, err, fmt.Sprintf("httpapi: the API's answer to a request for %q has the host %q", test.asked, test.host))
		require.NotErrorIs(t, err, hostlookup.ErrNotFound)
	}
}

func TestClientRequest(t *testing.T) {
	var got atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Method + " " + r.URL.EscapedPath() + "?" + r.URL.RawQuery + " " + r.Header.Get("Accept"))
		reply(200, `{"endpoint": "10.0.0.24"}`)(w, r)
	}))
	defer server.Close()
	for _, test := range []struct{ template, host, want string }{
		{"/hosts/{host}", "a.com", "/hosts/a.com?"},
		{"/hosts/{host}", "*.a.com", "/hosts/%2A.a.com?"},
		{"/hosts/{host}", "a/../b?c#d%2f", "/hosts/a%2F..%2Fb%3Fc%23d%252f?"},
		{"/hosts/{host}.json?v=1", "a.com", "/hosts/a.com.json?v=1"},
		{"?host={host}&v=1", "a&b=c+d e", "/?host=a%26b%3Dc%2Bd+e&v=1"},
		{"/{host}?host={host}", "a b", "/a%20b?host=a+b"},
		{"/%7Bx%7D/{host}", "{host}", "/%7Bx%7D/%7Bhost%7D?"},
	} {
		h := &Client{URL: server.URL + test.template}
		_, err := h.LookupHost(t.Context(), test.host)
		require.NoError(t, err)
		require.Equal(t, "GET "+test.want+" application/json", got.Load())
		h.CloseIdleConnections()
	}
	// The Client makes no request for a name that would lead to another path of the API, or that is
	// no host.
	got.Store("")
	h := &Client{URL: server.URL + "/hosts/{host}"}
	for _, host := range []string{"", ".", "..", "...", strings.Repeat("a", 254)} {
		_, err := h.LookupHost(t.Context(), host)
		require.ErrorIs(t, err, hostlookup.ErrNotFound)
	}
	require.Empty(t, got.Load())
}

func TestClientCheck(t *testing.T) {
	for template, want := range map[string]string{
		"http://api/hosts/{host}":       "",
		"https://api:9000/?host={host}": "",
		"http://[::1]:9000/{host}":      "",
		"":                              "no {host}",
		"http://api/hosts/":             "no {host}",
		"http://{host}/":                "belongs into the path",
		"http://{host}":                 "belongs into the path",
		"http://user:{host}@api/":       "belongs into the path",
		"http://{host}/{host}":          "belongs into the path",
		"ftp://api/{host}":              "neither http nor https",
		"//api/{host}":                  "neither http nor https",
		"http:///{host}":                "no server",
		"http://api/#{host}":            "fragment",
		"http://api:port/{host}":        "invalid port",
		"{host}://api/":                 "neither http nor https",
		"http://api/{host}\n":           "invalid control character",
	} {
		h := &Client{URL: template}
		err := h.Check()
		if want == "" {
			require.NoError(t, err, template)
			continue
		}
		require.ErrorContains(t, err, want, template)
		_, again := h.LookupHost(t.Context(), "a.com")
		require.Equal(t, err, again)
		h.CloseIdleConnections()
	}
}

func TestClientReusesConnections(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"found":     reply(200, `{"endpoint": "10.0.0.24"}`),
		"not found": reply(404, strings.Repeat("no such host ", 1000)),
		"failing":   reply(500, strings.Repeat("no such luck ", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			h := api(t, handler)
			fresh := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) {
					if !info.Reused {
						fresh++
					}
				},
			})
			const lookups = 20
			for range lookups {
				_, _ = h.LookupHost(ctx, "a.com")
			}
			// net/http does not reuse a connection if its goroutine for writing waits longer than 50 ms.
			require.Less(t, fresh, lookups)
		})
	}
}

func TestClientTimeout(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"endpoint": `)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := api(t, handler)
			h.Timeout = 50 * time.Millisecond
			_, err := h.LookupHost(t.Context(), "a.com")
			require.ErrorIs(t, err, context.DeadlineExceeded)

			h = &Client{URL: h.URL, Timeout: -1}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = h.LookupHost(ctx, "a.com")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			h.CloseIdleConnections()
		})
	}
}

func TestClientToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	h := api(t, func(w http.ResponseWriter, r *http.Request) {
		reply(200, `{"app": `+strconv.Quote(r.Header.Get("Authorization"))+`, "endpoint": "10.0.0.24"}`)(w, r)
	})
	h.Token = TokenFile(path)
	_, err := h.LookupHost(t.Context(), "a.com")
	require.ErrorIs(t, err, os.ErrNotExist)

	write := func(s string) {
		// Kubernetes replaces mounted tokens by a rename, too.
		require.NoError(t, os.WriteFile(path+".new", []byte(s), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	ask := func() string {
		ep, err := h.LookupHost(t.Context(), "a.com")
		require.NoError(t, err)
		return ep.App
	}
	write("one\n")
	require.Equal(t, "Bearer one", ask())
	require.Equal(t, "Bearer one", ask())
	write("two")
	require.Equal(t, "Bearer two", ask())
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	require.Equal(t, "Bearer two", ask())
	require.Equal(t, "Bearer two", ask())
	for _, bad := range []string{"", " \n", "a b", "a\r\nX-Evil: 1", "ü", strings.Repeat("x", 16<<10+1)} {
		write(bad)
		require.Equal(t, "Bearer two", ask(), "the last valid token stays in use")
	}
	require.NoError(t, os.Remove(path))
	require.Equal(t, "Bearer two", ask())
	write("three")
	require.Equal(t, "Bearer three", ask())

	h = &Client{URL: h.URL, Token: func(context.Context) (string, error) { return "", errDown }}
	_, err = h.LookupHost(t.Context(), "a.com")
	require.ErrorIs(t, err, errDown)
	require.ErrorContains(t, err, "httpapi: token: ")
}

func TestClientClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(reply(200, `{"endpoint": "10.0.0.24"}`))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the failed handshake is expected
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	url := server.URL + "/{host}"

	with := &Client{URL: url, TLS: &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}}
	defer with.CloseIdleConnections()
	_, err := with.LookupHost(t.Context(), "a.com")
	require.NoError(t, err)

	without := &Client{URL: url, TLS: &tls.Config{RootCAs: roots}}
	defer without.CloseIdleConnections()
	_, err = without.LookupHost(t.Context(), "a.com")
	require.ErrorContains(t, err, "certificate")

	own := server.Client()
	own.Transport.(*http.Transport).TLSClientConfig.Certificates = server.TLS.Certificates
	mine := &Client{URL: url, HTTPClient: own}
	_, err = mine.LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
}

// mute is a connection whose other end can disappear without a FIN or RST. After that, the
// connection drops all written bytes, and a read gets no bytes.
type mute struct {
	net.Conn
	gone  *atomic.Bool
	ended chan struct{}
	once  sync.Once
}

func (m *mute) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if m.gone.Load() {
		<-m.ended
		return 0, net.ErrClosed
	}
	return n, err
}

func (m *mute) Write(b []byte) (int, error) {
	if m.gone.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

func (m *mute) Close() error {
	m.once.Do(func() { close(m.ended) })
	return m.Conn.Close()
}

// After the API has moved to another machine, its old HTTP/2 connection is dead. HTTP/2 pings
// detect this earlier than TCP, so requests soon use a new connection.
func TestHTTP2ConnectionThatDied(t *testing.T) {
	server := httptest.NewUnstartedServer(reply(200, `{"endpoint": "10.0.0.24"}`))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	h := &Client{URL: server.URL + "/{host}", TLS: &tls.Config{RootCAs: roots}, Timeout: -1}
	require.NoError(t, h.Check())
	defer h.CloseIdleConnections()
	transport := h.client.Load().Transport.(*http.Transport)
	require.Positive(t, transport.HTTP2.SendPingTimeout)
	require.Positive(t, transport.HTTP2.PingTimeout)
	transport.HTTP2.SendPingTimeout, transport.HTTP2.PingTimeout = 500*time.Millisecond, 500*time.Millisecond
	var first atomic.Bool
	gone, dial := new(atomic.Bool), transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil && first.CompareAndSwap(false, true) {
			c = &mute{Conn: c, gone: gone, ended: make(chan struct{})}
		}
		return c, err
	}
	ask := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := h.LookupHost(ctx, "a.com")
		return err
	}
	require.NoError(t, ask(time.Minute))
	gone.Store(true)
	const most = 240 // after 250 the server's limit of streams would also cause another connection
	failed := 0
	for ; ask(200*time.Millisecond) != nil; failed++ {
		require.Less(t, failed, most)
	}
	require.Positive(t, failed)
}

// A cache in front of a Client uses the lifetimes in the headers.
func TestCacheBeforeClient(t *testing.T) {
	var status atomic.Int64
	var asked atomic.Int64
	status.Store(200)
	h := api(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		reply(int(status.Load()), `{"app": "x", "host": "a.com", "endpoint": "10.0.0.24"}`, "Cache-Control", "max-age=100", "Retry-After", "60")(w, r)
	})
	var now atomic.Int64
	start := time.Now()
	c := &hostlookup.Cache{Source: h, Jitter: -1, StaleAfter: time.Minute, Timeout: time.Minute, Clock: func() time.Time { return start.Add(time.Duration(now.Load())) }}
	defer c.Close()
	wantAnswer := func(addr string, wantErr error, level hostlookup.Level) {
		t.Helper()
		ep, err := c.LookupHost(t.Context(), "a.com")
		got := ep.Level
		require.ErrorIs(t, err, wantErr)
		require.Equal(t, addr, ep.Addr)
		require.Equal(t, level, got)
	}
	wantAnswer("10.0.0.24", nil, hostlookup.Miss)
	now.Add(int64(99 * time.Second))
	wantAnswer("10.0.0.24", nil, hostlookup.Hit)
	status.Store(503)
	now.Add(int64(2 * time.Second))
	wantAnswer("10.0.0.24", nil, hostlookup.Stale)
	require.Equal(t, int64(2), asked.Load())
	now.Add(int64(59 * time.Second)) // Retry-After is more than Recheck
	wantAnswer("10.0.0.24", nil, hostlookup.Stale)
	require.Equal(t, int64(2), asked.Load())
	status.Store(404)
	now.Add(int64(2 * time.Second))
	wantAnswer("", hostlookup.ErrNotFound, hostlookup.Miss)
	now.Add(int64(99 * time.Second))
	wantAnswer("", hostlookup.ErrNotFound, hostlookup.Negative)
	require.Equal(t, int64(3), asked.Load())
}

// The cache keeps every answer without no-store. If an answer needs revalidation, the cache asks
// the API at each lookup, and serves the kept answer only while the API fails. Random labels below
// a wildcard evict no host. While the API fails, the cache serves every name below the wildcard.
func TestCacheOfWildcards(t *testing.T) {
	h := &Handler{MaxAge: -1} // so the cache asks about each name each time
	hosts, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{
		"shop.example.com":     {Addr: "10.0.0.1"},
		"*.tenant.example":     {Addr: "10.0.0.2"},
		"admin.tenant.example": {Addr: "10.0.0.3"},
	})
	require.NoError(t, err)
	_, err = h.Publish(hosts)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	defer server.Close()
	client := &Client{URL: server.URL + "/hosts/{host}"}
	defer client.CloseIdleConnections()
	cache := &hostlookup.Cache{Source: client, MaxHosts: 10}
	defer cache.Close()
	want := func(host, addr string, level hostlookup.Level) {
		t.Helper()
		answer, err := cache.LookupHost(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, addr+" "+level.String(), answer.Addr+" "+answer.Level.String())
	}
	want("shop.example.com", "10.0.0.1", hostlookup.Miss)
	want("admin.tenant.example", "10.0.0.3", hostlookup.Miss)
	for i := range 100 {
		want(fmt.Sprintf("r%d.tenant.example", i), "10.0.0.2", hostlookup.Miss)
	}
	server.Close()
	for i := range 100 {
		want(fmt.Sprintf("s%d.tenant.example", i), "10.0.0.2", hostlookup.Stale)
	}
	want("shop.example.com", "10.0.0.1", hostlookup.Stale)
	want("admin.tenant.example", "10.0.0.3", hostlookup.Stale)
	stats := cache.Stats()
	require.Zero(t, stats.Evicted)
	require.Equal(t, [2]int{3, 10}, [2]int{stats.Hosts, stats.Aliases})
}

func TestAnswersThatNeedRevalidation(t *testing.T) {
	for name, test := range map[string]struct {
		control, age string
		kept         bool
	}{
		"max-age=0":       {"max-age=0", "", true},
		"no-cache":        {"no-cache", "", true},
		"both":            {"no-cache, max-age=60", "", true},
		"s-maxage=0":      {"s-maxage=0, max-age=60", "", true},
		"Age":             {"max-age=60", "60", true},
		"a later Age":     {"max-age=60", "100", true},
		"private":         {"private, max-age=0", "", true},
		"must-revalidate": {"max-age=0, must-revalidate", "", true},
		"no-store":        {"no-store", "", false},
		"both no's":       {"no-cache, no-store", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked, down atomic.Int64
			h := api(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				status := 200
				if down.Load() != 0 {
					status = 503
				}
				reply(status, `{"app": "x", "host": "a.com", "endpoint": "10.0.0.24"}`, "Cache-Control", test.control, "Age", test.age)(w, r)
			})
			// A busy machine exceeds the default of StaleAfter.
			c := &hostlookup.Cache{Source: h, StaleWhileRevalidate: time.Hour, StaleAfter: time.Minute, Timeout: time.Minute}
			defer c.Close()
			for i := range 5 {
				answer, err := c.LookupHost(t.Context(), "a.com")
				require.NoError(t, err)
				require.Equal(t, hostlookup.Miss, answer.Level)
				require.Equal(t, int64(i+1), asked.Load())
				_, err = c.Peek("a.com")
				require.ErrorIs(t, err, hostlookup.ErrWouldWait)
			}
			down.Store(1)
			answer, err := c.LookupHost(t.Context(), "a.com")
			if !test.kept {
				require.ErrorContains(t, err, "503")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "10.0.0.24", answer.Addr)
			require.Equal(t, hostlookup.Stale, answer.Level)
		})
	}
}
