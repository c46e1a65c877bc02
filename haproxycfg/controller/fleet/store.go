package fleet

import (
	"context"
	"errors"
)

// ErrConflict is wrapped by the errors of Store.Write if somebody else has changed the State in the
// Store.
var ErrConflict = errors.New("fleet: somebody else has changed the state")

// Snapshot is a State in a Store.
type Snapshot struct {
	State State
	// Version is the version of State: no other state of the Store has the same version. It is ""
	// if the Store has no state.
	Version string
}

// Store stores one State for all terminators of a fleet. Any number of goroutines may call its
// methods. Package configmap contains a Store.
type Store interface {
	// Read returns the State that the Store has now.
	Read(ctx context.Context) (Snapshot, error)
	// Write stores a state if the version of the present state is still the argument "version", and
	// returns the new Snapshot. Otherwise it changes nothing, and the error wraps ErrConflict.
	Write(ctx context.Context, state State, version string) (Snapshot, error)
	// Follow calls "publish" with the present State (the orders of operators), and again after each
	// change, until ctx ends. If the State cannot be read, Follow passes the reason as the error;
	// the Snapshot then has no meaning. Calls never overlap.
	//
	// Read and Write of the same Store return a new Snapshot only after publish has received it. So
	// publish never receives an older state than a caller of Read or Write.
	Follow(ctx context.Context, publish func(Snapshot, error))
}
