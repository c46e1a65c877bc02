//go:build !linux

package httpload

// endOfInput always returns false. So on these systems, a request on a connection that the server
// has closed is a failure.
func endOfInput(uintptr) bool { return false }
