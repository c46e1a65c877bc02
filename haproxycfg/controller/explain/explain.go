package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Input is the state from which Explain computes an Explanation.
type Input struct {
	// Time is the time at which Explain judges whether nodes can be used. The zero Time means that
	// Explain does not judge nodes: it uses only the reasons in Report.
	Time time.Time
	// Builder has made the configuration.
	Builder kube.Builder
	// Table has the routes of the configuration.
	Table routes.Table
	// Clusters are the clusters with their latest objects, which may be newer than Report. If a
	// cluster is missing in Clusters, or has no objects there, Explain uses the nodes that Report
	// contains for this cluster, and Report's reasons why nodes are unused.
	Clusters []kube.Cluster
	// Report describes the configuration: the nodes of each service, problems, and the last change.
	Report kube.Report
	// Planned means that Table and Report describe a configuration that is not in force.
	Planned bool
	// Latest, if not nil, are the latest declarations, which may not be in force yet.
	Latest *routes.Table
	// Backend, if not nil, returns the name of the backend to which HAProxy, with the files in
	// force, sends the requests for a host and a path. The method Backend of a deploy.InForce is
	// such a function.
	Backend func(host, path string, exact bool) (name string, ok bool)
	// Allow, if not nil, returns a text that says how to allow the refused change with this ID.
	Allow func(id string) string
}

// Explanation says where the requests for a host and a path go, and why.
type Explanation struct {
	// Time is Input.Time.
	Time time.Time `json:"time,omitzero"`
	Host string    `json:"host"`
	Path string    `json:"path"`
	// InForce is false if the explanation describes a configuration that HAProxy does not run yet.
	InForce bool `json:"inForce"`
	// Applied identifies the configuration in force. It is nil if nothing is in force or if the
	// configuration is unknown.
	Applied *kube.Applied `json:"applied,omitempty"`
	// Route is the declared route that serves the requests. If Route is nil, no route serves them,
	// and NoRoute says why.
	Route   *Route `json:"route,omitempty"`
	NoRoute string `json:"noRoute,omitempty"`
	// Backends are the backends of HAProxy for the requests. Usually there is one, the backend of
	// the route. During a shift of the route, two more follow, and HAProxy divides all requests
	// between these two.
	Backends []Backend `json:"backends,omitempty"`
	// Services are the services of the route, in the order of the declaration's normal form.
	Services []Service `json:"services,omitempty"`
	// Problems are the problems of the route, of its clusters and services, and of its nodes.
	Problems []kube.Problem `json:"problems,omitempty"`
	// Notes say how the latest declarations, and the files that HAProxy uses, differ from the
	// configuration that the Explanation describes.
	Notes []string `json:"notes,omitempty"`
	// Change is the last change that was applied.
	Change *kube.Changes `json:"change,omitempty"`
	// Refused is a later change that was refused, and Allow says how to allow it.
	Refused *kube.Changes `json:"refused,omitempty"`
	Allow   string        `json:"allow,omitempty"`
	// The field HAProxy contains the reason why the fields Now and TrackNow of the servers are
	// missing. It is empty if HAProxy has answered.
	HAProxy string `json:"haproxy,omitempty"`
}

// Route is the declaration of a route.
type Route struct {
	// Name is routes.Route.Name.
	Name  string `json:"name"`
	Host  string `json:"host"`
	Path  string `json:"path"`
	Exact bool   `json:"exact,omitempty"`
	// File and Line are the place of the declaration.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Protocol is "http1", "h2c" or "grpc".
	Protocol string `json:"protocol"`
	// Shift says to which cluster the requests of the route move now, and how many of them. It is
	// empty if there is no shift of the route.
	Shift string `json:"shift,omitempty"`
	// Prefer are the preferences of the route, see routes.Route. It is empty while Shift is in force,
	// because the preferences have no effect then.
	Prefer []Preference `json:"prefer,omitempty"`
}

