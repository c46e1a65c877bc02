package controller

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/headgate/headgate/haproxycfg/routefiles"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// Declarations are the routes of a RouteSource, and the problems that it found in its input.
type Declarations = routefiles.Declarations

// RouteFiles is a RouteSource that reads YAML files in the format of package routes.
type RouteFiles = routefiles.Files

// RouteSource provides the routes of a Controller. RouteFiles is a RouteSource.
type RouteSource interface {
	// Read returns the routes. A Controller calls Read once, before Follow. An error stops the
	// Controller: if it continued without routes, it would remove every server.
	Read() (Declarations, error)
	// Follow calls publish after each change since Read, until ctx ends. It makes one call at a
	// time. If it returns an error before ctx ends, the Controller stops. A source that never
	// changes may return nil at once.
	Follow(ctx context.Context, publish func(Declarations)) error
}

// ClusterSource provides the nodes and services of one cluster. Live and Manifests are
// ClusterSources.
type ClusterSource interface {
	// SetRefs sets the service ports that the routes name. A Controller calls SetRefs before Read
	// and Follow. It calls SetRefs again when the routes change, while Follow runs.
	SetRefs(refs []nodeselect.Ref)
	// Read returns the state of the cluster. If ctx ends before the cluster answers, Read returns a
	// state that is not Synced. An error makes Controller.Plan fail, even if the report has servers
	// of the cluster.
	Read(ctx context.Context, start Start) (ClusterState, error)
	// Follow calls publish with the present state of the cluster, and again after each change,
	// until ctx ends. It makes one call at a time. If it returns an error before ctx ends, the
	// Controller keeps the last state and calls Follow again after a second.
	Follow(ctx context.Context, start Start, publish func(ClusterState)) error
}

// Start contains the settings with which a ClusterSource starts.
type Start struct {
	// Selector selects the nodes of each service.
	Selector nodeselect.Selector
	// Current are the nodes of each service, as the report has them. nil means no nodes.
	Current nodeselect.Subsets
}

// ClusterState is the state of a cluster. Nobody may change the values in it.
type ClusterState struct {
	// Synced is true if the cluster has answered. If it is false, the Controller reads Err only and
	// keeps the last state that was Synced.
	Synced bool
	// Objects are the nodes and services. While the cluster does not answer, they are the last
	// known ones.
	Objects nodeselect.Objects
	// Selection contains the nodes of each service port. nil makes the Controller select them.
	Selection *nodeselect.Selection
	// Problems are problems of the text that Objects were read from.
	Problems []nodeselect.Problem
	// Err is the reason why the cluster does not answer now; nil while it answers.
	Err error
}

// Manifests is a ClusterSource that reads a directory of manifests, as kubectl get -o yaml or -o
// json prints them.
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

// Follow implements ClusterSource. While the directory is missing, the cluster does not answer.
func (m Manifests) Follow(ctx context.Context, _ Start, publish func(ClusterState)) error {
	return manifest.WatchDir(ctx, m.Dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		publish(ClusterState{Synced: true, Objects: objects, Problems: problems, Err: m.fault(problems)})
	})
}

// fault returns the problem of the directory as a whole, nil if the directory can be read.
func (m Manifests) fault(problems []nodeselect.Problem) error {
	for _, p := range problems {
		if p.File == filepath.Clean(m.Dir) {
			return errors.New(p.Message)
		}
	}
	return nil
}
