package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/sniproxy"
)

// keptFaults is how many faults the status page shows.
const keptFaults = 50

// accessLog writes a line for each connection, and keeps the last faults.
type accessLog struct {
	log     *slog.Logger
	sample  float64            // share of the connections without fault
	dropped prometheus.Counter // lines
	lines   chan sniproxy.Stats

	mu     sync.Mutex
	faults [keptFaults]sniproxy.Stats
	seen   int // faults
}

func newAccessLog(log *slog.Logger, sample float64, dropped prometheus.Counter) *accessLog {
	return &accessLog{log: log, sample: sample, dropped: dropped, lines: make(chan sniproxy.Stats, 4096)}
}

// fault tells whether a connection is of interest one by one.
func fault(s sniproxy.Stats) bool {
	return s.Err != nil && s.Outcome != sniproxy.Gone
}

// finished takes a connection in. It does not wait for the log to be written: it is called
// from where connections are served.
func (a *accessLog) finished(s sniproxy.Stats) {
	if fault(s) {
		a.mu.Lock()
		a.faults[a.seen%keptFaults] = s
		a.seen++
		a.mu.Unlock()
	} else if a.sample < 1 && rand.Float64() >= a.sample {
		return
	}
	select {
	case a.lines <- s:
	default:
		a.dropped.Inc()
	}
}

// lastFaults returns the last faults, the newest first.
func (a *accessLog) lastFaults() []sniproxy.Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []sniproxy.Stats
	for i := a.seen - 1; i >= max(a.seen-keptFaults, 0); i-- {
		list = append(list, a.faults[i%keptFaults])
	}
	return list
}

// write writes the lines until there are no more; close(a.lines) ends it.
func (a *accessLog) write() {
	for s := range a.lines {
		level := slog.LevelInfo
		if fault(s) {
			level = slog.LevelWarn
		}
		a.log.LogAttrs(context.Background(), level, "connection", attrs(s)...)
	}
}

// attrs are the fields of a line. Those without a value are left out.
func attrs(s sniproxy.Stats) []slog.Attr {
	list := []slog.Attr{
		slog.Uint64("id", s.ID),
		slog.String("client", addr(s.Client)),
		slog.String("listener", s.Listener),
		slog.String("protocol", s.Protocol.String()),
		slog.String("outcome", s.Outcome.String()),
	}
	text := func(key, value string) {
		if value != "" {
			list = append(list, slog.String(key, value))
		}
	}
	took := func(key string, d time.Duration) {
		if d > 0 {
			list = append(list, slog.Duration(key, d))
		}
	}
	text("name", s.Name)
	text("raw_name", s.RawName)
	if s.Peer != s.Client {
		text("peer", addr(s.Peer))
	}
	text("app", s.Endpoint.App)
	text("endpoint", s.Endpoint.Addr)
	text("upstream", addr(s.Upstream))
	if s.LookedUp {
		text("level", s.Level.String())
	}
	if s.Fallback {
		list = append(list, slog.Bool("fallback", true))
	}
	if s.ECH {
		list = append(list, slog.Bool("ech", true))
	}
	if s.Answer != 0 {
		list = append(list, slog.Int("answer", s.Answer))
	}
	list = append(list, slog.Int64("sent", s.ToUpstream), slog.Int64("received", s.ToClient))
	took("peek", s.Peek)
	took("lookup", s.Lookup)
	took("dial", s.Dial)
	took("total", s.Total)
	if s.Err != nil {
		text("phase", s.Phase.String())
		text("err", s.Err.Error())
	}
	return list
}

// addr is "" for no address.
func addr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
