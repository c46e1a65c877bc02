package routes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// CDNOptions are the settings of AppendCDN.
type CDNOptions struct {
	// Origin is the DNS name of the terminators. The CDN sends its requests for every host to
	// Origin. Origin must not be a host of the table, because the CDN would then send requests for
	// this host to itself.
	Origin string
}

// cdnFile is the JSON that the comment of AppendCDN describes.
type cdnFile struct {
	Distributions []cdnDistribution `json:"distributions"`
}

type cdnDistribution struct {
	Host       string         `json:"host"`
	Origin     string         `json:"origin"`
	Behaviours []cdnBehaviour `json:"behaviours"`
}

type cdnBehaviour struct {
	Path     string   `json:"path"`
	Exact    bool     `json:"exact"`
	Patterns []string `json:"patterns"`
}

// AppendCDN appends the settings of a content delivery network (CDN) for the table: indented JSON
// with a final line feed. There is one distribution for each host, sorted by host:
//
//	{
//	  "distributions": [
//	    {
//	      "host": "api.example.com",
//	      "origin": "edge.example.com",
//	      "behaviours": [
//	        {
//	          "path": "/tracks",
//	          "exact": false,
//	          "patterns": [
//	            "/tracks",
//	            "/tracks/*"
//	          ]
//	        }
//	      ]
//	    }
//	  ]
//	}
//
// The first behaviour of a host that matches a path is the route that Table.Match returns. In a
// pattern, "*" matches any bytes. If a path matches no behaviour, no route covers it, so the CDN
// need not forward such a request. The CDN must send the Host header of the viewer to the origin,
// because the terminators route by this header.
//
// Equal input makes equal bytes. The file cdn.schema.json in the directory of this package is the
// JSON schema of the output.
//
// If the options are invalid, or if Origin is a host of the table, AppendCDN returns an error and
// dst unchanged; see CDNOptions.Publishable.
func AppendCDN(dst []byte, t Table, o CDNOptions) ([]byte, error) {
	origin, err := normalHost(o.Origin)
	if err != nil {
		return dst, fmt.Errorf("routes: cdn: origin: %q %w", o.Origin, err)
	}
	file := cdnFile{Distributions: []cdnDistribution{}}
	for lo := 0; lo < len(t.routes); {
		host := t.routes[lo].Host
		if host == origin {
			return dst, fmt.Errorf("routes: cdn: the origin %s is a host of the table: it would fetch from itself", origin)
		}
		d := cdnDistribution{Host: host, Origin: origin}
		for ; lo < len(t.routes) && t.routes[lo].Host == host; lo++ {
			r := &t.routes[lo]
			d.Behaviours = append(d.Behaviours, cdnBehaviour{r.Path, r.Exact, patterns(r)})
		}
		slices.SortStableFunc(d.Behaviours, precedence)
		file.Distributions = append(file.Distributions, d)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // Paths may contain "&".
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		return dst, fmt.Errorf("routes: cdn: %w", err)
	}
	return append(dst, out.Bytes()...), nil
}

// Publishable returns the table without the host Origin, for which AppendCDN would fail, and a
// problem for this host. If Origin is not a host of the table, or if the options are invalid, it
// returns t itself.
func (o CDNOptions) Publishable(t Table) (Table, []Problem) {
	origin, err := normalHost(o.Origin)
	if err != nil {
		return t, nil
	}
	return t.withoutHost(origin, "it is the origin of the CDN, from which all others are fetched, and gets no distribution there")
}

// precedence compares two behaviours of a host, as [strings.Compare] does. It returns a negative
// number if a comes before b: exact paths come before prefixes, longer paths before shorter ones,
// and equally long paths are in the order of their text.
func precedence(a, b cdnBehaviour) int {
	if a.Exact != b.Exact {
		if a.Exact {
			return -1
		}
		return 1
	}
	if d := len(b.Path) - len(a.Path); d != 0 {
		return d
	}
	return strings.Compare(a.Path, b.Path)
}

func patterns(r *Route) []string {
	switch {
	case r.Exact:
		return []string{r.Path}
	case r.Path == "/":
		return []string{"/*"}
	}
	return []string{r.Path, r.Path + "/*"}
}
