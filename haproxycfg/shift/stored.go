package shift

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Stored is the form of a State in a file or in a ConfigMap. It contains an order for a whole
// cluster only once. A State contains the order in the shift of each route of the cluster.
type Stored struct {
	ClosePoints int `json:"closePoints"`
	// Shifts are the shifts of single routes, which no order for a whole cluster has begun.
	Shifts []Shift `json:"shifts"`
	// Clusters are the shifts of whole clusters. At first, one element contains all routes of an order
	// for a cluster. If some of the routes pause, they stay at an earlier step than the others, and an
	// element of their own contains them.
	Clusters []ClusterShift `json:"clusters,omitempty"`
}

// ClusterShift is one shift of several routes away from the same cluster. The routes share the order
// of the operator, the status, the step and the times.
type ClusterShift struct {
	Shift           // without a route
	Routes []string `json:"routes"` // sorted
}

// Stored converts the state to the type Stored. The result shares memory with the state.
func (s State) Stored() (Stored, error) {
	stored := Stored{ClosePoints: s.ClosePoints, Shifts: []Shift{}}
	at := map[string]int{}
	for _, x := range s.Shifts {
		if x.From == "" {
			stored.Shifts = append(stored.Shifts, x)
			continue
		}
		common := x
		common.Route = ""
		key, err := json.Marshal(common)
		if err != nil {
			return Stored{}, fmt.Errorf("shift: state: %w", err)
		}
		i, ok := at[string(key)]
		if !ok {
			i = len(stored.Clusters)
			at[string(key)] = i
			stored.Clusters = append(stored.Clusters, ClusterShift{Shift: common})
		}
		stored.Clusters[i].Routes = append(stored.Clusters[i].Routes, x.Route)
	}
	return stored, nil
}

// State converts s to a State, with a shift for each route. It returns an error if the state is not
// valid.
func (s Stored) State() (State, error) {
	state := State{ClosePoints: s.ClosePoints, Shifts: slices.Clone(s.Shifts)}
	for _, c := range s.Clusters {
		for _, x := range c.Routes {
			c.Route = x
			state.Shifts = append(state.Shifts, c.Shift)
		}
	}
	if len(s.Clusters) > 0 {
		slices.SortStableFunc(state.Shifts, func(a, b Shift) int { return strings.Compare(a.Route, b.Route) })
	}
	if err := state.check(); err != nil {
		return State{}, fmt.Errorf("shift: state: %w", err)
	}
	return state, nil
}
