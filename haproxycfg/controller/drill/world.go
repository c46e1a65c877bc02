package drill

import (
	"slices"
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// World is everything outside the Controller at one moment of a drill. A Step returns a changed
// copy of a World. It must not change the objects and maps to which the World refers.
type World struct {
	// Now is the time of the Step.
	Now      time.Time
	Clusters []Cluster
}

// Cluster is a cluster at one moment of a drill.
type Cluster struct {
	// Name is the name by which routes refer to the cluster.
	Name string
	// Objects are the nodes and services. Objects.ReadyNodes are the nodes with ready pods, as
	// controller.Manifests reads them; nil means that the pods are not known.
	Objects nodeselect.Objects
	// API says how the API server answers.
	API API
	// Down are the names of the nodes that serve nothing, whatever the API server says.
	Down map[string]bool
	// NoAgents means that no node agent runs.
	NoAgents bool
}

// API says how an API server answers.
type API int

const (
	Answers API = iota // it has Cluster.Objects
	Away               // nobody listens at its address
	Empty              // it answers, but has lost all objects
)

// Each returns a function that applies f to each cluster of a World.
func Each(f func(now time.Time, c Cluster) Cluster) func(World) World {
	return func(w World) World {
		w.Clusters = slices.Clone(w.Clusters)
		for i := range w.Clusters {
			w.Clusters[i] = f(w.Now, w.Clusters[i])
		}
		return w
	}
}

// withDown returns a copy of the cluster in which the nodes with these names are down too.
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
