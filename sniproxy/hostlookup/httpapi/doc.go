// Package httpapi contains a client and a server of the host API. SNI routers use this HTTP API to
// ask where the traffic for a host goes. The client can also follow the changes of the API.
//
//	GET /hosts/a.com                 200 {"app": "A", "host": "a.com", "endpoint": "10.0.0.24"}, or 404
//	GET /changes                     200 {"version": "v1", "reset": true}
//	GET /changes?since=v1&wait=30    200 {"version": "v2", "changes": [{"host": "a.com", "endpoint": "10.0.0.9", "max_age": 30}, {"host": "b.com"}]}
//
// A router asks about one host at a time with a Client, usually through a hostlookup.Cache. It can
// also follow the API's changes with a Feed. With a Feed, a change reaches the router's cache
// before the cached answers expire:
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
// 404 means that the server is certain that the host does not exist. Every other status except 200
// is a failure. So a server must not answer 404 while its own source fails, or for a path that is
// not part of the API.
//
// In an answer, host is the name of the server's entry. If the entry is a wildcard, host must be
// the wildcard, such as "*.example.com", and not the name in the request. A wildcard covers every
// name with one label in place of the "*".
//
// A client asks about each name below a wildcard, because the name may have an entry of its own.
// While the server fails, a client may use the endpoint of the wildcard for every name below it. If
// the server answers 404 for a name, it has no wildcard that covers this name.
//
// # Changes
//
// Clients follow changes by long polling. A request may have two parameters: since is a version,
// and wait is a number of seconds. If the request has no since, the server answers immediately with
// its present version. Otherwise, the server answers as soon as its version differs from the
// version in since. If its version does not differ within the time in wait, the server answers with
// the same version and no changes. The changes in an answer may end at an older version than the
// present one. In this case, the client asks again. If the server does not know the changes after
// the version in since, it answers with "reset": true, which means that any host may have changed.
//
// If a change has an endpoint, the client replaces its answer for this host by this endpoint. If a
// change has no endpoint, the client has to ask about this host again. The host of a change may be
// a wildcard. max_age is how many seconds the client may keep the endpoint. If max_age is 0 or
// missing, the client decides. Clients ignore members that they do not know.
package httpapi
