// Package httpapi contains both halves of the host API, the HTTP API that SNI routers ask where
// the traffic for a host goes: a client with its change feed, and a server.
//
//	GET /hosts/a.com                 200 {"app": "A", "host": "a.com", "endpoint": "10.0.0.24"}, or 404
//	GET /changes                     200 {"version": "v1", "reset": true}
//	GET /changes?since=v1&wait=30    200 {"version": "v2", "changes": [{"host": "a.com", "endpoint": "10.0.0.9", "max_age": 30}, {"host": "b.com"}]}
//
// A router asks about one host at a time through a Client, normally behind a hostlookup.Cache.
// It may also follow the API's changes through a Feed, so that a change reaches its cache before
// the cached answers expire:
//
//	cache := &hostlookup.Cache{Source: &httpapi.Client{URL: "http://127.0.0.1:9000/hosts/{host}"}}
//	defer cache.Close()
//	go cache.Follow(ctx, &httpapi.Feed{URL: "http://127.0.0.1:9000/changes"}, nil)
//
// A server publishes a set of hosts through a Handler:
//
//	api := &httpapi.Handler{}
//	_, err := api.Publish(hosts) // again at each change
//	err = http.ListenAndServe("127.0.0.1:9000", api)
//
// The two halves need not come from this package: any HTTP server that answers as above is a
// host API.
//
// # Hosts
//
// The answer's Cache-Control says how long a client may keep it (RFC 9111), for a 404 too. A 404
// says with authority that the host does not exist. No other status does, so a server must not
// answer 404 while its own source fails, or to a path that it does not know.
//
// # Changes
//
// The feed works by long polling. A request without since is answered at once with the present
// version. A request with since is answered as soon as another version is published, or after wait
// seconds with the same version and no changes. An answer may stop at any version between the two.
// An API that does not know the changes since a version answers "reset": any host may have changed.
//
// A change with an endpoint replaces the client's answer for that host. A change without one
// says that the client has to ask about that host again. The host of a change may be a wildcard.
// max_age is how many seconds the client may keep the endpoint; 0, or no max_age, leaves that to
// the client. Clients ignore members that they do not know.
package httpapi
