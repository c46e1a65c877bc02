package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	MaxRegions  = 1_000   // regions of one file
	MaxNetworks = 100_000 // networks of all regions of one file
	MaxValues   = 10_000  // values of all regions of one file
)

// Regions say in which region a client is. A [Preference] of a route names a region. Regions belong
// to the edge, as trusted proxies do, and not to a file of routes. The most specific network
// decides the region of a client for all routes, so whoever adds a network changes the routes of
// others too.
type Regions struct {
	// Header is the name of a request header in lower case, such as "cloudfront-viewer-country". It
	// counts only in requests of trusted proxies, see edge.Edge. Empty means no header.
	Header string
	// Regions are in the order of the file. No two of them have the same name, a network in common,
	// or a value in common.
	Regions []Region
}

// Region is a set of clients.
type Region struct {
	Name string // a DNS label
	// Networks are the networks of the clients, without bits after their prefix. If networks of
	// several regions contain the address of a client, the longest prefix decides.
	Networks []netip.Prefix
	// Values are the values of Regions.Header that mean this region, in lower case. If a request has
	// such a value, the networks do not count.
	Values []string
}

// Has reports whether there is a region with this name.
func (r Regions) Has(name string) bool {
	for i := range r.Regions {
		if r.Regions[i].Name == name {
			return true
		}
	}
	return false
}

// Equal reports whether r and o have the same header, and the same regions in the same order.
func (r Regions) Equal(o Regions) bool {
	return r.Header == o.Header && slices.EqualFunc(r.Regions, o.Regions, func(a, b Region) bool {
		return a.Name == b.Name && slices.Equal(a.Networks, b.Networks) && slices.Equal(a.Values, b.Values)
	})
}

// ParseRegions reads a file of regions, YAML or JSON:
//
//	header: CloudFront-Viewer-Country # optional
//	regions:
//	- name: eu
//	  networks: [192.0.2.0/24, "2001:db8::/32"]
//	  values: [DE, FR]
//
// ParseRegions leaves out each network, value or region that has a problem, and keeps the others.
// If the file is not well-formed, is larger than MaxFileBytes, or has no "regions", ok is false,
// and the last problem says why nothing of the file can be used.
//
// The argument "file" is the name of the file in the problems. The problems are sorted by line, and
// there are at most 10,000 of them.
func ParseRegions(file string, data []byte) (r Regions, problems []Problem, ok bool) {
	whole := func(line int, message string) (Regions, []Problem, bool) {
		return Regions{}, []Problem{{File: file, Line: line, Message: message}}, false
	}
	if len(data) > MaxFileBytes {
		return whole(1, fmt.Sprintf("the file has %d bytes, more than %d", len(data), MaxFileBytes))
	}
	roots, syntax := documents(data)
	switch {
	case syntax != nil:
		return whole(syntax.line, syntax.message)
	case len(roots) == 0:
		return whole(1, "the file is empty; an intended empty list says regions: []")
	case len(roots) > 1:
		return whole(roots[1].Line, "has more than one document")
	case deref(roots[0]).Kind != yaml.MappingNode:
		return whole(roots[0].Line, `must be a mapping; put the list under "regions:"`)
	}
	c := newCollector(file, len(data))
	c.top = "regions"
	p := regionParser{decoder: &c.decoder, names: map[string]int{}, networks: map[netip.Prefix]string{}, values: map[string]string{}}
	c.mapping(roots[0], "", fields{
		{"header", p.header},
		{"regions", func(n *yaml.Node, at string) {
			ok = true
			if deref(n).ShortTag() == "!!null" { // all regions of the file are comments
				return
			}
			c.sequence(n, at, func(n *yaml.Node, at string) bool { return p.region(n, at) })
		}},
	})
	if p.out.Header == "" && len(p.values) > 0 {
		c.report(roots[0].Line, "header", "is missing or wrong, so the values of the regions have no effect")
	}
	if !ok {
		c.report(roots[0].Line, "regions", "is missing; an intended empty list says regions: []")
		_, last, _ := whole(roots[0].Line, "the file has no regions")
		return Regions{}, append(c.sortedProblems(nil), last...), false
	}
	return p.out, c.sortedProblems(nil), true
}

// regionParser reads the regions of one file.
type regionParser struct {
	*decoder
	out      Regions
	names    map[string]int          // the line of each region
	networks map[netip.Prefix]string // the region of each network
	values   map[string]string       // the region of each value
}

func (p *regionParser) header(n *yaml.Node, at string) {
	var name string
	p.str(&name)(n, at)
	if name == "" {
		return
	}
	if err := CheckRegionHeader(name); err != nil {
		p.report(n.Line, at, quote(name)+" "+err.Error())
		return
	}
	p.out.Header = strings.ToLower(name)
}

