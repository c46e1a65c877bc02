// Package routes reads declarations. A declaration names a public host name and path, and the
// services of clusters that serve it. Load balancers, DNS records and CDN distributions are all
// made from the same declarations.
//
//	routes:
//	- host: api.example.com          # or "*.example.com": one label
//	  path: /tracks                  # whole segments; default /
//	  backends:
//	  - {cluster: eu-1, namespace: media, service: tracks, port: http}
//	  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
//
// Parse makes a Table from a file. Merge joins the tables of several files. New makes a Table from
// Go values. A Table has one normal form: equal declarations give equal tables, and equal tables
// give equal bytes of everything that is made from them.
//
//	table, problems := routes.Parse("edge.yaml", data)
//	for _, p := range problems {
//		log.Print(p) // edge.yaml:12: routes[3].host: "10.0.0.1" is not a host name: IP address at byte 0
//	}
//
// # Fields
//
// A file is YAML or JSON. It has one or several documents, each with the list "routes". Parse
// ignores keys at the top level that begin with "x-": they are a place for anchors. Parse supports
// aliases, but not merge keys.
//
//	host       name, required
//	path       default "/"
//	exact      the path covers only itself; default false
//	backends   list, required, at most 64:
//	  cluster, namespace, service   DNS labels, required
//	  port     name or number of the service port, required
//	  weight   share of the traffic, 0 to 256; default 100
//	check      health check of the service's own port instead of its node's:
//	  path     of an HTTP request; without a path, HAProxy only connects
//	  host     Host header of that request
//	  interval duration, at least 100ms
//	  rise, fall   counts of results, 1 to 100
//	timeouts:
//	  server   longest silence of the service while it owes an answer
//	  tunnel   longest silence of an upgraded connection
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
// A path contains the bytes that a request contains, with percent-encoding where it is necessary.
// Paths are compared byte by byte: "/a%2Fb", "/a%2fb" and "/a/b" are three paths, and "/a" and "/A"
// are two. A query, a fragment, "*", empty segments, and the segments "." and ".." are refused:
// clients never send them, or programs on the way change them in different ways.
//
// A path covers itself and everything below it by whole segments. A slash at its end would change
// nothing, so it is removed: "/api" and "/api/" both cover "/api", "/api/" and "/api/v1", but not
// "/apiary". An exact path covers only itself, and keeps its slash.
//
// # Precedence
//
// Table.Match defines the meaning of a table. A host has precedence over the wildcard above it and
// hides it: if a host is declared and the path is not, no route serves the request. Among the
// routes of a host, an exact path has precedence, then the longest path.
//
// # Problems
//
// Parse leaves out a whole route if one of its fields has a problem, and keeps the other routes:
//   - If a backend is bad, the other backends would receive its traffic, and nobody would notice.
//   - If a key is unknown, its intended effect is unknown too.
//
// A route that is left out hides nothing: a shorter path of the same host, or the wildcard above
// it, serves its requests.
//
// In a file that is not well-formed, the fault costs the entry that contains it: Parse reads the
// other entries one by one. A line between entries that belongs to nothing, such as a conflict
// marker, is a problem too. A file in which Parse finds no entry has no routes. A program that has
// an older table of the file should keep that table.
//
// Two routes conflict if they have the same host, path and exactness, even if the rest is equal.
// The first one stays.
//
// # Limits
//
// A file has at most MaxRoutes routes and MaxFileBytes bytes. Merge has no limit, so that one file
// takes nothing from another.
//
// The package opens no files and resolves no names. It does not check whether a cluster, a service
// or a port exists.
package routes
