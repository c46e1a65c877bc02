// Package fleettest is for tests and benchmarks of package disruption. It makes clusters of any
// size, with the subset of each service, and replaces all nodes of a cluster wave by wave. All
// results depend only on the arguments.
package fleettest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/headgate/headgate/hashring"
	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/disruption"
)

// Fleet is a cluster with services.
type Fleet struct {
	Nodes    []nodeselect.Node // Identity is the address as a string; Addr is not set
	Services int
	Size     int // number of nodes of each service
}

// New returns a cluster without zones.
func New(nodes, services, size int) *Fleet {
	f := &Fleet{Services: services, Size: size}
	for i := range nodes {
		f.Nodes = append(f.Nodes, nodeselect.Node{Name: manifesttest.NodeName(i), Identity: manifesttest.NodeAddr(i)})
	}
	return f
}

// InZones puts the nodes into three zones, and returns f. Each service then has the same number of
// nodes in each zone.
func (f *Fleet) InZones() *Fleet {
	for i := range f.Nodes {
		f.Nodes[i].Zone = manifesttest.Zones[i%len(manifesttest.Zones)]
	}
	return f
}

// Subsets returns the subset of each service, as package nodeselect chooses it if Selector.Spread
// is true. If the nodes have no zones, nodeselect chooses the same subsets without Spread.
func (f *Fleet) Subsets() nodeselect.Subsets {
	members := make([]hashring.Node, len(f.Nodes))
	index := make(map[string]int, len(f.Nodes))
	for i, n := range f.Nodes {
		members[i] = hashring.Node{Name: n.Identity, Zone: n.Zone}
		index[n.Identity] = i
	}
	ring, err := hashring.New(members...)
	if err != nil {
		panic(err) // the identities are unique
	}
	set := make(nodeselect.Subsets, f.Services)
	var picked []hashring.Node
	for i := range f.Services {
		service := fmt.Sprintf("team-%d/service-%d", i%50, i)
		picked = ring.AppendSpread(picked[:0], service, f.Size)
		for _, n := range picked {
			set[service] = append(set[service], f.Nodes[index[n.Name]])
		}
	}
	return set
}

// Replace gives the named nodes new addresses.
func (f *Fleet) Replace(names []string) {
	gone := map[string]bool{}
	for _, name := range names {
		gone[name] = true
	}
	for i := range f.Nodes {
		if n := &f.Nodes[i]; gone[n.Name] {
			n.Identity += "-new"
		}
	}
}

// ReplaceAll replaces all nodes, one wave after another, and returns the number of waves. After
// each wave, it chooses the subset of each service again. ReplaceAll passes the argument "steps" to
// disruption.State.Wave.
func (f *Fleet) ReplaceAll(b disruption.Budget, steps int) (waves int, err error) {
	old := map[string]bool{}
	for _, n := range f.Nodes {
		old[n.Name] = true
	}
	for ; len(old) > 0; waves++ {
		s, err := disruption.New(b, f.Nodes, f.Subsets())
		if err != nil {
			return waves, err
		}
		wave := s.Wave(slices.Collect(maps.Keys(old)), steps)
		if len(wave) == 0 || !s.Take(wave...).OK {
			return waves, errors.New("fleettest: a wave is empty or may not go")
		}
		for _, name := range wave {
			delete(old, name)
		}
		f.Replace(wave)
	}
	return waves, nil
}
