package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// roundTripper answers requests without a network, so that a test can use synthetic time.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(code int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func TestFeedFollowsVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []struct {
			query, body string
			code        int
			takes       time.Duration
		}{
			{query: "tenant=7", body: `{"version":"v1","reset":true}`},
			{query: "since=v1&tenant=7&wait=30", takes: 3 * time.Second, body: `{"version":"v2","changes":[{"host":"a.com","app":"A","endpoint":"10.0.0.1","max_age":30},{"host":"b.com"}],"more":1}`},
			{query: "since=v2&tenant=7&wait=30", takes: 30 * time.Second, body: `{"version":"v2","changes":[]}`},
			{query: "since=v2&tenant=7&wait=30", code: 503, body: "restarting"},
			// The next call of Changes continues at the last version.
			{query: "since=v2&tenant=7&wait=30", takes: time.Second, body: `{"version":"v3","changes":[{"host":"*.c.com","endpoint":"10.0.0.9"}]}`},
			{query: "since=v3&tenant=7&wait=30", body: `{"version":"v9","reset":true}`},
		}
		asked := 0
		f := &Feed{
			URL:   "http://api/changes?tenant=7",
			Token: func(context.Context) (string, error) { return "secret", nil },
			HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if asked == len(answers) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				a := answers[asked]
				asked++
				require.Equal(t, a.query, r.URL.RawQuery)
				require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
				time.Sleep(a.takes)
				return respond(max(a.code, 200), a.body)
			})},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var got []string
		for range 2 {
			for change, err := range f.Changes(ctx) {
				if err != nil {
					got = append(got, err.Error())
					continue
				}
				got = append(got, fmt.Sprintf("%s %s %s %v", change.Host, change.Endpoint.App, change.Endpoint.Addr, change.Endpoint.TTL))
			}
		}
		require.Equal(t, []string{
			"   0s", "a.com A 10.0.0.1 30s", "b.com   0s",
			`httpapi: feed: httpapi: API answered 503 Service Unavailable: "restarting"`,
			"*.c.com   0s", "   0s",
			"httpapi: feed: Get \"http://api/changes?since=v9&tenant=7&wait=30\": context deadline exceeded",
		}, got)
	})
}

// If two servers behind one address have different hosts, or if the API ignores the parameter wait,
// a Feed makes at most one request a second.
func TestFeedLimitsRequests(t *testing.T) {
	for name, body := range map[string]string{
		"resets":         `{"version":"%d","reset":true}`,
		"does not wait":  `{"version":"v"}`,
		"knows no since": `{"version":"v","changes":[{"host":"a.com"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				f := &Feed{URL: "http://api/changes", HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					if asked++; asked > 1000 {
						return nil, errors.New("asked in a loop")
					}
					return respond(200, strings.ReplaceAll(body, "%d", fmt.Sprint(asked)))
				})}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for _, err := range f.Changes(ctx) {
					require.NoError(t, err)
				}
				require.InDelta(t, 61, asked, 1)
			})
		})
	}
}

// If the caller of Changes stops in the middle of an answer, the next call requests all changes of
// this answer again.
func TestFeedRepeatsUnappliedChanges(t *testing.T) {
	var since []string
	f := &Feed{URL: "http://api/changes", HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		since = append(since, r.URL.Query().Get("since"))
		return respond(200, `{"version":"v1","changes":[{"host":"a.com"},{"host":"b.com"}]}`)
	})}}
	for range 2 {
		for change, err := range f.Changes(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, "a.com", change.Host)
			break
		}
	}
	require.Equal(t, []string{"", ""}, since)
}

func TestFeedErrors(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"not JSON", "<html>", "invalid character"},
		{"no version", `{"reset":true}`, "without version"},
		{"too long", `{"version":"` + strings.Repeat("v", 100) + `"}`, "longer than 64 bytes"},
		{"not a list", `{"version":"v","changes":{}}`, "changes: an object does not belong here"},
		{"only another case", `{"Version":"v"}`, "without version"},
		{"member twice", `{"version":"v","version":"w"}`, "version: member comes twice"},
		{"in a change", `{"version":"v","changes":[{"host":"a","host":"b"}]}`, "host: member comes twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, tt.body) }))
			defer srv.Close()
			f := &Feed{URL: srv.URL, MaxBody: 64}
			defer f.CloseIdleConnections()
			n := 0
			for change, err := range f.Changes(t.Context()) {
				n++
				require.Zero(t, change)
				require.ErrorContains(t, err, tt.want)
			}
			require.Equal(t, 1, n)
		})
	}
	for _, u := range []string{"", "127.0.0.1:9000/changes", "ftp://a/b", "http:///changes", "http://a\x00"} {
		f := &Feed{URL: u}
		require.Error(t, f.Check(), u)
		for _, err := range f.Changes(t.Context()) {
			require.Equal(t, f.Check(), err)
		}
	}
	failing := &Feed{URL: "http://127.0.0.1:1/", Token: func(context.Context) (string, error) { return "", errDown }}
	for _, err := range failing.Changes(t.Context()) {
		require.ErrorIs(t, err, errDown)
	}
}

// A request to an API that never answers ends after Wait + Timeout.
func TestFeedTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &Feed{URL: "http://api/changes", Wait: 5 * time.Second, Timeout: 2 * time.Second, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}
		for _, err := range f.Changes(t.Context()) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Equal(t, 7*time.Second, time.Since(began))
	})
}

// A Client and a Feed can share one TLS configuration.
func TestFeedSharesTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hosts/") {
			io.WriteString(w, `{"endpoint":"10.0.0.1"}`)
			return
		}
		io.WriteString(w, `{"version":"v","reset":true}`)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	conf := &tls.Config{RootCAs: x509.NewCertPool()}
	conf.RootCAs.AddCert(srv.Certificate())
	api := &Client{URL: srv.URL + "/hosts/{host}", TLS: conf}
	feed := &Feed{URL: srv.URL + "/changes", TLS: conf}
	defer api.CloseIdleConnections()
	defer feed.CloseIdleConnections()
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		ep, err := api.LookupHost(t.Context(), "a.com")
		assert.NoError(t, err)
		assert.Equal(t, "10.0.0.1", ep.Addr)
	})
	for _, err := range feed.Changes(t.Context()) {
		require.NoError(t, err)
		break
	}
}
