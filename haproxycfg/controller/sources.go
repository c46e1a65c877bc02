package controller

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/haproxycfg/routefiles"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// Declarations are the routes that a RouteSource found in its input, and the problems of that
// input.
type Declarations = routefiles.Declarations

// RouteFiles is a RouteSource that reads YAML files in the format of package routes.
type RouteFiles = routefiles.Files

// RouteSource provides the routes of a Controller. RouteFiles is a RouteSource.
type RouteSource interface {
	// Read returns the routes. The Controller calls it once, before Follow. If Read cannot read all
	// of its input, it returns an error, and Plan fails. Run fails too if Declarations.Unread is
	// empty. If Unread names the files that Read could not read, Run continues, and Follow must
	// publish their routes later.
	Read() (Declarations, error)
	// Follow calls "publish" after each change of the routes, until ctx ends. The calls never
	// overlap. If the routes have changed since Read, the first call is immediate. An error before
	// ctx ends stops the Controller. A source that never changes may return nil immediately.
	Follow(ctx context.Context, publish func(Declarations)) error
}

// ClusterSource provides the nodes and services of one cluster. Live and Manifests implement it.
type ClusterSource interface {
	// SetRefs sets the service ports that the routes name. The Controller calls SetRefs before Read
	// and before Follow. While Follow runs, it calls SetRefs again after each change of the routes.
	SetRefs(refs []nodeselect.Ref)
	// Read returns the state of the cluster. If ctx ends before the cluster answers, Read returns a
	// state that is not Synced, and Controller.Plan uses the servers that the report lists. If Read
	// returns an error, Controller.Plan fails even if the report lists servers.
	Read(ctx context.Context, start Start) (ClusterState, error)
	// Follow calls the function "publish" with the present state of the cluster, and again after
	// each change, until ctx ends. Calls of publish never overlap. If Follow returns an error
	// before ctx ends, the Controller keeps the last state and calls Follow again after a second.
	Follow(ctx context.Context, start Start, publish func(ClusterState)) error
}

// Start contains the facts that the Controller passes to a ClusterSource at its start.
type Start struct {
	// Selector selects the nodes of each service.
	Selector nodeselect.Selector
	// Current contains, for each service, the nodes that the last report lists for it. nil means that
	// no service has nodes.
	Current nodeselect.Subsets
}

// ClusterState is the state of a cluster. When the source has passed a ClusterState to the
// Controller, neither of them may change the values in it.
type ClusterState struct {
	// Synced is true if the cluster has answered. If Synced is false, the Controller uses only Err
	// of this ClusterState. For everything else, it keeps the last ClusterState whose Synced was
	// true.
	Synced bool
	// Objects are the nodes and services of the cluster. While the cluster does not answer, they
	// are the objects of its last answer.
	Objects nodeselect.Objects
	// Selection contains the nodes of each service port. If it is nil, the Controller selects the
	// nodes from Objects.
	Selection *nodeselect.Selection
	// Problems are faults in the text from which Objects were read.
	Problems []nodeselect.Problem
	// Err is the reason why the cluster does not answer now. It is nil while the cluster answers.
	Err error
}

// Manifests is a ClusterSource that reads a directory of manifest files. The files contain the
// output of "kubectl get -o yaml" or "kubectl get -o json".
type Manifests struct {
	Dir string
	// LocalEndpoints makes Manifests read EndpointSlices too: a service with externalTrafficPolicy
	// Local then uses only nodes that have a ready pod. If the directory has no EndpointSlice,
	// LocalEndpoints has no effect, and a warning states this.
	LocalEndpoints bool
}

// SetRefs implements ClusterSource. It does nothing.
func (Manifests) SetRefs([]nodeselect.Ref) {}

// Read implements ClusterSource. It returns an error if the directory cannot be read.
func (m Manifests) Read(_ context.Context, start Start) (ClusterState, error) {
	objects, problems, err := manifest.ReadDir(m.Dir)
	if err == nil && m.LocalEndpoints {
		var list []*discoveryv1.EndpointSlice
		var further []nodeselect.Problem
		list, further, err = manifest.ReadEndpointSlices(m.Dir)
		problems = mergeProblems(problems, further)
		objects.ReadyNodes = readyNodes(objects, list, start.Selector.LocalWeights)
	}
	return ClusterState{Synced: err == nil, Objects: objects, Problems: problems}, err
}

// readyNodes returns the map for Objects.ReadyNodes: for each service, the names of the nodes with
// a ready pod. Each name is in the list only once or, if count is true, once for each ready pod of
// the node. If the argument "list" is empty, readyNodes returns nil, which means that nothing is
// known about pods.
func readyNodes(objects nodeselect.Objects, list []*discoveryv1.EndpointSlice, count bool) map[string][]string {
	switch {
	case len(list) == 0:
		return nil
	case count:
		return live.ReadyPods(objects.Services, list)
	}
	return live.ReadyNodes(objects.Services, list)
}

// mergeProblems returns the problems of both lists, without duplicates. If a text cannot be parsed,
// both lists have the same problem.
func mergeProblems(a, b []nodeselect.Problem) []nodeselect.Problem {
	merged := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(a, p) {
			merged = append(merged, p)
		}
	}
	return merged
}

// Follow implements ClusterSource. If the directory is missing, Follow reports that the cluster
// does not answer.
func (m Manifests) Follow(ctx context.Context, start Start, publish func(ClusterState)) error {
	if m.LocalEndpoints {
		return m.followWithSlices(ctx, start.Selector.LocalWeights, publish)
	}
	return manifest.WatchDir(ctx, m.Dir, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		publish(ClusterState{Synced: true, Objects: objects, Problems: problems, Err: m.fault(problems)})
	})
}

// followWithSlices follows the directory with two watchers: one for nodes and services, and one for
// EndpointSlices. It passes the argument "count" to readyNodes.
func (m Manifests) followWithSlices(ctx context.Context, count bool, publish func(ClusterState)) error {
	var mu sync.Mutex
	var objects nodeselect.Objects
	var list []*discoveryv1.EndpointSlice
	var ofObjects, ofSlices []nodeselect.Problem
	readObjects, readSlices := false, false
	report := func() {
		if !readObjects || !readSlices {
			return
		}
		state := ClusterState{Synced: true, Objects: objects, Problems: mergeProblems(ofObjects, ofSlices)}
		state.Objects.ReadyNodes = readyNodes(objects, list, count)
		state.Err = m.fault(state.Problems)
		publish(state)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return manifest.WatchDir(ctx, m.Dir, func(o nodeselect.Objects, problems []nodeselect.Problem) {
			mu.Lock()
			defer mu.Unlock()
			objects, ofObjects, readObjects = o, problems, true
			report()
		})
	})
	group.Go(func() error {
		return manifest.WatchEndpointSlices(ctx, m.Dir, func(l []*discoveryv1.EndpointSlice, problems []nodeselect.Problem) {
			mu.Lock()
			defer mu.Unlock()
			list, ofSlices, readSlices = l, problems, true
			report()
		})
	})
	return group.Wait()
}

// fault returns the problem of the directory as a whole. It returns nil if the directory can be
// read.
func (m Manifests) fault(problems []nodeselect.Problem) error {
	for _, p := range problems {
		if p.File == filepath.Clean(m.Dir) {
			return errors.New(p.Message)
		}
	}
	return nil
}
