// Package routes reads declarations: which public host name and path is served
// by which services of which clusters. Load balancers, DNS entries and CDN
// distributions are all made of the same declarations.
//
//	routes:
//	- host: api.example.com          # or "*.example.com": one label
//	  path: /tracks                  # whole segments; default /
//	  backends:
//	  - {cluster: eu-1, namespace: media, service: tracks, port: http}
//	  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
//
// Parse turns a file into a Table, Merge joins tables of several files, New
// makes one of Go values. A Table is plain data in one normal form, so equal
// declarations give equal tables and everything made of them can be compared
// byte by byte:
//
//	table, problems := routes.Parse("edge.yaml", data)
//	for _, p := range problems {
//		log.Print(p) // edge.yaml:12: routes[3].host: "10.0.0.1" is not a host name: IP address, …
//	}
//
// # Fields
//
// A file is YAML or JSON, in one or several documents, each with the list
// "routes". Keys at the top that begin with "x-" are passed over; they are a
// place for anchors. Aliases are understood, merge keys are not.
//
//	host       name, required
//	path       default "/"
//	exact      the path covers itself alone; default false
//	backends   list, required, at most 64:
//	  cluster, namespace, service   DNS labels, required
//	  port     name or number of the service port, required
//	  weight   share of traffic, 0 to 256; default 100
//	check      health check of the service's own port instead of its node's:
//	  path     of an HTTP request; without one, a TCP connect
//	  host     Host header of that request
//	  interval duration, at least 100ms
//	  rise, fall   counts of answers, 1 to 100
//	timeouts:
//	  server   duration of silence while an answer is due
//	  tunnel   duration of silence of an upgraded connection
//
// Durations have units: "500ms", "30s", "1h30m", "2d".
//
// # Normal form
//
// A host becomes a name in lower case without a port and without a final dot. Its labels have
// letters, digits, hyphens and underscores. A name outside ASCII is mapped as browsers map it:
// "bücher.example" is "xn--bcher-kva.example". A wildcard is "*" in place of the whole first
// label. IP addresses are refused, and so are names that end in a number, such as "a.0x7f".
// Clients, the hosts file and the host API use the same normal form.
//
// A path holds the bytes that a request carries: percent-encoded where it must
// be, and compared byte by byte, so "/a%2Fb", "/a%2fb" and "/a/b" are three
// paths, and "/a" and "/A" are two. Query, fragment, "*", empty segments and
// the segments "." and ".." are refused: no client sends them, or programs on
// the way disagree on them. A path covers itself and everything below it by
// whole segments, so a trailing slash would say nothing and is cut: "/api" and
// "/api/" alike cover "/api", "/api/" and "/api/v1", not "/apiary". An exact
// path covers only itself, and keeps its slash.
//
// # Precedence
//
// Table.Match is the meaning of a table in Go. A host beats the wildcard above
// it and hides it: a request for a declared host whose path is not declared is
// served by nothing. Below a host, an exact path comes first, then the longest.
//
// # Problems
//
// A bad route is left out whole and the others stay. One bad backend makes its
// route bad, since the traffic meant for it would silently go to the others. A
// key that is not known makes its route bad, since what it was to change is not
// known either. Mind that a route that was left out hides nothing: a shorter
// path of the same host, or the wildcard above it, serves its requests. A file
// that is not well-formed gives no routes; callers who have an older table of
// it will rather keep that.
//
// Two routes of the same host, path and exactness conflict even if they are
// alike: the first stands.
//
// # What it does not do
//
// It does not know which clusters, services and ports exist, opens no files and
// resolves no names.
package routes