// region reads one region. It returns false if the file has too many regions.
func (p *regionParser) region(n *yaml.Node, at string) bool {
	if len(p.out.Regions) == MaxRegions {
		p.report(n.Line, at, fmt.Sprintf("there are more than %d regions; this one and all after it are left out", MaxRegions))
		return false
	}
	var r Region
	var networks, values *yaml.Node
	named := false
	if !p.mapping(n, at, fields{
		{"name", func(n *yaml.Node, at string) { named = true; p.str(&r.Name)(n, at) }},
		{"networks", func(n *yaml.Node, _ string) { networks = n }},
		{"values", func(n *yaml.Node, _ string) { values = n }},
	}) {
		return true
	}
	if named && r.Name == "" { // str has reported it
		return true
	}
	if err := checkDNSLabel(r.Name); err != nil {
		p.report(lineOf(n, "name"), join(at, "name"), strings.TrimPrefix(quote(r.Name)+" ", `"" `)+err.Error()+"; the region is left out")
		return true
	}
	if line, ok := p.names[r.Name]; ok {
		p.report(n.Line, join(at, "name"), fmt.Sprintf("%s is the region in line %d already; this entry is left out", quote(r.Name), line))
		return true
	}
	p.names[r.Name] = n.Line
	if networks != nil {
		p.entries(networks, join(at, "networks"), func(n *yaml.Node, at string) bool {
			return p.network(n, at, &r)
		})
	}
	if values != nil {
		p.entries(values, join(at, "values"), func(n *yaml.Node, at string) bool {
			return p.value(n, at, &r)
		})
	}
	p.out.Regions = append(p.out.Regions, r)
	return true
}

// entries calls the function "each" for every item of a list. It stops with a problem if the
// aliases of the file have used up the budget of nodes.
func (p *regionParser) entries(n *yaml.Node, at string, each func(n *yaml.Node, at string) bool) {
	p.sequence(n, at, func(n *yaml.Node, at string) bool {
		if p.budget <= 0 {
			p.report(n.Line, at, "the file's aliases repeat too much; this entry and all after it are left out")
			return false
		}
		return each(n, at)
	})
}

func (p *regionParser) network(n *yaml.Node, at string, r *Region) bool {
	var text string
	p.str(&text)(n, at)
	if text == "" {
		return true
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		err = errors.New("is not a network such as 192.0.2.0/24")
	case network != network.Masked():
		err = fmt.Errorf("has bits after its prefix: write %s", network.Masked())
	case network.Addr().Is4In6():
		err = errors.New("is an IPv4 network in IPv6 form: write it as an IPv4 network")
	case p.networks[network] != "":
		err = fmt.Errorf("is a network of the region %s already", p.networks[network])
	case len(p.networks) == MaxNetworks:
		p.report(n.Line, at, fmt.Sprintf("there are more than %d networks; this one and all after it are left out", MaxNetworks))
		return false
	}
	if err != nil {
		p.report(n.Line, at, quote(text)+" "+err.Error()+"; it is left out")
		return true
	}
	p.networks[network] = r.Name
	r.Networks = append(r.Networks, network)
	return true
}

func (p *regionParser) value(n *yaml.Node, at string, r *Region) bool {
	var text string
	p.str(&text)(n, at)
	if text == "" {
		return true
	}
	value := strings.ToLower(text)
	switch err := CheckRegionValue(value); {
	case err != nil:
		p.report(n.Line, at, quote(text)+" "+err.Error()+"; it is left out")
	case p.values[value] != "":
		p.report(n.Line, at, fmt.Sprintf("%s is a value of the region %s already; it is left out", quote(text), p.values[value]))
	case len(p.values) == MaxValues:
		p.report(n.Line, at, fmt.Sprintf("there are more than %d values; this one and all after it are left out", MaxValues))
		return false
	default:
		p.values[value] = r.Name
		r.Values = append(r.Values, value)
	}
	return true
}

// reservedHeaders are headers that must not contain the region of a client. HAProxy removes the
// header of the region from each request that does not come from a trusted proxy. If it removed one
// of the reserved headers, requests would fail.
var reservedHeaders = []string{
	"host", "connection", "upgrade", "te", "trailer", "transfer-encoding", "content-length", "content-type", "expect", "cookie",
	"authorization", "x-forwarded-for", "x-forwarded-proto",
}

// CheckRegionHeader returns an error if Regions.Header must not have this value.
func CheckRegionHeader(name string) error {
	if len(name) == 0 || len(name) > 64 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("is not a header name of 1 to 64 letters, digits and hyphens")
	}
	for _, reserved := range reservedHeaders {
		if strings.EqualFold(name, reserved) {
			return errors.New("has another meaning, and cannot name a region")
		}
	}
	return nil
}

// CheckRegionValue returns an error if Region.Values must not contain this value.
func CheckRegionValue(value string) error {
	if len(value) == 0 || len(value) > 64 || strings.Trim(value, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return errors.New(`is not a value of 1 to 64 letters, digits and "-_."`)
	}
	return nil
}
