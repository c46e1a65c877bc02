package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"math"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/internal/webpage"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/tophosts"
)

// These are the names under which the router counts connections that named no valid host. No host
// can have such a name.
const (
	noName      = "(no name)"
	invalidName = "(invalid name)"
)

// sampleOf returns what the router counts of a connection that has ended.
func sampleOf(s sniproxy.Stats) tophosts.Sample {
	sample := tophosts.Sample{Host: s.Name, At: s.Start.Add(s.Total), Failed: isFault(s)}
	switch {
	case s.RawName != "":
		sample.Host = invalidName
	case s.Name == "":
		sample.Host = noName
	}
	// The Counter counts bytes only of relayed connections, and waiting time only of connections
	// for which the router tried an upstream. So a flood of refused connections adds nothing to
	// these two values.
	if s.Outcome == sniproxy.Relayed {
		sample.Bytes = s.ToUpstream + s.ToClient
	}
	if s.Dials > 0 {
		sample.Wait = s.Lookup + s.Dial
	}
	return sample
}

// topTable is a table of the hosts with the largest values of one metric.
type topTable struct {
	ID, Title string
	Rows      []topRow
}

type topRow struct {
	Name, Value string
	Link        string // to the page about the host; "" for noName and invalidName
}

// topRows is the largest number of hosts in a topTable.
const topRows = 10

// topTables returns the tables with the hosts whose names contain the query.
func topTables(c *tophosts.Counter, query string) (tables []topTable) {
	for _, m := range topMetrics {
		t := topTable{ID: "top-" + m.id, Title: m.title}
		for _, h := range c.Top(m.metric, math.MaxInt) {
			if !matches(query, h.Name) {
				continue
			}
			if len(t.Rows) == topRows {
				break
			}
			row := topRow{Name: h.Name, Value: m.text(h)}
			if h.Name != noName && h.Name != invalidName {
				row.Link = hostLink(h.Name, "")
			}
			t.Rows = append(t.Rows, row)
		}
		tables = append(tables, t)
	}
	return tables
}

type topMetric struct {
	metric    tophosts.Metric
	id, title string
	format    func(uint64) string
}

var topMetrics = []topMetric{
	{tophosts.Connections, "connections", "Connections", func(n uint64) string { return strconv.FormatUint(n, 10) }},
	{tophosts.Failures, "failures", "Failed connections", func(n uint64) string { return strconv.FormatUint(n, 10) }},
	{tophosts.Bytes, "bytes", "Bytes in both directions", byteText},
	{tophosts.Wait, "wait", "Time to look up and connect, in total", waitText},
}

func (m topMetric) text(h tophosts.Host) string {
	if h.Exact() {
		return m.format(h.Most)
	}
	return m.format(h.Least) + " to " + m.format(h.Most)
}

func waitText(n uint64) string {
	d := time.Duration(min(n, math.MaxInt64))
	if d < time.Second {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func byteText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[i]
}

// hostLink returns the link to the part of the status page about a host. If the argument "secret"
// is the secret of this process (the field asker.secret), the linked page asks the API about the
// host. If secret is "", the linked page does not ask the API.
func hostLink(host, secret string) string {
	query := url.Values{"host": {host}}
	if secret != "" {
		query.Set("ask", secret)
	}
	return "?" + query.Encode() + "#host"
}

// hostView is the part of the page about one host.
type hostView struct {
	Name  string // in normal form, or as given if Wrong is not ""
	Wrong string // why Name is no host
	// HasFile, HasCache and HasAPI say which sources the router has.
	HasFile, HasCache, HasAPI bool
	File                      *hostlookup.Endpoint // nil if the file does not have the host
	Entry                     *hostlookup.Entry    // nil if the cache stores nothing
	Asked                     *apiAnswer           // nil if the request does not ask the API
	Ask                       string               // the link that asks the API
	Values                    []topRow             // the values of the host
}

// view returns what the router knows about a host. It does not ask the API, and changes neither the
// cache nor the statistics of the cache.
func (s *status) view(name string) *hostView {
	host, err := hostname.NormalizeHost(name)
	if err != nil {
		return &hostView{Name: name, Wrong: err.Error()}
	}
	v := &hostView{Name: host, HasFile: s.hosts.file != nil, HasCache: s.hosts.cache != nil, HasAPI: s.hosts.api != nil, Ask: hostLink(host, s.asker.secret)}
	if v.HasFile {
		if a, err := s.hosts.file.Peek(host); err == nil {
			v.File = &a.Endpoint
		}
	}
	if v.HasCache {
		if e, ok := s.hosts.cache.Entry(host); ok {
			v.Entry = &e
		}
	}
	for _, m := range topMetrics {
		v.Values = append(v.Values, topRow{Name: m.title, Value: m.text(s.top.Value(m.metric, host))})
	}
	return v
}

// apiAnswer is what the API says about a host.
type apiAnswer struct {
	Endpoint hostlookup.Endpoint
	NotFound bool
	Err      string // why there is no answer
	Took     time.Duration
}

// asker sends the requests of the status page to the API, without the cache. So that the page
// cannot overload the API, only one request runs at a time, and the next one may begin askPause
// after its end.
type asker struct {
	secret string // see mayAsk
	mu     sync.Mutex
	next   time.Time
}

const (
	askPause   = time.Second
	askTimeout = 3 * time.Second
)

// mayAsk reports whether the parameter "ask" of a request is the secret of the links on the status
// page. A page of another site can make the browser of an operator send requests, but cannot read
// the secret.
//
// The header Sec-Fetch-Site cannot replace the secret: browsers do not send it over HTTP to another
// machine. And if another site has opened the status page, the header is "same-origin" as soon as
// the page refreshes itself.
func (a *asker) mayAsk(ask string) bool {
	return a.secret != "" && subtle.ConstantTimeCompare([]byte(ask), []byte(a.secret)) == 1
}

func (a *asker) ask(ctx context.Context, api hostlookup.Lookup, host string) *apiAnswer {
	if !a.mu.TryLock() {
		return &apiAnswer{Err: "another request to the API is running; try again"}
	}
	defer a.mu.Unlock()
	begin := time.Now()
	if begin.Before(a.next) {
		return &apiAnswer{Err: "the page asks the API at most once in " + askPause.String() + "; try again"}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := api.LookupHost(ctx, host)
	a.next = time.Now().Add(askPause)
	// An API on the same machine answers within half a millisecond.
	result := &apiAnswer{Endpoint: answer.Endpoint, Took: time.Since(begin).Round(time.Microsecond)}
	switch {
	case errors.Is(err, hostlookup.ErrNotFound):
		result.NotFound = true
	case err != nil:
		result.Err = webpage.Text(500, err.Error())
	}
	return result
}
