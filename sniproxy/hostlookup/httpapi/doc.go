// Package httpapi contains a client and a server of the host API, the HTTP API that SNI routers ask
// where the traffic for a host goes:
//
//	GET /hosts/a.com                 200 {"app": "A", "host": "a.com", "endpoint": "10.0.0.24"}, or 404
//	GET /changes                     200 {"version": "v1", "reset": true}
//	GET /changes?since=v1&wait=30    200 {"version": "v2", "changes": [{"host": "a.com", "endpoint": "10.0.0.9", "max_age": 30}, {"host": "b.com"}]}
//
// A router asks about one host at a time with a Client, usually through a hostlookup.Cache. With a
// Feed, changes reach the cache before its answers expire:
//
//	cache := &hostlookup.Cache{Source: &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}}
//	defer cache.Close()
//	go cache.Follow(ctx, &httpapi.Feed{URL: "http://127.0.0.1:9000/changes"}, nil)
//
// A server publishes hosts with a Handler:
//
//	api := &httpapi.Handler{}
//	_, err := api.Publish(hosts) // again at each change
//	err = http.ListenAndServe("127.0.0.1:9000", api)
//
// Client and Handler do not need each other: any HTTP server that answers as above is a host API.
//
// openapi.yaml, in the directory of this package, is an OpenAPI 3.1 document of the API.
//
// # Hosts
//
// The Cache-Control of an answer, 200 or 404, says how long a client may keep it (RFC 9111). Status
// 404 means that the host certainly does not exist, so a server must not answer 404 while its own
// source fails, or for a path that is not part of the API. Every other status except 200 is a
// failure.
//
// The member host of an answer is the name of the server's entry. It may be a wildcard, such as
// "*.example.com", which covers every name with one label in place of the "*".
//
// A client asks about each name below a wildcard, because the name may have an entry of its own.
// While the server fails, the client may use the endpoint of the wildcard. If the answer for a name
// is 404, no wildcard covers this name.
//
// # Changes
//
// Clients follow changes by long polling. The parameter since is a version, and wait is a number of
// seconds. Without since, the server answers immediately with its present version. With since, it
// answers as soon as its version differs from since. If this does not happen within wait seconds,
// it answers with the same version and no changes.
//
// The changes in an answer may end at an older version than the present one; the client then asks
// again. If the server does not know the changes after since, it answers with "reset": true, which
// means that any host may have changed.
//
// A change with an endpoint replaces the client's answer for this host, for max_age seconds; if
// max_age is 0 or missing, the client decides. After a change without an endpoint, the client has
// to ask about the host again. The host may be a wildcard. Clients ignore members that they do not
// know.
package httpapi
