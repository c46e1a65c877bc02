package canary_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller/canary"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

func TestDecide(t *testing.T) {
	quiet := canary.Counters{Responses: 1000, Errors: 2}
	for _, tt := range []struct {
		name string
		o    canary.Observation
		want canary.Verdict
		why  string
	}{
		{"too early", canary.Observation{Counted: 2*time.Minute - 1}, canary.Undecided, ""},
		{"no requests", canary.Observation{Counted: 2 * time.Minute}, canary.Approved, ""},
		{"a probe fails at the end", canary.Observation{
			Counted: time.Hour, Failing: []canary.Failure{{Probe: "http://a/=200", Rounds: 2, Err: "x"}},
		}, canary.Undecided, ""},
		{"a probe fails", canary.Observation{
			Failing: []canary.Failure{{Probe: "http://a/=200", Rounds: 3, Err: "the status is 503"}},
		}, canary.Withdrawn, "the probe http://a/=200 failed 3 times in a row: the status is 503"},
		{"as many errors as before", canary.Observation{
			Counted: 2 * time.Minute, Before: canary.Counts{"a": {Responses: 1000, Errors: 500}},
			After: canary.Counts{"a": {Responses: 100, Errors: 60}},
		}, canary.Approved, ""},
		{"few more errors", canary.Observation{
			Counted: 2 * time.Minute, Before: canary.Counts{"a": quiet}, After: canary.Counts{"a": {Responses: 1000, Errors: 13}},
		}, canary.Approved, ""},
		{"more errors in one backend", canary.Observation{
			Counted: time.Second, Before: canary.Counts{"a": quiet, "b": quiet},
			After: canary.Counts{"a": {Responses: 100_000}, "b": {Responses: 1000, Errors: 40}},
		}, canary.Withdrawn, "backend b: 40 5xx responses at 1000 responses (4.0%), and 2 at 1000 (0.2%) before"},
		{"too few responses", canary.Observation{
			Before: canary.Counts{"a": quiet}, After: canary.Counts{"a": {Responses: 49, Errors: 49}},
		}, canary.Undecided, ""},
		{"failed connections, and no failed request", canary.Observation{
			Before: canary.Counts{"a": quiet}, After: canary.Counts{"a": {Responses: 50, ConnErrors: 60}},
		}, canary.Withdrawn, "backend a: 60 failed connections to servers at 50 responses (120.0%), and 0 at 1000 (0.0%) before"},
		{"a new backend is compared with all", canary.Observation{
			Before: canary.Counts{"a": {Responses: 100, Errors: 50}}, After: canary.Counts{"new": {Responses: 100, Errors: 50}},
		}, canary.Undecided, ""},
		{"errors of a new backend", canary.Observation{
			Before: canary.Counts{}, After: canary.Counts{"new": {Responses: 50, Errors: 50}},
		}, canary.Withdrawn, "backend new: 50 5xx responses at 50 responses (100.0%), and 0 at 0 (0.0%) before"},
		{"after a restart, only the sum counts", canary.Observation{
			Total: canary.Counters{Responses: 1000, Errors: 100}, After: canary.Counts{"a": {Responses: 900}, "b": {Responses: 100, Errors: 100}},
		}, canary.Undecided, ""},
		{"more errors after a restart", canary.Observation{
			Total: quiet, After: canary.Counts{"a": {Responses: 900}, "b": {Responses: 100, Errors: 100}},
		}, canary.Withdrawn, "all backends: 100 5xx responses at 1000 responses (10.0%), and 2 at 1000 (0.2%) before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			verdict, why := canary.Policy{}.Decide(tt.o)
			require.Equal(t, tt.want, verdict)
			require.Equal(t, tt.why, why)
		})
	}
	strict := canary.Policy{For: time.Second, MinRequests: 1, MaxErrors: 0.9, MaxFailures: 1}
	verdict, _ := strict.Decide(canary.Observation{Failing: []canary.Failure{{Rounds: 1}}})
	require.Equal(t, canary.Withdrawn, verdict)
	verdict, _ = strict.Decide(canary.Observation{Counted: time.Second, After: canary.Counts{"a": {Responses: 2, Errors: 1}}})
	require.Equal(t, canary.Approved, verdict)
}

// TestDecideByChance draws the errors before and after a change with the same probability. No change
// is withdrawn.
func TestDecideByChance(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(n uint64, p float64) (c canary.Counters) {
		c.Responses = n
		for range n {
			if random.Float64() < p {
				c.Errors++
			}
		}
		return c
	}
	for _, p := range []float64{0.001, 0.02, 0.3, 0.9} {
		for range 500 {
			o := canary.Observation{Before: canary.Counts{"a": draw(200, p)}, After: canary.Counts{"a": draw(60, p)}}
			verdict, cause := canary.Policy{}.Decide(o)
			require.Equal(t, canary.Undecided, verdict, cause)
		}
	}
}