// Preference says which cluster serves the clients of a region.
type Preference struct {
	// Region is the region of the clients. An empty Region stands for all clients whose region is
	// unknown or has no preference of its own.
	Region string `json:"region,omitempty"`
	// Clusters are the preferred clusters that can get requests, the best one first.
	Clusters []Preferred `json:"clusters"`
	// Now is the cluster that serves the clients now: the first of Clusters with enough usable servers.
	// It is empty if there is none, or if the states of the servers are unknown.
	Now string `json:"now,omitempty"`
}

// Preferred is a cluster of a Preference.
type Preferred struct {
	Cluster string `json:"cluster"`
	// Backend is the backend of HAProxy with the servers of the route in this cluster.
	Backend string `json:"backend"`
	// Servers is the number of servers in Backend. The cluster serves clients while at least Min of
	// these servers are usable.
	Servers int `json:"servers"`
	Min     int `json:"min"`
	// Usable is the number of servers that HAProxy can use now. Nil means unknown.
	Usable *int `json:"usable,omitempty"`
}

// Backend is a backend of HAProxy.
type Backend struct {
	Name string `json:"name"`
	// Role says which requests the backend gets.
	Role    string `json:"role"`
	Servers int    `json:"servers"`
}

// Service is a service of the route.
type Service struct {
	routes.Ref
	// Weight is the declared weight. Percent is the share of the route's requests that the service
	// gets while all servers are healthy, from 0 to 100.
	Weight  int     `json:"weight"`
	Percent float64 `json:"percent"`
	// ServiceWeight is the weight in the annotation of the service, in percent. The agents of the
	// service answer HAProxy with this weight.
	ServiceWeight int    `json:"serviceWeight,omitempty"`
	NodePort      uint16 `json:"nodePort,omitempty"`
	AgentPort     uint16 `json:"agentPort,omitempty"`
	// Missing says why the service has no servers. It is empty if it has servers.
	Missing string `json:"missing,omitempty"`
	// Connectivity says whether the cluster answers.
	Connectivity kube.Connectivity `json:"connectivity,omitzero"`
	// Nodes are the nodes that serve the service, and Unused all other nodes, both sorted by name.
	Nodes  []Node `json:"nodes"`
	Unused []Node `json:"unused"`
	// Unknown is the number of nodes of the cluster that are neither in Nodes nor in Unused,
	// because the reason why they do not serve the service is unknown.
	Unknown int `json:"unknown,omitempty"`
}

// Node is a node of a cluster.
type Node struct {
	nodeselect.Choice
	// Text says in one sentence why the node serves the service, or why it does not.
	Text string `json:"text"`
	// Servers are the servers in HAProxy through which requests for the service reach this node.
	Servers []Server `json:"servers,omitempty"`
}

// Server is a server of HAProxy.
type Server struct {
	Backend string `json:"backend"`
	Name    string `json:"name"`
	// Weight is the weight in the configuration. It is 0 if the server gets no requests.
	Weight int `json:"weight"`
	// Track is the server that this server tracks, as "backend/server": HAProxy gives this server
	// the health of the tracked one. It is empty if HAProxy checks this server itself.
	Track string `json:"track,omitempty"`
	// Now describes the state of the server, and TrackNow the state of the server that it tracks.
	// Nil means unknown.
	Now      *Now `json:"now,omitempty"`
	TrackNow *Now `json:"trackNow,omitempty"`
}

// Explain explains where the requests for a target go.
func Explain(in Input, target Target) Explanation {
	e := Explanation{
		Time: in.Time, Host: target.Host, Path: target.Path, InForce: !in.Planned,
		Applied: in.Report.Applied, Change: in.Report.Changes, Refused: in.Report.Refused,
	}
	if in.Planned {
		e.Applied = nil
	}
	if e.Refused != nil && in.Allow != nil {
		e.Allow = in.Allow(e.Refused.ID)
	}
	route, ok := target.route(in.Table)
	if reason := target.refused(); reason != "" {
		ok, e.NoRoute = false, reason
	} else if !ok {
		e.NoRoute = noRoute(in.Table, target)
	}
	e.noteLatest(in, target, route, ok)
	if !ok {
		e.Problems = problemsAbout(in.Report.Problems, func(p kube.Problem) bool { return strings.Contains(p.Message, target.Host) })
		return e
	}
	e.addRoute(in, route)
	return e
}

