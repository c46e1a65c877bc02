package haproxycfg

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// settingsPrefix begins the name of each section "defaults" that appendBackendSettings renders. A
// hash of the settings follows.
const settingsPrefix = "settings-"

// addable returns a function that reports whether a running HAProxy can add and delete a backend.
//
// HAProxy 3.4 adds a backend with "add backend NAME from DEFAULTS", and the backend gets all its
// settings from a named section "defaults" (management guide, "add backend"). Such a section can
// contain a check, a balance algorithm and time-outs, but no stick table: HAProxy 3.4.7 answers
// "'stick-table' is not supported in 'defaults' section".
//
// HAProxy also refuses to delete a backend with a stick table ("Cannot remove a backend with
// stick-table"), and a backend that a rule names ("This proxy cannot be removed at runtime due to
// other configuration elements pointing to it").
//
// So these backends need a reload:
//
//   - a backend with Limits or QueueLimit, whose rules name the backend itself;
//   - each backend of a Config without a Router: without maps, a rule names each backend that gets
//     requests;
//   - a backend with tracked servers: HAProxy lets no server track a server that was added at run
//     time;
//   - a backend with Source or URI, see [Backend.AddServer];
//   - a backend with a Response. The edge has one such backend, and its frontends name it.
func (c *Config) addable() func(*Backend) bool {
	if !c.addsBackends() {
		return func(*Backend) bool { return false }
	}
	tracked := map[string]bool{}
	last := "" // most servers track a server of the same backend as the server before them
	for i := range c.Backends {
		for j := range c.Backends[i].Servers {
			if backend, _, ok := strings.Cut(c.Backends[i].Servers[j].Track, "/"); ok && backend != last {
				tracked[backend], last = true, backend
			}
		}
	}
	return func(b *Backend) bool { return b.addable() && !tracked[b.Name] }
}

// addsBackends reports whether a running HAProxy can add backends to the configuration.
func (c *Config) addsBackends() bool { return c.Global.Version.AtLeast(3, 4) && c.routed() }

// addable reports whether a running HAProxy 3.4 can add the backend, if no server tracks its servers.
func (b *Backend) addable() bool {
	return b.Response == nil && b.QueueLimit == "" && b.Limits == (Limits{}) && b.LimitsOf == "" && b.Balance != Source && b.Balance != URI
}

// routed reports whether a frontend has a Router.
func (c *Config) routed() bool {
	return slices.ContainsFunc(c.Frontends, func(f Frontend) bool { return f.Router != nil })
}

// backendSettings returns the settings of those backends for which the argument "chosen" returns true,
// sorted and without duplicates. Each element contains the lines of a section "backend" without its
// first line and without its servers.
func (c *Config) backendSettings(chosen func(*Backend) bool) []string {
	found := map[string]bool{}
	var settings text // a buffer
	for i := range c.Backends {
		if b := &c.Backends[i]; chosen(b) {
			settings = settings[:0]
			b.appendSettings(&settings, &c.Global)
			if !found[string(settings)] { // most look-ups find the settings, and allocate no memory
				found[string(settings)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// appendBackendSettings renders a named section "defaults" for each element of "all", the result of
// backendSettings. No section of the file uses these sections. A program names one of them in the
// command "add backend NAME from DEFAULTS", which adds a backend to the running HAProxy.
//
// These sections come last, because HAProxy applies the last section "defaults" to each later
// backend without the word "from".
//
// Each section contains a copy of the first section "defaults". If a section referred to the first
// section with "from" instead, HAProxy would warn that the first section is "explicitly referenced
// by another proxy and implicitly used here".
//
// A section costs HAProxy 3.4 about 8 KB of memory (tried with 2,000 sections).
func (c *Config) appendBackendSettings(t *text, all []string) {
	for _, settings := range all {
		sum := sha256.Sum256([]byte(settings))
		t.section("defaults", c.Fragment+settingsPrefix+hex.EncodeToString(sum[:5]))
		c.Defaults.appendLines(t, &c.Global, c.Fragment != "")
		t.raw(settings)
	}
}
