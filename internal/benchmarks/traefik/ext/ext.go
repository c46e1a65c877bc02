// Package ext has the types that package dynamic of Traefik needs, for configurations of HTTP. The
// command traefik has no such configuration.
package ext

// HTTP and Router are empty.
type (
	HTTP   struct{}
	Router struct{}
)
