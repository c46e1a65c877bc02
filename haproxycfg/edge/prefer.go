package edge

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// The next line compiles only if a value of PreferMap has room for each cluster of a
// routes.Preference.
const _ = uint(haproxycfg.MaxPreferred - routes.MaxPreferred)

// addPreferences adds the entries of the route r to PreferMap, and a backend for each cluster of the
// route. The argument "name" is the name of the backend that contains all servers of the route.
//
// The route has a backend for each of its clusters, also for those that it does not prefer. So a
// change of its preferences changes only PreferMap.
func (b *builder) addPreferences(name string, r *routes.Route) {
	b.prefers = true
	type part struct {
		name    string
		servers int
	}
	parts := map[string]part{} // by cluster
	for _, cluster := range r.Clusters() {
		in := func(rb routes.Backend) bool { return rb.Cluster == cluster }
		only, servers := b.addPart(name, r, in)
		for _, rb := range r.Backends {
			if in(rb) && rb.Weight > 0 {
				parts[cluster] = part{only, servers}
			}
		}
	}
	for _, p := range r.Prefer {
		if p.Region != "" && !b.edge.Regions.Has(p.Region) {
			b.problemf(r.Position, "prefer", "%q is not a region of the edge; this preference is left out", p.Region)
			continue
		}
		var fields []string
		for _, cluster := range p.Clusters {
			if part, ok := parts[cluster]; ok {
				fields = append(fields, part.name, strconv.Itoa(least(part.servers, cmp.Or(p.Quorum, Quorum))))
			}
		}
		if len(fields) > 0 {
			b.prefer = append(b.prefer, haproxycfg.MapEntry{Key: name + "/" + p.Region, Value: strings.Join(fields, "/")})
		}
	}
}

// regionMaps returns the maps with the networks of the regions and with the values of the header.
func (e *Edge) regionMaps() []haproxycfg.Map {
	if len(e.Regions.Regions) == 0 {
		return nil
	}
	networks := haproxycfg.Map{Name: RegionsMap, Stable: true}
	values := haproxycfg.Map{Name: RegionValuesMap, Stable: true}
	for _, region := range e.Regions.Regions {
		for _, n := range region.Networks {
			networks.Entries = append(networks.Entries, haproxycfg.MapEntry{Key: n.String(), Value: region.Name})
		}
		for _, value := range region.Values {
			values.Entries = append(values.Entries, haproxycfg.MapEntry{Key: value, Value: region.Name})
		}
	}
	if e.Regions.Header == "" {
		return []haproxycfg.Map{networks}
	}
	return []haproxycfg.Map{networks, values}
}

// Preferred is a backend in a value of PreferMap.
type Preferred struct {
	Backend string // with the servers in one cluster of the route
	Min     int    // the number of its servers that HAProxy must be able to use
}

// ParsePreferred parses a value of PreferMap. ok is false if the text is not such a value.
func ParsePreferred(text string) (list []Preferred, ok bool) {
	fields := strings.Split(text, "/")
	if len(fields)%2 != 0 {
		return nil, false
	}
	for i := 0; i < len(fields); i += 2 {
		n, err := strconv.Atoi(fields[i+1])
		if err != nil {
			return nil, false
		}
		list = append(list, Preferred{fields[i], n})
	}
	return list, true
}
