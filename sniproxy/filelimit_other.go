//go:build !unix

package sniproxy

// fileLimit returns 0, which means that the limit of descriptors of the process is not known.
func fileLimit() uint64 { return 0 }
