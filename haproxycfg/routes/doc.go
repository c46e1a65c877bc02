// Package routes reads declarations, each of which names a public host name and path, and the
// services of clusters that serve it. Programs make load balancer configurations, DNS records and
// CDN distributions from the same declarations.
//
//	routes:
//	- host: api.example.com          # or "*.example.com": one label
//	  path: /tracks                  # whole segments; default /
//	  backends:
//	  - {cluster: eu-1, namespace: media, service: tracks, port: http}
//	  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 50}
//
// Parse makes a Table from a file. Merge joins the tables of several files. New makes a Table from
// Go values. Every Table is in normal form, so equal declarations make equal tables.
//
//	table, problems := routes.Parse("edge.yaml", data)
//	for _, p := range problems {
//		log.Print(p) // edge.yaml:12: routes[3].host: "10.0.0.1" is not a host name: IP address at byte 0
//	}
//
// # Fields
//
// A file is YAML or JSON, with one or several documents, each with the list "routes". Keys at the
// top level that begin with "x-" are for YAML anchors. Merge keys do not work.
//
//	host       name, required
//	path       default "/"
//	exact      the path covers only itself; default false
//	backends   list, required, at most 64:
//	  cluster, namespace, service   DNS labels, required
//	  port     name or number of the service port, required
//	  weight   share of the traffic, 0 to 256; default 100
//	check      health check of the port of the service; without it, HAProxy checks
//	           only the node:
//	  path     path of an HTTP request; without a path, HAProxy only connects
//	  host     Host header of that request
//	  grpc     instead of a path: gRPC's health check of the whole server, which
//	           must answer SERVING; needs protocol grpc or h2c; default false
//	  interval duration, at least 100ms
//	  rise, fall   numbers of good and of bad results in a row, 1 to 100
//	protocol   between HAProxy and the services: http1 (default), h2c, which is
//	           HTTP/2 without TLS, or grpc, which is h2c with time for streams
//	limits     of all clients together, each from 1 to 10,000,000; default none:
//	  requests     requests a second
//	  connections  requests at the same time, including open WebSockets and streams
//	  source       the same two fields for each source: an IPv4 address, or the
//	               first 64 bits of an IPv6 address
//	timeouts:
//	  server   longest time without data from the service while HAProxy waits for its
//	           answer; default 60s, with grpc 1h. With grpc, the client may also be
//	           silent for this time
//	  tunnel   longest time without data in both directions of an upgraded connection
//	shift      true lets a program move requests of the route from one of its clusters
//	           to another at run time; default false. The route needs backends in at
//	           least two clusters
//	prefer     list of at most 32 preferences: which clusters serve the clients of a
//	           region. The route needs backends in at least two clusters:
//	  region   name of a region, see ParseRegions; without it, the preference is for
//	           all clients whose region is unknown or has no preference
//	  clusters 1 to 4 clusters of the route, the best one first, required
//	  quorum   percentage of a cluster's servers that HAProxy must be able to use,
//	           1 to 100; default 50
//
// routes.schema.json, in the directory of this package, is a JSON Schema of the file for editors.
// regions.schema.json is a JSON Schema of files of regions. The schemas do not express all rules.
//
// Durations have units: "500ms", "30s", "1h30m", "2d".
//
// # Normal form
//
// The host of a route becomes a name in lower case without a port and a final dot. Its labels
// consist of letters, digits, hyphens and underscores. Parse converts other characters as browsers
// do: "bücher.example" becomes "xn--bcher-kva.example". It refuses IP addresses, and names that end
// in a number, such as "a.0x7f".
//
// A path contains the bytes that a client sends in a request. HAProxy compares paths byte by byte:
// "/a%2Fb", "/a%2fb" and "/a/b" are three different paths. Parse refuses a query, a fragment, "*",
// empty segments, and segments that some servers read as "." or "..", such as "..;x" or
// "%252e%252e".
//
// A path covers itself and all paths below it, by whole segments: "/api" and "/api/" both cover
// "/api", "/api/" and "/api/v1", but not "/apiary". An exact path covers only itself, and keeps a
// slash at its end.
//
// # Precedence
//
// Table.Match defines the meaning of a table. A declared host has precedence over the wildcard that
// covers it, even if no route of the declared host covers the path. Among the routes of a host, an
// exact path has precedence, then the longest path.
//
// # Problems
//
// Parse leaves out a whole route if one of its fields has a problem, and keeps the other routes. If
// Parse left out only a bad backend, the other backends of the route would receive the traffic of
// this backend unnoticed.
//
// The requests of a route that Parse has left out go to the route of a shorter path of the same
// host, or to the wildcard that covers the host.
//
// If a file is not well-formed, Parse leaves out only the entry that contains the fault. If Parse
// finds no entry, the table is empty; a program should then keep an older table of the file.
//
// Of two routes with the same host, path and exactness, the first one stays.
//
// # Limits
//
// A file has at most MaxRoutes routes and MaxFileBytes bytes. Merge has no limit.
//
// The package does not check whether a cluster, a service or a port exists.
package routes
