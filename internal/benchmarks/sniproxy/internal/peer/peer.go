// Package peer knows the routers that are compared: how each is told the same thing, and
// how its processes are run.
//
// All of them get: one listener at 127.0.0.1 with a backlog of 4,096, one thread of
// work, the same names and backends, 5 s to wait for a hello and to connect, 10 minutes
// of idle time, no access log, no health checks, no PROXY protocol. What a router has no
// setting for stays as it is. Everything else stays at its default, because that is what
// its users run; the exceptions are commented where they are set.
package peer

import (
	"fmt"
	"net/netip"
)

// Role says what a row of the table is for.
type Role string

const (
	// Peer is what the others are compared with.
	Peer Role = "peer"
	// Baseline explains a figure and is not for use.
	Baseline Role = "baseline"
	// Ours is compared with the best peer.
	Ours Role = "ours"
)

// Router is one of those that are compared.
type Router struct {
	Name    string
	Role    Role
	Version string
	// Plan says how to run it. It is a pure function.
	Plan func(Setup) Plan
}

// Setup is what a router is to do.
type Setup struct {
	Dir         string // where its files will be
	Listen      netip.AddrPort
	Hosts       []string
	Backends    []netip.AddrPort // host i belongs to backend i modulo their number
	Connections int              // at once, at most
	Descriptors int              // the limit of a process
	Root        bool             // whether it starts as root, and should stay so
}

// Backend is where host i belongs.
func (s Setup) Backend(i int) netip.AddrPort { return s.Backends[i%len(s.Backends)] }

// Plan is how to run a router.
type Plan struct {
	Files map[string][]byte // by name in Setup.Dir
	Args  []string
	// ForwardsTerm says that the first process ends the others when it gets SIGTERM,
	// and would leave them behind on SIGKILL.
	ForwardsTerm bool
}

// Sites are names of one length.
func Sites(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("site-%06d.apps.example", i)
	}
	return names
}
