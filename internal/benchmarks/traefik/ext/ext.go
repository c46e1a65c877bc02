// Package ext replaces a package of Traefik. It has only the types that Traefik's package dynamic
// needs to compile. The types are empty, because they are for configurations of HTTP, which the
// command traefik does not have.
package ext

// HTTP and Router are empty.
type (
	HTTP   struct{}
	Router struct{}
)
