package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/tophosts"
)

// The page about a host shows what the file, the cache and the API say. Only the link "Ask the API
// now" asks the API, and no request changes the cache.
func TestPageAboutAHost(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	api := newAPI(t, "a.test", a.http, "new.test", a.http)
	p := start(t, "-api", api.template(), "-hosts", hostsFile(t, "file.test", "127.0.0.1:3"))
	for _, host := range []string{"a.test", "gone.test"} {
		_, _ = get(client(t, p.http, nil), "http://"+host+"/")
	}
	shows := func(query string, parts ...string) {
		t.Helper()
		body := ""
		p.eventually(func() bool { // the router counts a connection after its client has ended it
			_, body = p.ask("GET", "/"+query)
			for _, part := range parts {
				if !strings.Contains(body, part) {
					return false
				}
			}
			return true
		}, parts, &body)
	}
	stats := func() string {
		_, body := p.ask("GET", "/metrics")
		var lines []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "headgate_router_cache_") || strings.HasPrefix(line, "headgate_router_api_") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	shows("?host=a.test", "the file does not have the host", a.http+" (app App of a.test, under the name a.test); a lookup is a hit", "Connections: 1; Failed connections: 0")
	before := stats()
	require.NotEmpty(t, before)
	shows("?host=A.test.", `<h2 id="host">a.test</h2>`)
	shows("?host=file.test", "127.0.0.1:3 (app App of file.test", "the cache stores nothing of the host", "Ask the API now")
	shows("?host=gone.test", "hostlookup: host not found", "Connections: 1; Failed connections: 1")
	shows("?host=%3Cscript%3E", "This is no host name: ", "&lt;script&gt;")
	_, body := p.ask("GET", "/?host=new.test")
	link := regexp.MustCompile(`<a href="\?ask=([A-Z2-7]{26})&amp;host=new\.test#host">Ask the API now</a>`).FindStringSubmatch(body)
	require.NotNil(t, link, body)
	secret := link[1]
	shows("?host=new.test&ask="+secret, a.http+" (app App of new.test, under the name new.test)</td><td>now, answered in ", "the cache stores nothing of the host")
	shows("?host=none.test&ask="+secret, "the API does not have the host")
	require.Equal(t, before, stats(), "the page changes neither the cache nor its statistics")

	// A page of another site does not know the secret. If an operator has a link with the secret
	// and turns refresh on, the page must not ask the API again and again.
	calls := api.calls.Load()
	for _, query := range []string{"ask=api", "ask=api&refresh=on", "ask=&refresh=on", "ask=" + secret + "x", "refresh=on&ask=" + secret} {
		for _, header := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}} {
			_, body := p.ask("GET", "/?host=new.test&"+query, header...)
			require.Contains(t, body, "Ask the API now", query)
			require.NotContains(t, body, `href="/?ask=`, "%s: a link of the bar", query)
			require.Equal(t, strings.Contains(query, "refresh=on"), strings.Contains(body, `http-equiv="refresh"`), query)
		}
	}
	require.Equal(t, calls, api.calls.Load())
	_, body = p.ask("GET", "/?host=new.test&ask="+secret)
	require.Contains(t, body, `<a href="/?host=new.test&amp;refresh=on">`)
	require.NotContains(t, body, secret)
	_, body = p.ask("GET", "/")
	require.Contains(t, body, `<a href="?host=a.test#host">a.test</a>`)
	require.NotContains(t, body, "Ask the API")
}

func TestAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a asker
		calls, answer := 0, make(chan error)
		api := hostlookup.Func(func(ctx context.Context, _ string) (hostlookup.Endpoint, error) {
			calls++
			select {
			case err := <-answer:
				return hostlookup.Endpoint{}, err
			case <-ctx.Done():
				return hostlookup.Endpoint{}, ctx.Err()
			}
		})
		first := make(chan *apiAnswer)
		go func() { first <- a.ask(t.Context(), api, "a.test") }()
		synctest.Wait()
		require.Contains(t, a.ask(t.Context(), api, "a.test").Err, "is running")
		answer <- errors.New("broken \u202e")
		require.Equal(t, "broken \ufffd", (<-first).Err)
		require.Contains(t, a.ask(t.Context(), api, "a.test").Err, "at most once in 1s")
		require.Equal(t, 1, calls)
		time.Sleep(askPause)
		require.Contains(t, a.ask(t.Context(), api, "a.test").Err, "deadline exceeded")
		require.Equal(t, 2, calls)
	})
}

