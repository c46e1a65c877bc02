package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// catalog is all that is known at one time. It does not change.
type catalog struct {
	hosts   map[string]hostlookup.Endpoint // "*.example.com" for wildcards
	version string                         // the same for the same content, in every process
}

// newCatalog joins parts; of a host that several have, the first counts.
func newCatalog(parts ...iter.Seq2[string, hostlookup.Endpoint]) *catalog {
	c := &catalog{hosts: map[string]hostlookup.Endpoint{}}
	for _, part := range parts {
		for host, ep := range part {
			if _, there := c.hosts[host]; !there {
				ep.Host = host
				c.hosts[host] = ep
			}
		}
	}
	hash := sha256.New()
	for _, host := range slices.Sorted(maps.Keys(c.hosts)) {
		ep := c.hosts[host]
		fmt.Fprintf(hash, "%q %q %q\n", host, ep.App, ep.Addr)
	}
	c.version = hex.EncodeToString(hash.Sum(nil)[:8])
	return c
}

// lookup finds a host in normal form. It goes before the wildcard above it.
func (c *catalog) lookup(host string) (hostlookup.Endpoint, bool) {
	if ep, ok := c.hosts[host]; ok {
		return ep, true
	}
	if dot := strings.IndexByte(host, '.'); dot > 0 {
		ep, ok := c.hosts["*"+host[dot:]]
		return ep, ok
	}
	return hostlookup.Endpoint{}, false
}

// difference is what leads from one catalog to another.
type difference struct {
	set     []hostlookup.Endpoint // new, or with another endpoint or app; by host
	removed []string              // sorted
}

func (d difference) len() int { return len(d.set) + len(d.removed) }

func diff(old, now *catalog) difference {
	var d difference
	for host, ep := range now.hosts {
		if was, ok := old.hosts[host]; !ok || was != ep {
			d.set = append(d.set, ep)
		}
	}
	for host := range old.hosts {
		if _, ok := now.hosts[host]; !ok {
			d.removed = append(d.removed, host)
		}
	}
	slices.SortFunc(d.set, func(a, b hostlookup.Endpoint) int { return cmp.Compare(a.Host, b.Host) })
	slices.Sort(d.removed)
	return d
}
