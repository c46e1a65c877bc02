package httpapi

import (
	"time"

	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// The body of GET /hosts/{host} is a hostlookup.Endpoint: {"app": …, "host": …, "endpoint": …}.

// changes is the body of GET /changes. Its changes lead from the version in the request to
// Version.
type changes struct {
	Version string `json:"version"`
	// Reset reports that any host may have changed.
	Reset   bool     `json:"reset,omitempty"`
	Changes []change `json:"changes,omitempty"`
}

// change is one host that changed, or one wildcard. Without an endpoint, the client drops its
// answer for Host and asks for Host again.
type change struct {
	Host     string `json:"host"`
	App      string `json:"app,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// MaxAge is how long a client may keep Endpoint, in seconds. 0 means that the client
	// decides.
	MaxAge int64 `json:"max_age,omitempty"`
}

// isWildcard reports whether host is a pattern such as "*.example.com".
func isWildcard(host string) bool { return len(host) > 0 && host[0] == '*' }

// change returns the change as a cache applies it. A cache stores names in normal form and no
// wildcards, so that the endpoint of a wildcard is dropped. No cache stores a host that has no
// normal form.
func (c change) change() hostlookup.Change {
	host, err := hostname.NormalizePattern(c.Host)
	if err != nil {
		return hostlookup.Change{Host: c.Host}
	}
	c.Host = host
	if c.Endpoint == "" || isWildcard(host) {
		return hostlookup.Change{Host: host}
	}
	ttl := time.Duration(min(max(c.MaxAge, 0), maxSeconds)) * time.Second
	return hostlookup.Change{Host: c.Host, Endpoint: hostlookup.Endpoint{App: c.App, Host: c.Host, Addr: c.Endpoint, TTL: ttl}}
}
