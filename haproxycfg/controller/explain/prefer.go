package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// addPreferences adds the preferences of the route, and returns its backends: "main" with all servers,
// and one for each preferred cluster. The argument "entries" has the entries of edge.PreferMap.
func (e *Explanation) addPreferences(route routes.Route, config *haproxycfg.Config, main string, entries map[string]string) []Backend {
	servers := map[string]int{}
	for _, b := range config.Backends {
		for _, s := range b.Servers {
			if s.Weight != haproxycfg.NoTraffic {
				servers[b.Name]++
			}
		}
	}
	roles := []Backend{{Name: main, Role: "the requests of clients for whom no preferred cluster has enough servers"}}
	for _, p := range route.Prefer {
		list, ok := edge.ParsePreferred(entries[main+"/"+p.Region])
		if !ok {
			continue // the region is unknown, or all its clusters have the weight 0
		}
		preference := Preference{Region: p.Region}
		for _, cluster := range p.Clusters {
			if !slices.ContainsFunc(route.Backends, func(b routes.Backend) bool { return b.Cluster == cluster && b.Weight > 0 }) {
				continue // the map has no entry for a cluster with the weight 0
			}
			x := list[len(preference.Clusters)]
			preference.Clusters = append(preference.Clusters, Preferred{Cluster: cluster, Backend: x.Backend, Servers: servers[x.Backend], Min: x.Min})
			if !slices.ContainsFunc(roles, func(b Backend) bool { return b.Name == x.Backend }) {
				roles = append(roles, Backend{Name: x.Backend, Role: "the requests of clients for whom " + cluster + " is the first cluster with enough servers"})
			}
		}
		e.Route.Prefer = append(e.Route.Prefer, preference)
	}
	return roles
}

// addUsable adds the numbers of usable servers to the preferences of the route.
func (e *Explanation) addUsable(stats []runtimeapi.Stat) {
	if e.Route == nil {
		return
	}
	known, usable := map[string]bool{}, map[string]int{}
	for _, row := range stats {
		known[row.Proxy] = true
		if (strings.HasPrefix(row.Status, "UP") || row.Status == "no check") && row.Weight > 0 {
			usable[row.Proxy]++
		}
	}
	for i := range e.Route.Prefer {
		p := &e.Route.Prefer[i]
		for j := range p.Clusters {
			x := &p.Clusters[j]
			if !known[x.Backend] && x.Servers > 0 {
				break // it is not known whether a later cluster serves
			}
			n := usable[x.Backend]
			x.Usable = &n
			if p.Now == "" && n >= x.Min {
				p.Now = x.Cluster
			}
		}
	}
}

// String returns one line about the preference.
func (p Preference) String() string {
	who := "all other clients"
	if p.Region != "" {
		who = "clients of the region " + p.Region
	}
	var clusters []string
	known := true
	for _, x := range p.Clusters {
		text := fmt.Sprintf("%s (%s, at least %d must be usable", x.Cluster, count(x.Servers, "server"), x.Min)
		if known = known && x.Usable != nil; x.Usable != nil {
			text += fmt.Sprintf(", %d usable now", *x.Usable)
		}
		clusters = append(clusters, text+")")
	}
	line := who + ": " + strings.Join(clusters, ", then ")
	switch {
	case p.Now != "":
		line += ". Now " + p.Now + " serves them"
	case known:
		line += ". Now no cluster has enough servers, so the declared weights decide"
	}
	return line
}
