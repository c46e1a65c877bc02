// Package hostlookup finds the endpoint to which the traffic for a host name goes. The endpoint
// comes from a file, from a fixed set of hosts, from the HTTP API of package httpapi, or from any
// function. A cache continues to serve known hosts while their source is down.
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
// LookupAll looks up many hosts. The README.md in the directory of this package compares the cache
// with lua-resty-mlcache.
//
// # Three outcomes
//
// A lookup returns an endpoint, ErrNotFound, or another error. ErrNotFound means that the source is
// certain that the host does not exist. Any other error means that the source could not answer.
// This package never turns such an error into ErrNotFound. After such an error of one lookup, Chain
// does not ask the next lookup, and Default does not return the default endpoint.
//
// # What the cache promises
//
// The cache serves an endpoint for its TTL without asking the source. The source can set the TTL.
// If it does not, the TTL is Cache.TTL. The cache shortens each TTL at random; see Cache.Jitter.
// After the TTL, a lookup makes the cache ask the source. There are four cases:
//
//   - The source returns an endpoint or ErrNotFound. The cache stores and serves this answer
//     instead of the old endpoint.
//   - The source fails. The cache serves the old endpoint with the Level Stale (RFC 8767), and does
//     not ask the source again for the time Cache.Recheck. If the source returns an Error, it can
//     demand a longer pause, up to 5 minutes.
//   - The source is slow. A lookup that waits gets the old endpoint after Cache.StaleAfter, and
//     later lookups get it without waiting. When the source answers, the cache stores the answer.
//   - The endpoint is older than its TTL plus Cache.StaleFor. The cache does not serve it any more.
//     The lookup gets what the source returns, even if that is an error.
//
// A lookup of an unknown host waits for the source. The cache stores ErrNotFound for
// Cache.NegativeTTL, and a failure for Cache.ErrorTTL. If the source returns an Error, it can set
// another time. When the time is over, the cache asks the source again.
//
// Strangers can invent names, but invented names cannot evict known hosts. There are three separate
// limits. Cache.MaxHosts limits the number of known hosts. Cache.MaxNegative limits the number of
// hosts that the source did not find. The third limit applies to names with the endpoint of a
// wildcard; see Cache.MaxHosts.
//
// For each host, at most one call of the source runs at a time, no matter how many lookups wait. In
// total, at most Cache.MaxCalls calls run at the same time. Cache.Timeout limits a call. The
// contexts of the lookups do not. If the source panics, every lookup that waits for this call gets
// an error. If Set, Forget, Purge, Expire or a Feed changes the stored answer for a host during a
// call for this host, the cache does not store the answer of the call.
//
// # Wildcards
//
// If the Host of an endpoint is a wildcard such as "*.example.com", the endpoint belongs to every
// name with one label in place of the "*", unless the source has another endpoint for this name.
// The cache cannot know these other endpoints. So it asks the source about each name below the
// wildcard, and stores the answer for this name.
//
// The cache also stores the endpoint of the wildcard itself. A lookup gets this endpoint, with the
// Level Stale, if the source fails and the cache has no endpoint for the name. The cache does not
// use the wildcard while the source is only slow: the lookup waits until the source fails, at most
// for Cache.Timeout. The cache serves the endpoint of a wildcard, like every endpoint, at most
// until its age is TTL + StaleFor.
//
// If the source returns ErrNotFound for a name, the cache forgets the wildcard that covers the
// name: with the wildcard, the source would have found the name. Cache.Forget with a wildcard
// forgets every name below it.
//
// # Speed
//
// A hit is a lookup that gets a stored answer. A hit uses no lock, does not allocate, and usually
// does not read the system's clock. The comment of the internal package nametable states the
// measured times. A hit makes its host the most recently used one, but at most once a second.
//
// # What it does not do
//
// Lookups do not check or normalize host names, but compare them byte by byte. So the name in a
// lookup must be in normal form. Package peek returns names in normal form. This package does not
// check whether a router may connect to an endpoint. For example, an endpoint could be the address
// of the router itself. The router must check this.
package hostlookup
