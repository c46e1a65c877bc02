package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/headgate/headgate/sniproxy"
)

// accessLog keeps the last keptFaults refused connections for the status page. It also keeps the
// last keptFaults connections with another fault.
const keptFaults = 50

// ring contains the latest keptFaults connections of one kind.
type ring struct {
	list [keptFaults]sniproxy.Stats // connection n is at n % keptFaults
	seen int                        // number of connections so far
}

func (r *ring) add(s sniproxy.Stats) {
	r.list[r.seen%keptFaults] = s
	r.seen++
}

// latest returns the connections, the newest first.
func (r *ring) latest() (list []sniproxy.Stats) {
	for i := r.seen - 1; i >= max(r.seen-keptFaults, 0); i-- {
		list = append(list, r.list[i%keptFaults])
	}
	return list
}

// accessLog writes one line for each connection. It also keeps the latest connections with a fault,
// for the status page.
type accessLog struct {
	log       *slog.Logger
	sample    float64 // the share of the connections without a fault that get a line
	maxFaults int     // lines a second for faults of one outcome
	metrics   *metrics
	lines     chan sniproxy.Stats

	mu       sync.Mutex
	refusals ring                     // the faults for which isRefusal returns true
	faults   ring                     // all other faults
	written  map[sniproxy.Outcome]int // faults with a line, since writeOmitted
	omitted  map[sniproxy.Outcome]int // faults without a line, since writeOmitted
}

func newAccessLog(log *slog.Logger, sample float64, maxFaults int, m *metrics) *accessLog {
	return &accessLog{
		log: log, sample: sample, maxFaults: maxFaults, metrics: m, lines: make(chan sniproxy.Stats, 4096),
		written: map[sniproxy.Outcome]int{}, omitted: map[sniproxy.Outcome]int{},
	}
}

// isFault reports whether a connection failed. A client that leaves early is no fault. A client
// that resets the connection after an answer is no fault either, because many clients close
// connections in this way.
func isFault(s sniproxy.Stats) bool {
	return s.Err != nil && s.Outcome != sniproxy.Gone && !(s.ToClient > 0 && sniproxy.IsClientReset(s.Err))
}

// finished records a connection that has ended. It does not wait until the method "write" has
// written the line: the goroutines that serve connections call the method "finished", and must not
// wait for the log.
func (a *accessLog) finished(s sniproxy.Stats) {
	if isFault(s) {
		if !a.addFault(s) {
			return
		}
	} else if a.sample < 1 && rand.Float64() >= a.sample {
		return
	}
	select {
	case a.lines <- s:
	default:
		a.metrics.logDropped.Inc()
	}
}

// addFault stores a fault for the status page. It reports whether the fault gets a line in the log.
func (a *accessLog) addFault(s sniproxy.Stats) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if isRefusal(s) {
		a.refusals.add(s)
	} else {
		a.faults.add(s)
	}
	if a.written[s.Outcome] < a.maxFaults {
		a.written[s.Outcome]++
		return true
	}
	a.omitted[s.Outcome]++
	a.metrics.logOmitted.Inc()
	return false
}

// isRefusal reports whether a connection with a fault failed because the router refused it.
// Otherwise it failed because of a lookup, an upstream or the client.
func isRefusal(s sniproxy.Stats) bool {
	switch s.Outcome {
	case sniproxy.NotFound, sniproxy.Rejected, sniproxy.Limited, sniproxy.TimedOut:
		return true
	}
	return errors.Is(s.Err, sniproxy.ErrForbidden) || errors.Is(s.Err, sniproxy.ErrLoop)
}

// lastFaults returns the latest refused connections, and the latest connections with another fault,
// each at most keptFaults and the newest first. The refused connections have a list of their own,
// so that a flood of them does not push out the other faults.
func (a *accessLog) lastFaults() (refusals, others []sniproxy.Stats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refusals.latest(), a.faults.latest()
}

// write writes the lines to the log, until the channel "lines" is closed.
func (a *accessLog) write() {
	second := time.Tick(time.Second)
	defer a.writeOmitted()
	for {
		select {
		case <-second:
			a.writeOmitted()
		case s, ok := <-a.lines:
			if !ok {
				return
			}
			level := slog.LevelInfo
			if isFault(s) {
				level = slog.LevelWarn
			}
			a.log.LogAttrs(context.Background(), level, "connection", attrs(s)...)
		}
	}
}

// writeOmitted writes the number of faults that got no line of their own since its last call. It
// writes one line for each outcome that has such faults. Until the next call, up to maxFaults
// further faults of each outcome get a line.
func (a *accessLog) writeOmitted() {
	a.mu.Lock()
	omitted := a.omitted
	a.omitted = map[sniproxy.Outcome]int{}
	clear(a.written)
	a.mu.Unlock()
	for _, outcome := range slices.Sorted(maps.Keys(omitted)) {
		a.log.Warn("connections with a fault that have no line", "outcome", outcome.String(), "count", omitted[outcome])
	}
}

// attrs returns the fields of a log line. It leaves out most fields that have no value. It does not
// round times, so the sum of peek, lookup and dial is at most total.
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
		if d > 0 { // 0 means that the phase did not end
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
	if s.ECHResult != sniproxy.ECHNone {
		text("ech_result", s.ECHResult.String())
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

// addr returns the text of an address. The text of an invalid address is "".
func addr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
