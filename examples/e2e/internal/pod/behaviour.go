package pod

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// A PUT of BehaviourPath with the query of a [Behaviour] changes the behaviour of the pod. A GET of
// CountsPath returns [Counts] as JSON.
const (
	BehaviourPath = "/-/behaviour"
	CountsPath    = "/-/counts"
)

// Behaviour is how a pod answers. With the zero Behaviour, it answers each request at once.
type Behaviour struct {
	// Fail is the share of the requests that the pod answers with Status, from 0 to 1.
	Fail float64
	// Status is the HTTP status of the requests that fail, from 500 to 599. 0 means 500.
	Status int
	// The pod waits for a random time, from Shortest to Longest, before it answers a request. A
	// request that fails gets its answer at once, as from a pod that has lost its database.
	Shortest, Longest time.Duration
}

// Query returns b as the query of a URL. A PUT of BehaviourPath with this query makes the pod
// behave like b.
func (b Behaviour) Query() string {
	return url.Values{"fail": {strconv.FormatFloat(b.Fail, 'g', -1, 64)}, "status": {strconv.Itoa(cmp.Or(b.Status, http.StatusInternalServerError))}, "shortest": {b.Shortest.String()}, "longest": {b.Longest.String()}}.Encode()
}

func parseBehaviour(q url.Values) (b Behaviour, err error) {
	if b.Fail, err = strconv.ParseFloat(q.Get("fail"), 64); err != nil || b.Fail < 0 || b.Fail > 1 {
		return b, fmt.Errorf("pod: fail=%s: want a share from 0 to 1", q.Get("fail"))
	}
	if b.Status, err = strconv.Atoi(q.Get("status")); err != nil || b.Status < 500 || b.Status > 599 {
		return b, fmt.Errorf("pod: status=%s: want 500 to 599", q.Get("status"))
	}
	if b.Shortest, err = time.ParseDuration(q.Get("shortest")); err != nil {
		return b, fmt.Errorf("pod: shortest: %w", err)
	}
	if b.Longest, err = time.ParseDuration(q.Get("longest")); err != nil {
		return b, fmt.Errorf("pod: longest: %w", err)
	}
	if b.Shortest < 0 || b.Longest < b.Shortest || b.Longest > maxWait {
		return b, fmt.Errorf("pod: want 0 <= shortest <= longest <= %s", maxWait)
	}
	return b, nil
}

// Counts are numbers of requests since the start of the pod.
type Counts struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"` // answered with Behaviour.Status
	InFlight int `json:"inFlight"`
	// MostInFlight is the largest InFlight so far.
	MostInFlight int `json:"mostInFlight"`
}

// behaving is the present Behaviour of a pod, and its Counts.
type behaving struct {
	mu        sync.Mutex
	behaviour Behaviour
	counts    Counts
}

// The method "around" returns a handler that answers some requests with an error. It passes all
// other requests to h, after a random delay. b decides about the errors and the delay.
func (b *behaving) around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		behaviour, fails := b.begin()
		defer b.end()
		if fails {
			http.Error(w, "the pod fails", behaviour.Status)
			return
		}
		if behaviour.Longest > 0 {
			work := time.NewTimer(behaviour.Shortest + rand.N(behaviour.Longest-behaviour.Shortest+1))
			defer work.Stop()
			select {
			case <-work.C:
			case <-r.Context().Done():
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

func (b *behaving) begin() (behaviour Behaviour, fails bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.counts
	c.Requests++
	c.InFlight++
	c.MostInFlight = max(c.MostInFlight, c.InFlight)
	if fails = rand.Float64() < b.behaviour.Fail; fails {
		c.Failed++
	}
	return b.behaviour, fails
}

func (b *behaving) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.InFlight--
}

func (b *behaving) change(w http.ResponseWriter, r *http.Request) {
	behaviour, err := parseBehaviour(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behaviour = behaviour
}

func (b *behaving) count(w http.ResponseWriter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(b.counts)
}
