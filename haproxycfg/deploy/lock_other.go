//go:build !unix || aix || illumos || solaris

package deploy

import "context"

// lockFile does nothing: package syscall has no flock here.
func lockFile(context.Context, string) (unlock func(), err error) { return func() {}, nil }
