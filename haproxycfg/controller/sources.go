package controller

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// Declarations are routes, and what is wrong with their declarations.
type Declarations struct {
	Table    routes.Table
	Problems []routes.Problem
}

// RouteSource reads declarations of routes. RouteFiles is one.
type RouteSource interface {
	// Read returns the declarations of now. A Controller calls it once, before Follow. An error
	// stops the Controller: without any routes it would take everything out of service.
	Read() (Declarations, error)
	// Follow calls publish after each change since Read, until ctx ends. The calls come from one
	// goroutine. An error before the end of ctx stops the Controller.
	Follow(ctx context.Context, publish func(Declarations)) error
}

// ClusterSource reads the nodes and services of one cluster. Live and Manifests are two.
type ClusterSource interface {
	// SetRefs sets the service ports that routes name. A Controller calls it before Read and
	// Follow, and again when the routes change, while Follow runs.
	SetRefs(refs []nodeselect.Ref)
	// Read returns the cluster as it is now. It returns before ctx ends, or soon after. A state
	// that is not synced means that the cluster does not answer; an error means that nothing may
	// be applied at all.
	Read(ctx context.Context, start Start) (ClusterState, error)
	// Follow calls publish with the state of now and after each change, until ctx ends. The calls
	// come from one goroutine. After an error the Controller keeps the last state, and calls
	// Follow again a second later.
	Follow(ctx context.Context, start Start, publish func(ClusterState)) error
}

// Start is what a Controller tells a ClusterSource at the start.
type Start struct {
	// Selector chooses the nodes of each service.
	Selector nodeselect.Selector
	// Current are the nodes that each service has according to the report; nil if none are known.
	Current nodeselect.Subsets
}

// ClusterState is the state of a cluster. The values in it must not be changed later.
type ClusterState struct {
	// Synced is true once the cluster has been read. Before, only Err counts.
	Synced bool
	// Objects are the nodes and services. If the cluster does not answer any more, they are the
	// last known ones.
	Objects nodeselect.Objects
	// Selection are the nodes of each service port; nil makes the Controller select them.
	Selection *nodeselect.Selection
	// Problems are the problems of manifests.
	Problems []nodeselect.Problem
	// Err is why the cluster does not answer, nil while it does.
	Err error
}

// Manifests reads a cluster from the manifests in a directory, as kubectl get -o yaml or -o json
// prints them.
type Manifests struct {
	Dir string
}

// SetRefs implements ClusterSource. It does nothing.
func (Manifests) SetRefs([]nodeselect.Ref) {}

// Read implements ClusterSource. It returns an error if the directory cannot be read.
func (m Manifests) Read(context.Context, Start) (ClusterState, error) {
	objects, problems, err := manifest.ReadDir(m.Dir)
	return ClusterState{Synced: err == nil, Objects: objects, Problems: problems}, err
}

// Follow implements ClusterSource. A directory that is missing is a cluster that does not answer.
func (m Manifests) Follow(ctx context.Context, _ Start, publish func(ClusterState)) error {
	return manifest.WatchDir(ctx, m.Dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		publish(ClusterState{Synced: true, Objects: objects, Problems: problems, Err: m.fault(problems)})
	})
}

// fault returns the problem of the directory itself, nil if it can be read.
func (m Manifests) fault(problems []nodeselect.Problem) error {
	for _, p := range problems {
		if p.File == filepath.Clean(m.Dir) {
			return errors.New(p.Message)
		}
	}
	return nil
}
