package drill

import (
	"slices"
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// World is everything outside the Controller at one moment of a drill. A Step returns a changed
// copy, and never changes what a World points to.
type World struct {
	// Now is the time of the Step.
	Now      time.Time
	Clusters []Cluster
}

// Cluster is a cluster at one moment of a drill.
type Cluster struct {
	// Name is the name of the cluster in routes.
	Name string
	// Objects are the nodes and services. If Objects.ReadyNodes is not nil, it has the nodes with
	// ready pods, as controller.Manifests reads them.
	Objects nodeselect.Objects
	// API is what the API server does.
	API API
	// Down are the names of the nodes that serve nothing, whatever the API server says.
	Down map[string]bool
	// NoAgents means that no node agent runs.
	NoAgents bool
}

// API is what an API server does.
type API int

const (
	Answers API = iota // it has Cluster.Objects
	Away               // nobody listens at its address
	Empty              // it answers, but has lost all objects
)

// Each returns the function that applies f to each cluster of a World.
func Each(f func(now time.Time, c Cluster) Cluster) func(World) World {
	return func(w World) World {
		w.Clusters = slices.Clone(w.Clusters)
		for i := range w.Clusters {
			w.Clusters[i] = f(w.Now, w.Clusters[i])
		}
		return w
	}
}

// withDown returns the cluster with further nodes that are down.
func (c Cluster) withDown(names []string) Cluster {
	down := make(map[string]bool, len(c.Down)+len(names))
	for name := range c.Down {
		down[name] = true
	}
	for _, name := range names {
		down[name] = true
	}
	c.Down = down
	return c
}
