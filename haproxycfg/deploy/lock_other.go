//go:build !unix || aix || illumos || solaris

package deploy

import "context"

// lockFile does nothing, because package syscall has no flock on these systems.
func lockFile(context.Context, string) (unlock func(), err error) { return func() {}, nil }
