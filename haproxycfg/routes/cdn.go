package routes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// CDNOptions say where the distributions of AppendCDN fetch from.
type CDNOptions struct {
	// Origin is the DNS name of the terminators. It must not be a host of the
	// table, since the distribution would then fetch from itself.
	Origin string
}

// cdnFile is the shape that AppendCDN documents.
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

// AppendCDN appends, as indented JSON with a final line feed, what a content
// delivery network needs of the table: one distribution for each host, sorted by
// host.
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
// Behaviours stand in the order in which the first that matches is the one of
// Table.Match. Patterns say the same as path and exact in globs with "*" for
// any bytes. Paths that none matches are for no service and need not be
// forwarded. Requests must reach the origin with the Host of the viewer, on
// which the terminators route. Equal input gives equal bytes.
//
// An error means options that are unusable, or an Origin that is a host of the table. dst
// then comes back as it was. Who may not fail because of what somebody declares gives the
// table that Publishable returns.
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
	enc.SetEscapeHTML(false) // paths may hold "&"
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		return dst, fmt.Errorf("routes: cdn: %w", err)
	}
	return append(dst, out.Bytes()...), nil
}

// precedence puts exact paths before prefixes and longer paths before shorter.
func precedence(a, b cdnBehaviour) int {
	if a.Exact != b.Exact {
		return -compareBool(a.Exact, b.Exact)
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
