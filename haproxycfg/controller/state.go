package controller

import (
	"sync"
	"time"

	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// inputs are the routes, clusters and certificates from which a configuration is built. Nobody
// changes the slices and objects in them.
type inputs struct {
	routes       Declarations
	clusters     []cluster // in the order of Controller.Clusters
	certificates certs.Files
	declared     int           // number of calls of inbox.setRoutes before
	shared       *sharedOrders // nil without Controller.Fleet
}

// cluster is the state of one cluster.
type cluster struct {
	ClusterState
	name  string
	since time.Time // when the cluster last stopped or began to answer
}

// connectivity returns how the report describes the connection to the cluster: Live, LastKnown, or
// Never if the cluster has not answered since the start.
func (c *cluster) connectivity() kube.Connectivity {
	connectivity := kube.Connectivity{State: kube.Live, Since: c.since}
	switch {
	case !c.Synced:
		connectivity.State = kube.Never
	case c.Err != nil:
		connectivity.State = kube.LastKnown
	}
	if c.Err != nil {
		connectivity.Reason = c.Err.Error()
	}
	return connectivity
}

// answered reports whether every cluster has answered, and all routes and the orders of the fleet
// have been read, since the start.
func (in inputs) answered() bool {
	if len(in.routes.Unread) > 0 || in.shared != nil && !in.shared.read {
		return false
	}
	for i := range in.clusters {
		if !in.clusters[i].Synced {
			return false
		}
	}
	return true
}

// inbox contains the latest inputs. Each source replaces its own part of the inputs. A source never
// waits for the goroutine that reads the inputs.
type inbox struct {
	// wake contains one element while there are changed inputs that the reader of the inputs has
	// not noticed yet, and otherwise none. The reader waits for this element.
	wake chan struct{}

	mu     sync.Mutex
	inputs inputs
}

func newInbox(clusters []Cluster, now time.Time) *inbox {
	in := &inbox{wake: make(chan struct{}, 1)}
	for _, c := range clusters {
		in.inputs.clusters = append(in.inputs.clusters, cluster{name: c.Name, since: toSeconds(now)})
	}
	return in
}

// toSeconds returns t in UTC and without fractions of a second, so that people can read the times
// in the report.
func toSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// latest returns the inputs.
func (in *inbox) latest() inputs {
	in.mu.Lock()
	defer in.mu.Unlock()
	latest := in.inputs
	latest.clusters = append([]cluster(nil), latest.clusters...)
	return latest
}

func (in *inbox) change(f func(*inputs)) {
	in.mu.Lock()
	f(&in.inputs)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *inbox) setRoutes(d Declarations) {
	in.change(func(latest *inputs) { latest.routes, latest.declared = d, latest.declared+1 })
}

// setCertificates sets the certificates. If they are the same as before, setCertificates does not
// wake the reader of the inputs.
func (in *inbox) setCertificates(files certs.Files) {
	in.mu.Lock()
	same := files.Equal(in.inputs.certificates)
	in.mu.Unlock()
	if !same {
		in.change(func(latest *inputs) { latest.certificates = files })
	}
}

// setCluster sets the state of cluster number i. If the new state is not Synced, setCluster uses
// only its Err.
func (in *inbox) setCluster(i int, now time.Time, state ClusterState) {
	in.change(func(latest *inputs) {
		c := &latest.clusters[i]
		wasSynced, wasAway := c.Synced, c.Err != nil
		if state.Synced {
			c.ClusterState = state
		} else {
			c.Err = state.Err
		}
		if c.Synced != wasSynced || c.Err != nil != wasAway {
			c.since = toSeconds(now)
		}
	})
}

// setUnreachable stores err as the reason why cluster number i does not answer. It does nothing if
// the reason is the same, because a source that fails every second must not cause an attempt every
// second. For each cluster, only one goroutine may call it.
func (in *inbox) setUnreachable(i int, now time.Time, err error) {
	in.mu.Lock()
	was := in.inputs.clusters[i].Err
	in.mu.Unlock()
	if was == nil || was.Error() != err.Error() {
		in.setCluster(i, now, ClusterState{Err: err})
	}
}
