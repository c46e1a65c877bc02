package nodeselect

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Delta is what has become known of a cluster since the last Update of a Tracker.
// Several changes of one object are the last of them. The zero Delta is the passing
// of time alone.
type Delta struct {
	Nodes    map[string]*corev1.Node    // by name; nil: it is gone
	Services map[string]*corev1.Service // by Ref.Key; nil: it is gone
	// ReadyNodes changes Objects.ReadyNodes: an empty list is a service that has no
	// ready pod. Any map that is not nil makes it known where pods are.
	ReadyNodes map[string][]string
	// Refs are all that is declared from now on; nil if that has not changed.
	Refs []Ref
}

// Changed names what an Update has changed, for a log. If there is nothing in it,
// the Selection is what it was before.
type Changed struct {
	// Nodes that came, went, or are judged, reached or named otherwise than before.
	Nodes []string `json:"nodes,omitempty"`
	// Services, by Ref.Key, whose targets or problems are others than before.
	Services []string `json:"services,omitempty"`
}

// IsZero is true if nothing has changed.
func (c Changed) IsZero() bool { return len(c.Nodes)+len(c.Services) == 0 }

// merge applies changes to a list that is sorted by compare, and gives a new list; a
// nil change removes the object of its key.
func merge[K comparable, T any](list []*T, changes map[K]*T, compareKey func(*T, K) int, compareKeys func(a, b K) int) []*T {
	keys := make([]K, 0, len(changes))
	for key := range changes {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	merged := make([]*T, 0, len(list)+len(keys))
	for _, key := range keys {
		n, found := slices.BinarySearchFunc(list, key, compareKey)
		merged = append(merged, list[:n]...)
		list = list[n:]
		if found {
			list = list[1:]
		}
		if object := changes[key]; object != nil {
			merged = append(merged, object)
		}
	}
	return append(merged, list...)
}