func TestSamples(t *testing.T) {
	bad := errors.New("bad")
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		stats sniproxy.Stats
		want  tophosts.Sample
	}{
		"relayed":         {sniproxy.Stats{Name: "a.test", Outcome: sniproxy.Relayed, ToClient: 5, ToUpstream: 3, Dials: 1, Lookup: 2, Dial: 4}, tophosts.Sample{Host: "a.test", Bytes: 8, Wait: 6}},
		"not found":       {sniproxy.Stats{Name: "a.test", Outcome: sniproxy.NotFound, Err: bad, ToClient: 612, Lookup: 2}, tophosts.Sample{Host: "a.test", Failed: true}},
		"dial failed":     {sniproxy.Stats{Name: "a.test", Outcome: sniproxy.DialFailed, Err: bad, Dials: 2, Lookup: 2, Dial: 4}, tophosts.Sample{Host: "a.test", Failed: true, Wait: 6}},
		"invalid name":    {sniproxy.Stats{RawName: "<b>", Outcome: sniproxy.Rejected, Err: bad}, tophosts.Sample{Host: invalidName, Failed: true}},
		"no name":         {sniproxy.Stats{Outcome: sniproxy.Gone, Err: bad}, tophosts.Sample{Host: noName}},
		"without a fault": {sniproxy.Stats{Name: "a.test", Outcome: sniproxy.Gone, Err: bad}, tophosts.Sample{Host: "a.test"}},
	} {
		test.stats.Start, test.stats.Total = at, time.Second
		test.want.At = at.Add(time.Second)
		require.Equal(t, test.want, sampleOf(test.stats), name)
	}
	require.Equal(t, "999 B", byteText(999))
	require.Equal(t, "1.5 KiB", byteText(1536))
	require.Equal(t, "16.0 EiB", byteText(1<<64-1))
	require.Equal(t, "1 to 2", topMetrics[0].text(tophosts.Host{Least: 1, Most: 2}))
}

// BenchmarkFinished measures what the router does with the Stats of a connection that has ended, with
// and without the top hosts.
func BenchmarkFinished(b *testing.B) {
	err := errors.New("bad")
	for _, hosts := range []int{100, 100_000} {
		names := make([]string, hosts)
		for i := range names {
			names[i] = fmt.Sprintf("host-%06d.customers.example.com", i)
		}
		m := newMetrics()
		a := newAccessLog(slog.New(slog.NewTextHandler(io.Discard, nil)), 0, 0, m)
		var top tophosts.Counter
		stats := sniproxy.Stats{
			Protocol: peek.TLS, Client: netip.MustParseAddrPort("10.0.0.1:1"), Outcome: sniproxy.Relayed, LookedUp: true, Dials: 1, ToUpstream: 500, ToClient: 2000,
			Start: time.Now(), Peek: time.Millisecond, Lookup: time.Microsecond, Dial: time.Millisecond, Total: time.Second,
		}
		refused := stats
		refused.Outcome, refused.Err, refused.Dials = sniproxy.NotFound, err, 0
		for name, s := range map[string]sniproxy.Stats{"relayed": stats, "not-found": refused} {
			for _, counted := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/hosts=%d/top=%v", name, hosts, counted), func(b *testing.B) {
					b.ReportAllocs()
					i := 0
					for b.Loop() {
						s.Name = names[i%hosts]
						i++
						m.finished(s)
						a.finished(s)
						if counted {
							top.Add(sampleOf(s))
						}
					}
				})
			}
		}
	}
}
