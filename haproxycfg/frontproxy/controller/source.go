package controller

import (
	"context"
	"time"

	"github.com/headgate/headgate/nodeselect/endpoints"
)

// Source follows the pods of one service.
type Source interface {
	// Follow calls changed with the current pods, and after each change, until ctx ends. It calls
	// changed from one goroutine. If Follow returns before ctx ends, the controller calls it again
	// after 1 s.
	Follow(ctx context.Context, changed func(Update)) error
}

// SourceFunc is a function that is a Source.
type SourceFunc func(ctx context.Context, changed func(Update)) error

// Follow calls f.
func (f SourceFunc) Follow(ctx context.Context, changed func(Update)) error { return f(ctx, changed) }

// Update is what a Source knows.
type Update struct {
	// Known means that the source has answered at least once. Until then, Pods is empty and means
	// nothing.
	Known bool
	// Pods are the pods of the service in all zones, in any condition. If the source does not
	// answer, or doubts its last answer, Pods are the last pods that it did not doubt.
	Pods []endpoints.Pod
	// Since is the time from which on Pods may be out of date. It is zero if Pods are up to date.
	Since time.Time
	// Err says why the source does not answer, or why it doubts the last answer. nil means that Pods
	// are up to date.
	Err error
}
