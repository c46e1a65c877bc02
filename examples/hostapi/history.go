package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// bounds of the history in bytes of JSON. Whoever asks for what is no more in it is told
// that everything may have changed.
type bounds struct {
	step    int // one change of the sources; a larger one is not kept
	answer  int // at least step
	history int
}

var defaultBounds = bounds{step: 1 << 20, answer: 2 << 20, history: 8 << 20}

// minGuarded is how many hosts must go at once before that may be refused.
const minGuarded = 10

// history is the catalog in force, and how it came to that.
type history struct {
	maxAge     time.Duration // that routers may keep an answer for
	maxRemoved float64       // share of the hosts that may go at once
	bounds     bounds

	mu      sync.Mutex
	current *catalog // nil before the first
	steps   []step
	size    int
	changed chan struct{} // closed at the next change
}

// step leads from one version to the next.
type step struct {
	from, to string
	changes  [][]byte // as JSON
	size     int
}

func newHistory(maxAge time.Duration, maxRemoved float64) *history {
	return &history{maxAge: maxAge, maxRemoved: maxRemoved, bounds: defaultBounds, changed: make(chan struct{})}
}

// catalog returns the one in force.
func (h *history) catalog() *catalog {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// publish puts a catalog in force, and tells what that changes. The error is for one that
// lacks too many of the hosts; then nothing changes.
func (h *history) publish(next *catalog) (difference, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		h.current = next
		return difference{}, nil
	}
	d := diff(h.current, next)
	if d.len() == 0 {
		return d, nil
	}
	if n := len(d.removed); n >= minGuarded && float64(n) > h.maxRemoved*float64(len(h.current.hosts)) {
		return d, fmt.Errorf("%d of %d hosts would go at once, %s first; -max-removed is %g%%, and a restart accepts it",
			n, len(h.current.hosts), d.removed[0], 100*h.maxRemoved)
	}
	h.remember(h.stepOf(next.version, d))
	h.current = next
	close(h.changed)
	h.changed = make(chan struct{})
	return d, nil
}

// change is a member of an answer of /changes; see httpapi.Feed.
type change struct {
	Host     string `json:"host"`
	App      string `json:"app,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	MaxAge   int64  `json:"max_age,omitempty"`
}

func (h *history) stepOf(to string, d difference) step {
	s := step{from: h.current.version, to: to}
	add := func(c change) {
		text, _ := json.Marshal(c) // cannot fail: strings and a number
		s.changes = append(s.changes, text)
		s.size += len(text) + 1
	}
	for _, host := range d.removed {
		add(change{Host: host})
	}
	for _, ep := range d.set {
		// Without a lifetime there is nothing to hand out beforehand. And a wildcard
		// is forgotten, so that each name below it is asked for: some of them may
		// have entries of their own.
		if seconds := int64(h.maxAge / time.Second); seconds > 0 && ep.Host[0] != '*' {
			add(change{ep.Host, ep.App, ep.Addr, seconds})
		} else {
			add(change{Host: ep.Host})
		}
	}
	return s
}

func (h *history) remember(s step) {
	if s.size > h.bounds.step {
		h.steps, h.size = nil, 0 // what came before leads to nothing known
		return
	}
	h.steps, h.size = append(h.steps, s), h.size+s.size
	for h.size > h.bounds.history {
		h.size -= h.steps[0].size
		h.steps[0] = step{} // the array stays for a while
		h.steps = h.steps[1:]
	}
}

// news is an answer of /changes; see httpapi.Feed.
type news struct {
	Version string            `json:"version"`
	Reset   bool              `json:"reset,omitempty"`
	Changes []json.RawMessage `json:"changes,omitempty"`
}

// since tells what has changed since a version, and returns a channel that is closed at
// the next change. An answer may stop at a version on the way.
func (h *history) since(version string) (news, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if version == h.current.version {
		return news{Version: version}, h.changed
	}
	// The same content may have been in force more than once: the last time counts.
	first := len(h.steps) - 1
	for first >= 0 && h.steps[first].from != version {
		first--
	}
	if first < 0 {
		return news{Version: h.current.version, Reset: true}, h.changed
	}
	n, size := news{}, 0
	for _, s := range h.steps[first:] {
		if size += s.size; size > h.bounds.answer {
			break
		}
		n.Version = s.to
		for _, c := range s.changes {
			n.Changes = append(n.Changes, c)
		}
	}
	return n, h.changed
}

// lookup finds a host in the catalog in force.
func (h *history) lookup(host string) (hostlookup.Endpoint, bool) { return h.catalog().lookup(host) }
