// Package hostlookup finds the endpoint to which the traffic for a host name goes: in a file, in a
// fixed set of hosts, through the HTTP API of package httpapi, or with any function. A cache
// continues to serve known hosts while their source is down.
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
// LookupAll looks up many hosts. README.md compares the cache with lua-resty-mlcache.
//
// # Three outcomes
//
// A lookup returns an endpoint, ErrNotFound, or another error. ErrNotFound means that the host
// certainly does not exist. Any other error means that the source could not answer. After such an
// error, Chain does not ask the next lookup, and Default does not return the default endpoint.
//
// # What the cache promises
//
// The cache serves an endpoint for its TTL. If the source sets no TTL, the TTL is Cache.TTL. The
// cache shortens each TTL at random (see Cache.Jitter). After the TTL, a lookup makes the cache ask
// the source. There are four cases:
//
//   - The source returns an endpoint or ErrNotFound, which replaces the old endpoint.
//   - The source fails. The cache serves the old endpoint with the Level Stale (RFC 8767), and does
//     not ask again for Cache.Recheck. An Error of the source can demand a longer pause, up to 5
//     minutes.
//   - The source is slow. A lookup gets the old endpoint after Cache.StaleAfter. Later lookups get
//     it without waiting, until the source answers.
//   - The endpoint is older than its TTL plus Cache.StaleFor. The lookup gets what the source
//     returns, even an error.
//
// A lookup of an unknown host waits for the source. The cache stores ErrNotFound for
// Cache.NegativeTTL, and a failure for Cache.ErrorTTL, unless an Error of the source sets another
// time.
//
// Names that strangers invent cannot evict known hosts, because such names have limits of their
// own. Cache.MaxNegative limits the hosts that the source did not find. The names with the endpoint
// of a wildcard have a second limit of Cache.MaxHosts.
//
// At most one call of the source runs at a time for each host, and Cache.MaxCalls calls in total.
// Only Cache.Timeout limits the time of a call. The contexts of the lookups have no effect on it.
// If the source panics, the waiting lookups get an error. If Set, Forget, Purge, Expire or a Feed
// changes the answer for a host during a call, the cache does not store the answer of the call.
//
// # Wildcards
//
// If the Host of an endpoint is a wildcard such as "*.example.com", the endpoint belongs to every
// name with one label in place of the "*". The source may have another endpoint for such a name, so
// the cache asks the source about each name below the wildcard.
//
// The cache also stores the endpoint of the wildcard. A lookup gets this endpoint, with the Level
// Stale, if the source fails and the cache has no endpoint for the name. While the source is only
// slow, the lookup waits until the source fails, at most for Cache.Timeout.
//
// If the source returns ErrNotFound for a name, the cache forgets the wildcard that covers it.
// Cache.Forget with a wildcard forgets every name below it.
//
// # Speed
//
// A hit, a lookup that gets a stored answer, uses no lock, does not allocate, and usually does not
// read the system's clock. Package nametable states the measured times. A hit makes its host the
// most recently used one, at most once a second.
//
// # What it does not do
//
// Lookups compare host names byte by byte, so they need the normal form, which package peek
// returns. The router must check whether it may connect to an endpoint, which could be its own
// address.
package hostlookup