// noRoute says why no route of the table serves the target.
func noRoute(table routes.Table, target Target) string {
	paths, wildcard := []string{}, ""
	_, parent, _ := strings.Cut(target.Host, ".")
	for _, r := range table.Routes() {
		switch {
		case r.Host == target.Host && r.Exact:
			paths = append(paths, r.Path+" (exact)")
		case r.Host == target.Host:
			paths = append(paths, r.Path)
		case r.Host == "*."+parent:
			wildcard = r.Host
		}
	}
	text := "HAProxy answers 404: no route declares " + target.Host
	switch {
	case len(paths) > 0:
		text = fmt.Sprintf("HAProxy answers 404: %s has %d paths, and none of them covers %s: %s",
			target.Host, len(paths), target.Path, strings.Join(paths[:min(len(paths), 10)], ", "))
		if wildcard != "" {
			text += "; " + wildcard + " does not count, because the host has routes of its own"
		}
	case wildcard != "":
		text += ", and no path of " + wildcard + " covers " + target.Path
	}
	return text
}

// noteLatest adds a note to e if the latest declarations, in.Latest, differ from the explanation:
// they lead the target to a different route, or give the route different services or weights. If ok
// is true, the argument "route" is the route in the explanation. If ok is false, the explanation
// has no route.
func (e *Explanation) noteLatest(in Input, target Target, route routes.Route, ok bool) {
	if in.Latest == nil {
		return
	}
	latest, found := target.route(*in.Latest)
	switch {
	case found && !ok:
		e.note("the latest declarations have the route %s at %s, which is not in force yet", latest.Name(), latest.Position)
	case !found && ok:
		e.note("the latest declarations have no route for this, but the change is not in force yet")
	case found && latest.Compare(route) != 0:
		e.note("the latest declarations lead this to the route %s at %s, which is not in force yet", latest.Name(), latest.Position)
	case found && !slices.Equal(latest.Backends, route.Backends):
		e.note("the latest declaration at %s has other services or weights, which are not in force yet", latest.Position)
	}
}

func (e *Explanation) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

func (e *Explanation) addRoute(in Input, route routes.Route) {
	e.Route = &Route{
		Name: route.Name(), Host: route.Host, Path: route.Path, Exact: route.Exact,
		File: route.Position.File, Line: route.Position.Line, Protocol: cmp.Or(string(route.Protocol), "http1"),
	}
	var upstreams []edge.Upstream
	for _, b := range route.Backends {
		service, upstream := in.service(b)
		e.Services = append(e.Services, service)
		upstreams = append(upstreams, upstream)
	}
	e.addServers(in, route, upstreams)
	services := map[string]bool{}
	for _, s := range e.Services {
		services[s.Cluster+"/Service "+s.Namespace+"/"+s.Service] = true
		for _, n := range s.Nodes {
			services[s.Cluster+"/Node "+n.Node] = true
		}
		services[s.Cluster+"/"] = true
	}
	e.Problems = problemsAbout(in.Report.Problems, func(p kube.Problem) bool {
		return p.File != "" && p.File == route.Position.File && p.Line == route.Position.Line || p.Cluster != "" && services[p.Cluster+"/"+p.Object]
	})
	if in.Backend == nil || len(e.Backends) == 0 {
		return
	}
	switch name, ok := in.Backend(route.Host, route.Path, route.Exact); {
	case !ok:
		e.InForce = false
		e.note("HAProxy's files do not contain the route yet")
	case name != e.Backends[0].Name && e.InForce:
		e.rename(name)
	case name != e.Backends[0].Name:
		e.note("HAProxy's files lead the route to the backend %s now", name)
	}
}

// rename changes the name of the first backend to the argument "name", which is the name of this
// backend in HAProxy's files. This name differs from the usual name if another backend already has
// the usual name.
func (e *Explanation) rename(name string) {
	old := e.Backends[0].Name
	e.Backends[0].Name = name
	e.eachServer(func(s *Server) {
		if s.Backend == old {
			s.Backend = name
		}
	})
}

