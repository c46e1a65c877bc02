package main

import (
	"cmp"
	_ "embed"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/internal/webpage"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/tophosts"
)

// maxRows is the largest number of hosts, and also of open connections, on the status page.
const maxRows = 200

// maxQuery is the largest number of characters that the page uses of a parameter of its URL.
const maxQuery = 300

//go:embed status.html
var statusText string

var statusPage = webpage.New(statusText, nil)

// status serves the status page, and the requests POST and DELETE for /drain. It does not check the
// permission for /drain: cli.Admin checks it before it passes the request to status.
type status struct {
	started   time.Time
	listeners []string
	srv       *sniproxy.Server
	hosts     *hosts
	log       *accessLog
	drain     *drain.Drainer
	top       *tophosts.Counter
	asker     asker
	logger    *slog.Logger
}

// statusData is the data of the template status.html.
type statusData struct {
	Bar         webpage.Bar
	Query       string
	MaxRows     int
	Uptime      time.Duration
	Draining    time.Time
	Listeners   []string
	Load        sniproxy.Load
	Cache       *hostlookup.Stats // nil without a cache
	FileHosts   int               // -1 without a file
	Hosts       []hostRow
	Connections []connectionRow
	Refusals    []connectionRow
	Faults      []connectionRow
	Host        *hostView // nil if the request names no host
	Top         []topTable
	TopSince    time.Time // zero before the first connection has ended
}

type hostRow struct {
	Name, App, Endpoint, Source, Err string
	Left                             time.Duration
	Answered                         time.Time // see hostlookup.Entry
	Link                             string
}

type connectionRow struct {
	At                                                                            string
	ID                                                                            uint64
	Client, Protocol, Name, App, Endpoint, Upstream, Level, Phase, Outcome, Error string
	Age                                                                           time.Duration
}

func (s *status) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("POST /drain", s.beginDrain)
	mux.HandleFunc("DELETE /drain", s.endDrain)
	return mux
}

func (s *status) page(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	q := r.URL.Query()
	d := s.data(webpage.Text(maxQuery, q.Get("q")), now)
	// The page asks the API only after a click on the link "Ask the API now". So it does not ask the
	// API when it refreshes itself, and the links in its bar lack the parameter "ask".
	ask := q.Get("ask")
	q.Del("ask")
	d.Bar = webpage.NewBar(&http.Request{URL: &url.URL{Path: r.URL.Path, RawQuery: q.Encode()}}, now)
	if name := q.Get("host"); name != "" {
		d.Host = s.view(webpage.Text(maxQuery, name))
		if d.Host.HasAPI && !d.Bar.Refresh && s.asker.mayAsk(ask) {
			d.Host.Asked = s.asker.ask(r.Context(), s.hosts.api, d.Host.Name)
		}
	}
	statusPage.Write(w, http.StatusOK, webpage.Head{Title: program, Refresh: d.Bar.Refresh}, d)
}

func (s *status) data(query string, now time.Time) statusData {
	d := statusData{
		Query: query, MaxRows: maxRows, Uptime: now.Sub(s.started).Round(time.Second),
		Draining: s.drain.Progress().Since, Listeners: s.listeners, Load: s.srv.Load(), FileHosts: -1,
	}
	d.Hosts = s.hostRows(query)
	if s.hosts.file != nil {
		d.FileHosts = s.hosts.file.Hosts().Len()
	}
	if s.hosts.cache != nil {
		stats := s.hosts.cache.Stats()
		d.Cache = &stats
	}
	for c := range s.srv.Connections() {
		if row := connectionOf(c, now); row.matches(query) {
			d.Connections = append(d.Connections, row)
			if len(d.Connections) == maxRows {
				break
			}
		}
	}
	refusals, others := s.log.lastFaults()
	for _, c := range refusals {
		if row := connectionOf(c, now); row.matches(query) {
			d.Refusals = append(d.Refusals, row)
		}
	}
	for _, c := range others {
		if row := connectionOf(c, now); row.matches(query) {
			d.Faults = append(d.Faults, row)
		}
	}
	d.Top, d.TopSince = topTables(s.top, query), s.top.Since()
	return d
}

// hostRows returns the hosts of the file and the cache that match the query, at most maxRows.
func (s *status) hostRows(query string) []hostRow {
	var rows []hostRow
	add := func(row hostRow) bool {
		if matches(query, row.Name, row.App, row.Endpoint) {
			row.Link = hostLink(row.Name, "")
			rows = append(rows, row)
		}
		return len(rows) < maxRows
	}
	if s.hosts.file != nil {
		for host, ep := range s.hosts.file.Hosts().All() {
			if !add(hostRow{Name: host, App: ep.App, Endpoint: ep.Addr, Source: "file"}) {
				break
			}
		}
	}
	if s.hosts.cache != nil && len(rows) < maxRows {
		for host, entry := range s.hosts.cache.All() {
			row := hostRow{Name: host, App: entry.Endpoint.App, Endpoint: entry.Endpoint.Addr, Source: entry.Level.String(), Left: entry.Left.Round(time.Second), Answered: entry.Answered}
			if entry.Level == hostlookup.Miss {
				row.Source = "expired"
			}
			if entry.Err != nil {
				row.Err = entry.Err.Error()
			}
			if !add(row) {
				break
			}
		}
	}
	slices.SortFunc(rows, func(a, b hostRow) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Source, b.Source))
	})
	return rows
}

func connectionOf(s sniproxy.Stats, now time.Time) connectionRow {
	row := connectionRow{
		At: s.Start.UTC().Format("15:04:05"), ID: s.ID, Client: addr(s.Client), Protocol: s.Protocol.String(),
		Name: cmp.Or(s.Name, s.RawName), App: s.Endpoint.App, Endpoint: s.Endpoint.Addr, Upstream: addr(s.Upstream),
		Phase: s.Phase.String(), Outcome: s.Outcome.String(), Age: now.Sub(s.Start).Round(time.Second),
	}
	if s.LookedUp {
		row.Level = s.Level.String()
	}
	if s.Err != nil {
		row.Error = s.Err.Error()
	}
	return row
}

func (c connectionRow) matches(query string) bool {
	return matches(query, c.Name, c.App, c.Endpoint, c.Client, c.Upstream)
}

// matches reports whether at least one of the texts contains the query.
func matches(query string, texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, query) })
}
