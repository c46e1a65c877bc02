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
	// Origin is the DNS name of the terminators, from which every distribution fetches. It must
	// not be a host of the table: that distribution would fetch from itself.
	Origin string
}

// cdnFile has the shape that AppendCDN documents.
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
// The behaviours of a host are in order: the first behaviour that matches a path is the route that
// Table.Match returns. Patterns mean the same as path and exact. They are globs in which "*" stands
// for any bytes. No service serves the other paths, so the CDN need not forward them. Requests must
// reach the origin with the Host header of the viewer, by which the terminators route. Equal input
// gives equal bytes.
//
// An error means that the options are unusable, or that Origin is a host of the table. AppendCDN
// then returns dst unchanged. CDNOptions.Publishable removes this host from a table.
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

// Publishable returns the table without the host for which AppendCDN would fail, and a problem for
// this host: Origin. So one declared host cannot keep all others from being published. Publishable
// returns t itself if Origin is not a host of the table, and if the options are unusable: AppendCDN
// reports that.
func (o CDNOptions) Publishable(t Table) (Table, []Problem) {
	origin, err := normalHost(o.Origin)
	if err != nil {
		return t, nil
	}
	return t.withoutHost(origin, "it is the origin of the CDN, from which all others are fetched, and gets no distribution there")
}

// precedence orders exact paths before prefixes, and longer paths before shorter ones.
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
