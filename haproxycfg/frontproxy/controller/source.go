package controller

import (
	"context"
	"time"

	"github.com/headgate/headgate/nodeselect/endpoints"
)

// Source follows the pods of one service.
type Source interface {
	// Follow passes the current pods to the function "changed", at once and after each change,
	// until ctx ends. All calls of the function "changed" come from one goroutine. If Follow
	// returns before ctx ends, the controller calls Follow again after 1 s.
	Follow(ctx context.Context, changed func(Update)) error
}

// SourceFunc is a function that implements Source: its method Follow calls the function.
type SourceFunc func(ctx context.Context, changed func(Update)) error

// Follow calls f.
func (f SourceFunc) Follow(ctx context.Context, changed func(Update)) error { return f(ctx, changed) }

// Update contains the pods that a Source has found, and the state of the Source.
type Update struct {
	// Known means that the source has answered at least once. Until then, Pods is empty and means
	// nothing.
	Known bool
	// Pods are the pods of the service in all zones, in any condition. If the source does not
	// answer, or doubts its last answer, Pods come from the last answer that it did not doubt.
	Pods []endpoints.Pod
	// Since is the time from which on Pods may be out of date: the source stopped answering, or
	// gave a doubtful answer, at this time. Zero means that Pods are up to date.
	Since time.Time
	// Err says why the source does not answer, or why its last answer is doubtful. nil means that
	// Pods are up to date.
	Err error
}
