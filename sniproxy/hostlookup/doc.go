// Package hostlookup finds out where the traffic for a host name goes: in a file, in a fixed set of
// hosts, through the HTTP API of package httpapi, or through any function. A cache keeps serving
// known hosts while their source is down.
//
//	api := &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}
//	cache := &hostlookup.Cache{Source: api}
//	defer cache.Close()
//	file := &hostlookup.File{Path: "hosts.json"} // go file.Watch(ctx) to follow changes
//	hosts := hostlookup.Chain(file, cache)
//
//	answer, err := hosts.LookupHost(ctx, "a.com")
//	switch {
//	case err == nil:
//		addr, err := answer.DialAddr(443) // "10.0.0.24:443"
//	case errors.Is(err, hostlookup.ErrNotFound):
//		// the host does not exist
//	default:
//		// the source cannot answer at the moment
//	}
//
// # Three outcomes
//
// A lookup returns an endpoint, ErrNotFound, or another error. ErrNotFound is knowledge: the source
// says that the host does not exist. Any other error means that the source could not answer. All
// parts of this package keep the two apart: they never turn an error into ErrNotFound, never store
// an error as ErrNotFound, and Chain and Default never replace an error by another lookup's
// endpoint.
//
// # What the cache promises
//
// The cache serves an endpoint for its TTL without asking the source. The source sets the TTL, or
// else Cache.TTL counts, less some jitter. After the TTL the cache asks the source first, and one
// of four things happens:
//
//   - The source returns an endpoint or ErrNotFound. The cache stores that in place of the old
//     endpoint, and serves it.
//   - The source fails. The cache serves the old endpoint as stale, and does not ask the source
//     again for Cache.Recheck (RFC 8767), or for as long as the source demands with an Error, up to
//     5 minutes.
//   - The source is slow. A lookup that waits gets the old endpoint after Cache.StaleAfter; later
//     lookups get it at once. The cache stores the answer when it comes.
//   - The endpoint is older than its TTL and Cache.StaleFor together. Then the cache does not serve
//     it, and the lookup gets what the source returns.
//
// A lookup of an unknown host waits for the source. The cache stores ErrNotFound for its own TTL
// and a failure for Cache.ErrorTTL, and serves neither of them as stale.
//
// Hosts that are not found have a limit of their own (Cache.MaxNegative), so that invented names
// cannot evict known hosts. Each name below a wildcard of the source is a known host, however: with
// a wildcard, strangers can invent names that evict others. Cache.MaxHosts bounds them.
//
// The cache asks its source once for each host at a time, however many lookups wait, and at most
// Cache.MaxCalls times at a time in total. A call of the source ends with its own timeout and does
// not see the contexts of the lookups. If the source panics, every lookup that waits gets an error.
// A Set, Forget, Purge, Expire or Feed during a call has precedence over the answer of that call.
//
// # Speed
//
// A hit takes no lock, does not allocate, and normally does not read the system's clock: see the
// internal package nametable for the figures. A hit makes its host more recently used at most once
// a second.
//
// # What it does not do
//
// Lookups do not check or normalize host names. They compare names byte by byte, so a name must be
// in normal form, as package peek returns it. This package does not check whether a router may
// connect to an endpoint, for example whether the endpoint is the router itself; the router does.
package hostlookup
