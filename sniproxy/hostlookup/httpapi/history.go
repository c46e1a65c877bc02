package httpapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// An Update says how many hosts one Publish changed. A wildcard counts as one host.
type Update struct {
	Version string // the version of the present hosts; equal hosts have the same version in every process
	Set     int    // new hosts, and hosts with another endpoint or app
	Removed int
}

// A RemovalError reports that Publish refused the new hosts, because they lack too many of the
// present hosts.
type RemovalError struct {
	Removed, Hosts int     // the missing hosts, and the present hosts
	First          string  // the first missing host in alphabetical order
	MaxRemoved     float64 // the share that may be removed, from 0 to 1
}

func (e *RemovalError) Error() string {
	return fmt.Sprintf("httpapi: %d of %d hosts would be removed at once, %s first; at most %g%% may be",
		e.Removed, e.Hosts, e.First, 100*e.MaxRemoved)
}

// publish refuses a change only if it removes at least minRefused hosts.
const minRefused = 10

// A history has the present hosts, and the last changes that led to them.
type history struct {
	maxAge     time.Duration // how long clients may keep an endpoint
	maxRemoved float64       // the share of the hosts that one publish may remove
	limits     limits

	mu      sync.Mutex
	current *snapshot // nil before the first publish
	steps   []step    // oldest first; each step begins at the version at which the previous step ends
	size    int       // the size of all steps, in bytes of JSON
	changed chan struct{}
}

// limits bound the size of the changes that a history stores, in bytes of JSON. Above a limit, the
// history drops its oldest steps; a step contains the changes of one publish. A client that needs a
// dropped step gets an answer with Reset, and must fetch all hosts again.
type limits struct {
	step    int // for the changes of one publish; the history does not keep a larger step
	answer  int // for the changes in one answer; at least the limit step
	history int
}

var defaultLimits = limits{step: 1 << 20, answer: 2 << 20, history: 8 << 20}

// A snapshot is one published set of hosts, and the version of this set. It never changes.
type snapshot struct {
	hosts   *hostlookup.Hosts
	version string
}

// A step has the changes from one published version to the next.
type step struct {
	from, to string
	changes  []change
	size     int // the length of the changes as JSON, in bytes
}

func newHistory(maxAge time.Duration, maxRemoved float64) *history {
	return &history{maxAge: maxAge, maxRemoved: maxRemoved, limits: defaultLimits, changed: make(chan struct{})}
}

func newSnapshot(hosts *hostlookup.Hosts) *snapshot {
	byHost := maps.Collect(hosts.All())
	hash := sha256.New()
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		ep := byHost[host]
		fmt.Fprintf(hash, "%q %q %q\n", host, ep.App, ep.Addr)
	}
	return &snapshot{hosts, hex.EncodeToString(hash.Sum(nil)[:8])}
}

// snapshot returns the hosts of the last call of publish, or nil before the first call.
func (h *history) snapshot() *snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// publish replaces the present hosts by those in the argument "hosts". If too many of the present
// hosts are missing in the argument, publish changes nothing and returns a *RemovalError.
func (h *history) publish(hosts *hostlookup.Hosts) (Update, error) {
	next := newSnapshot(hosts)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		h.current = next
		return Update{Version: next.version}, nil
	}
	set, removed := diff(h.current.hosts, next.hosts)
	update := Update{Version: next.version, Set: len(set), Removed: len(removed)}
	if len(set)+len(removed) == 0 {
		return update, nil
	}
	if n := len(removed); n >= minRefused && float64(n) > h.maxRemoved*float64(h.current.hosts.Len()) {
		return Update{Version: h.current.version}, &RemovalError{n, h.current.hosts.Len(), removed[0], h.maxRemoved}
	}
	h.remember(h.newStep(next.version, set, removed))
	h.current = next
	close(h.changed)
	h.changed = make(chan struct{})
	return update, nil
}

// diff compares the hosts before a change (old) and after it (now). The result "set" has the
// endpoints that are new or changed, sorted by host. The result "removed" has the hosts that are
// missing after the change, sorted.
func diff(old, now *hostlookup.Hosts) (set []hostlookup.Endpoint, removed []string) {
	oldByHost, nowByHost := maps.Collect(old.All()), maps.Collect(now.All())
	for host, ep := range nowByHost {
		if before, ok := oldByHost[host]; !ok || before != ep {
			set = append(set, ep)
		}
	}
	for host := range oldByHost {
		if _, ok := nowByHost[host]; !ok {
			removed = append(removed, host)
		}
	}
	slices.SortFunc(set, func(a, b hostlookup.Endpoint) int { return cmp.Compare(a.Host, b.Host) })
	slices.Sort(removed)
	return set, removed
}

func (h *history) newStep(to string, set []hostlookup.Endpoint, removed []string) step {
	s := step{from: h.current.version, to: to}
	add := func(c change) {
		s.changes = append(s.changes, c)
		text, _ := json.Marshal(c) // cannot fail: strings and a number
		s.size += len(text) + 1
	}
	for _, host := range removed {
		add(change{Host: host})
	}
	for _, ep := range set {
		// Leave out the endpoint in two cases. If maxAge is below 1 s, a client may not keep an
		// endpoint. If the host is a wildcard, some names below it may have entries of their own,
		// so the client must ask about each name.
		if seconds := int64(h.maxAge / time.Second); seconds > 0 && !isWildcard(ep.Host) {
			add(change{ep.Host, ep.App, ep.Addr, seconds})
		} else {
			add(change{Host: ep.Host})
		}
	}
	return s
}

// remember adds the step s, the changes of one publish, to the history. If the steps of the history
// then exceed a limit, remember drops the oldest steps.
func (h *history) remember(s step) {
	if s.size > h.limits.step {
		// The step s alone exceeds the limit, so the history cannot store it. Without s, the older
		// steps do not lead to the present version any more, so drop them all.
		h.steps, h.size = nil, 0
		return
	}
	h.steps, h.size = append(h.steps, s), h.size+s.size
	for h.size > h.limits.history {
		h.size -= h.steps[0].size
		h.steps[0] = step{} // frees the step: the array keeps its elements until append copies the slice
		h.steps = h.steps[1:]
	}
}

// The method "since" returns the changes after the version in the argument. If one answer cannot
// contain all changes up to the present version, it contains the first of them. The result
// "changed" is a channel, which is closed by the next publish that changes hosts. Before the first
// publish, the result "ok" is false.
func (h *history) since(version string) (answer changes, changed <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		return changes{}, nil, false
	}
	if version == h.current.version {
		return changes{Version: version}, h.changed, true
	}
	// A step contains the changes of one publish. Equal sets of hosts have the same version, so the
	// steps can contain a version more than once, as v1 in v1 → v2 → v1 → v3. Assume that the
	// client has the last of these equal versions.
	first := len(h.steps) - 1
	for first >= 0 && h.steps[first].from != version {
		first--
	}
	if first < 0 {
		return changes{Version: h.current.version, Reset: true}, h.changed, true
	}
	size := 0
	for _, s := range h.steps[first:] {
		if size += s.size; size > h.limits.answer {
			break
		}
		answer.Version = s.to
		answer.Changes = append(answer.Changes, s.changes...)
	}
	return answer, h.changed, true
}