func (e *Explanation) eachServer(f func(*Server)) {
	for i := range e.Services {
		for j := range e.Services[i].Nodes {
			for k := range e.Services[i].Nodes[j].Servers {
				f(&e.Services[i].Nodes[j].Servers[k])
			}
		}
	}
}

// addServers adds the backends of the route and their servers. It renders the route alone, so its
// cost does not grow with the number of routes.
func (e *Explanation) addServers(in Input, route routes.Route, upstreams []edge.Upstream) {
	table, _ := routes.New(route)
	ed := in.Builder.Edge
	config, problems := ed.Config(table, upstreams)
	for _, p := range problems {
		e.Problems = append(e.Problems, kube.Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	entries := map[string]map[string]string{} // by the names of the maps
	for _, m := range config.Maps {
		entries[m.Name] = make(map[string]string, len(m.Entries))
		for _, entry := range m.Entries {
			entries[m.Name][entry.Key] = entry.Value
		}
	}
	main := ""
	for _, name := range []string{edge.Router.Prefix, edge.Router.Exact} {
		for _, backend := range entries[name] {
			main = backend
		}
	}
	roles := []Backend{{Name: main, Role: "all requests"}}
	share := ed.Shares[route.Name()]
	if expired := !share.Until.IsZero() && !e.Time.Before(share.Until); route.Shift && share.Cluster != "" && !expired {
		e.Route.Shift = fmt.Sprintf("%g%% of the requests go to %s", float64(share.Points)/100, share.Cluster)
		if !share.Until.IsZero() {
			e.Route.Shift += ", until " + share.Until.UTC().Format(time.RFC3339)
		}
		parts, _ := edge.ParseParts(entries[edge.PartsMap][main+"/"+share.Cluster])
		roles = []Backend{
			{Name: main, Role: "no requests while the route moves and enough servers are up"},
			{Name: parts.Only, Role: fmt.Sprintf("%g%% of the requests while at least %d of its servers can get requests", float64(share.Points)/100, parts.MinOnly)},
			{Name: parts.Rest, Role: fmt.Sprintf("all other requests while at least %d of its servers can get requests", parts.MinRest)},
		}
	} else if len(route.Prefer) > 0 {
		roles = e.addPreferences(route, config, main, entries[edge.PreferMap])
	}
	for _, role := range roles {
		i := slices.IndexFunc(config.Backends, func(b haproxycfg.Backend) bool { return b.Name == role.Name })
		if i < 0 {
			continue
		}
		role.Servers = len(config.Backends[i].Servers)
		e.Backends = append(e.Backends, role)
		e.addServersOf(config.Backends[i], role.Name == main)
	}
}

// addServersOf adds the servers of a backend to their nodes. If main is true, the backend contains
// the servers of all services of the route. addServersOf then also computes the share of each
// service from the weights of these servers.
func (e *Explanation) addServersOf(b haproxycfg.Backend, main bool) {
	at := make(map[netip.AddrPort][]haproxycfg.Server, len(b.Servers))
	total := 0
	for _, s := range b.Servers {
		at[s.Addr] = append(at[s.Addr], s)
		total += max(s.Weight, 0)
	}
	for i := range e.Services {
		service, sum := &e.Services[i], 0
		for j := range service.Nodes {
			n := &service.Nodes[j]
			addr := netip.AddrPortFrom(n.Addr.Unmap(), service.NodePort)
			k := slices.IndexFunc(at[addr], func(s haproxycfg.Server) bool {
				return service.AgentPort == 0 || s.AgentPort == service.AgentPort
			})
			if k < 0 { // another service of the route has the server at this address
				continue
			}
			s := at[addr][k]
			at[addr] = slices.Delete(at[addr], k, k+1)
			sum += max(s.Weight, 0)
			n.Servers = append(n.Servers, Server{Backend: b.Name, Name: s.Name(), Weight: max(s.Weight, 0), Track: s.Track})
		}
		if main && total > 0 {
			service.Percent = 100 * float64(sum) / float64(total)
		}
	}
}

func problemsAbout(all []kube.Problem, about func(kube.Problem) bool) (some []kube.Problem) {
	for _, p := range all {
		if about(p) {
			some = append(some, p)
		}
	}
	return some
}