func TestMeter(t *testing.T) {
	var m canary.Meter
	require.Empty(t, m.Read(canary.Counts{"a": {Responses: 100, Errors: 7}}), "nobody knows when these were counted")
	require.Equal(t, canary.Counts{"a": {Responses: 10}, "b": {Responses: 1, ConnErrors: 2}},
		m.Read(canary.Counts{"a": {Responses: 110, Errors: 7}, "b": {Responses: 1, ConnErrors: 2}}))
	require.Equal(t, canary.Counts{"a": {Responses: 8, Errors: 8}}, m.Read(canary.Counts{"a": {Responses: 8, Errors: 8}}), "after a reload")
	require.Empty(t, m.Read(nil))
}

func TestRecent(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r := canary.Recent{Length: time.Minute}
	require.NotNil(t, r.Counts())
	for range 600 { // ten minutes, with one response in each second
		now = now.Add(time.Second)
		r.Add(now, canary.Counts{"a": {Responses: 1}})
	}
	n := r.Counts()["a"].Responses
	require.True(t, n >= 60 && n < 121, n)
}

func TestFromStats(t *testing.T) {
	require.Equal(t, canary.Counts{"a": {Responses: 12, Errors: 2, ConnErrors: 4}, "b": {ConnErrors: 1}}, canary.FromStats([]runtimeapi.Stat{
		{Proxy: "in", Server: "FRONTEND", Responses: [6]uint64{0, 0, 99, 0, 0, 99}},
		{Proxy: "a", Server: "n0", Responses: [6]uint64{0, 0, 10, 0, 0, 2}},
		{Proxy: "a", Server: "BACKEND", Responses: [6]uint64{0, 0, 10, 0, 0, 2}, ConnErrors: 4},
		{Proxy: "b", Server: "BACKEND", ConnErrors: 1},
		{Proxy: "c", Server: "BACKEND"},
	}))
}

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]canary.Probe{
		"https://api.example.com/tracks=204": {URL: "https://api.example.com/tracks", Status: 204},
		"http://a.example":                   {URL: "http://a.example", Status: 200},
		"http://a.example/?x=1":              {URL: "http://a.example/?x=1", Status: 200},
		"http://a.example/?x=404=503":        {URL: "http://a.example/?x=404", Status: 503},
	} {
		got, err := canary.ParseProbe(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for text, want := range map[string]string{
		"api.example.com": "want http or https", "ftp://a/": "want http or https", "http://": "want http or https",
		"http://u@a/": "want http or https", "http://a/#b": "want http or https", "http://a/=199": "a status from 200 to 599",
		"http://a\x00/": "cannot be parsed", "http://a/" + strings.Repeat("x", 500): "more than 500 bytes",
	} {
		_, err := canary.ParseProbe(text)
		require.ErrorContains(t, err, want)
	}
}

func FuzzParseProbe(f *testing.F) {
	for _, text := range []string{"https://api.example.com/tracks=204", "http://a/?x=200=503", "http://[::1]:80/", "http://a/%zz"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := canary.ParseProbe(text)
		if err != nil {
			return
		}
		require.True(t, p.Status >= 200 && p.Status <= 599)
		_, err = http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL, http.NoBody)
		require.NoError(t, err)
		if again, err := canary.ParseProbe(p.String()); err == nil { // URL.String may be longer than the text
			require.Equal(t, p, again)
		}
	})
}

func TestProber(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Host + r.URL.Path {
		case "a.example/old":
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
		case "a.example/slow":
			<-r.Context().Done()
		case "a.example/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("x"))
		case "a.example/new", "example.com/tls":
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are expected
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	r := canary.Prober{
		HTTP: plain.Listener.Addr().String(), HTTPS: secure.Listener.Addr().String(),
		TLS: &tls.Config{RootCAs: roots}, Timeout: 5 * time.Second,
	}
	for text, want := range map[string]string{
		"http://a.example/new": "", "http://a.example/old=301": "", "http://b.example/new=404": "", "https://example.com/tls": "",
		"http://a.example/old": "the status is 301", "http://b.example/new": "the status is 404",
		"http://a.example/cut": "the body ends early", "https://other.example/tls": "certificate",
	} {
		p, err := canary.ParseProbe(text)
		require.NoError(t, err)
		r.Probes = append(r.Probes, p)
		failed := r.Run(t.Context())
		got, ok := failed[p.String()]
		require.Equal(t, want != "", ok, "%s: %v", text, got)
		if ok {
			require.ErrorContains(t, got, want)
		}
	}
	require.Len(t, r.Run(t.Context()), 4)

	slow, err := canary.ParseProbe("http://a.example/slow")
	require.NoError(t, err)
	r.Probes, r.Timeout = []canary.Probe{slow}, 50*time.Millisecond
	require.ErrorIs(t, r.Run(t.Context())[slow.String()], context.DeadlineExceeded)
	r.HTTP = ""
	require.Equal(t, errors.New("HAProxy has no address for http"), r.Run(t.Context())[slow.String()])
}
