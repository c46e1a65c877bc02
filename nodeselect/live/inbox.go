package live

import (
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/headgate/headgate/nodeselect"
)

const (
	kindNodes = iota
	kindServices
	kindSlices
	kinds
)

// inbox is where the sources of a Watcher put what they learn, until it is taken. It
// remembers what it has been given, so that a list is the differences to that, and an
// event that changes nothing is none.
type inbox struct {
	arrived chan struct{} // has an element when there may be something to take

	mu      sync.Mutex
	news    bool // something has changed, and arrived does not have its element yet
	delta   nodeselect.Delta
	failing [kinds]error // by what the API server does not answer
	synced  bool         // the cluster has been seen whole
	since   time.Time    // when nothing but slices were missing for that

	nodes    *roll[*corev1.Node]
	services *roll[*corev1.Service]
	slices   *roll[*discoveryv1.EndpointSlice] // nil if they are not followed
	rolls    [kinds]doubter                    // these, nil if not followed
	pods     pods
}

// doubter is a roll of any kind, and what it doubts.
type doubter interface {
	doubts() error
	answered(now time.Time)
	believe(now time.Time)
}

func newInbox() *inbox {
	in := &inbox{arrived: make(chan struct{}, 1)}
	in.nodes = newRoll("nodes", in, func(name string, n *corev1.Node) {
		set(&in.delta.Nodes, name, n)
		in.news = true
	})
	in.services = newRoll("services", in, func(key string, s *corev1.Service) {
		set(&in.delta.Services, key, s)
		in.news = true
		in.pods.setLocal(key, isLocal(s))
	})
	in.rolls[kindNodes], in.rolls[kindServices] = in.nodes, in.services
	in.pods.changed = func(key string, nodes []string) {
		set(&in.delta.ReadyNodes, key, nodes)
		in.news = true
	}
	return in
}

// followSlices makes the inbox take slices too. Nothing of a cluster is in it yet.
func (in *inbox) followSlices() {
	in.slices = newRoll("endpointslices", in, in.pods.setSlice)
	in.slices.listedFirst = func() {
		in.delta.ReadyNodes = map[string][]string{} // known, even if there is none
		in.pods.listed()
	}
	in.rolls[kindSlices] = in.slices
}

func set[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

// put lets f change the inbox. Where that is no news, nobody is woken: a burst is over
// when nothing has changed for a while, and nodes send heartbeats all the time.
func (in *inbox) put(f func(*inbox)) {
	in.mu.Lock()
	f(in)
	news := in.news
	in.news = false
	in.mu.Unlock()
	if !news {
		return
	}
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

// health gives the function that a source tells how it fares.
func (in *inbox) health(kind int) func(error) {
	return func(err error) {
		in.put(func(in *inbox) {
			in.failing[kind], in.news = err, true
			if err == nil && in.rolls[kind] != nil {
				in.rolls[kind].answered(time.Now())
			}
		})
	}
}

// take gives what has arrived since the last time. Nothing but err is given until the
// cluster has been seen whole.
func (in *inbox) take(now time.Time) (delta nodeselect.Delta, synced bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var faults faults
	for _, f := range in.failing {
		if f != nil {
			faults = append(faults, f)
		}
	}
	for _, r := range in.rolls {
		if r == nil {
			continue
		}
		if doubt := r.doubts(); doubt != nil {
			faults = append(faults, doubt)
		}
	}
	if len(faults) > 0 {
		err = fmt.Errorf("nodeselect/live: %w", faults)
	}
	in.synced = in.synced || in.complete(now)
	if !in.synced {
		return nodeselect.Delta{}, false, err
	}
	delta, in.delta = in.delta, nodeselect.Delta{}
	return delta, true, err
}

// slicesWait is how long slices that cannot be read are waited for when all else is
// there. An API server that starts fails this way too, for a moment; without slices
// services that are local would get nodes without pods for as long.
const slicesWait = 10 * time.Second

// complete says whether everything has been listed that is worth waiting for.
func (in *inbox) complete(now time.Time) bool {
	if !in.nodes.listed || !in.services.listed {
		return false
	}
	if in.slices == nil || in.slices.listed {
		return true
	}
	if in.since.IsZero() {
		in.since = now
	}
	err := in.failing[kindSlices]
	return err != nil && (refused(err) || now.Sub(in.since) >= slicesWait)
}

// refused says whether an error of the API server is its last word.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

// believe lets go of what has been missing for long enough.
func (in *inbox) believe(now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for kind, r := range in.rolls {
		if r != nil && in.failing[kind] == nil { // nobody could say that it is back
			r.believe(now)
		}
	}
}

// faults are errors on one line.
type faults []error

func (f faults) Error() string {
	texts := make([]string, len(f))
	for i := range f {
		texts[i] = f[i].Error()
	}
	return strings.Join(texts, "; ")
}

func (f faults) Unwrap() []error { return f }
