// Package hostlookup answers where the traffic for a host name goes: from an HTTP API,
// from a file, or from any function, and out of a cache that keeps known hosts served
// while their source is down.
//
//	api := &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}
//	cache := &hostlookup.Cache{Source: api}
//	defer cache.Close()
//	file := &hostlookup.File{Path: "hosts.json"} // go file.Watch(ctx) to follow it
//	hosts := hostlookup.Chain(file, cache)
//
//	ep, err := hosts.LookupHost(ctx, "a.com")
//	switch {
//	case err == nil:
//		addr, err := ep.DialAddr(443) // "10.0.0.24:443"
//	case errors.Is(err, hostlookup.ErrNotFound):
//		// there is no such host
//	default:
//		// nobody knows, for now
//	}
//
// # Three outcomes
//
// A lookup gives an Endpoint, or ErrNotFound, or another error. ErrNotFound is knowledge:
// the source says that the host does not exist. Every other error is the lack of it. All
// parts keep the two apart. An error is never turned into ErrNotFound, is never remembered
// as that, and does not make Chain or Default go on to somebody else's endpoint.
//
// # What the cache promises
//
// An endpoint is served for its TTL: the source's, or else Cache.TTL, less some jitter.
// After that the source is asked first. Then:
//
//   - It gives an endpoint or ErrNotFound: that replaces what was stored, at once.
//   - It fails: the old endpoint is served as stale, and the source is not asked again
//     for Cache.Recheck (RFC 8767), or as long as it asks for with Error, up to 5 minutes.
//   - It is slow: whoever waits gets the old endpoint after Cache.StaleAfter, and those
//     that come later get it at once. The answer counts when it comes.
//   - The endpoint is older than its TTL and Cache.StaleFor: it is not served in any case.
//
// A host of which nothing is known gets what the source says, and waits for it. If that is
// a failure, it is repeated for Cache.ErrorTTL, as the error it is. A "not found" past its
// TTL is worth nothing, whatever the source does.
//
// Hosts not found are counted apart from those known, so that made-up names cannot evict
// real ones. Names below a wildcard of the source are known, each on its own: where there is
// one, anybody can make up names that are, and Cache.MaxHosts is what bounds them.
//
// For one host the source is called once at a time, whoever waits, and for all together
// Cache.MaxCalls times. Calls belong to the cache: they end with their own
// time-out, not with a caller, and see nothing of callers' contexts. A panic in the source
// is an error for all who waited. What Set, Forget, Purge, Expire, or a Feed change while
// a call is under way, its answer does not undo.
//
// # Speed
//
// A lookup that the cache can answer takes no lock, does not allocate, and reads the system's
// clock only if the last one was a while ago: it finds its entry in an open-addressing table
// whose slots are atomic pointers. golang-lru keeps the order in which entries are evicted;
// a hit moves its entry there at most once a second. Names are hashed with a random
// seed, since it is strangers who choose them.
//
// # What it does not do
//
// It does not check host names; package peek does. It compares them byte by byte, so they have
// to come in normal form. It does not check whether an endpoint may be connected to,
// say that it is not the router itself; the router does. It does not store anything on disk;
// All and SetAll let a program do that, with ages that count on.
package hostlookup
