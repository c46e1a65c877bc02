package httpapi

import (
	"encoding/json"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// The body of the answer to GET /hosts/{host} is a hostlookup.Endpoint: {"app": …, "host": …,
// "endpoint": …}.

// changes is the body of the answer to GET /changes. The field Changes contains the changes between
// the version in the request and the field Version.
type changes struct {
	Version string `json:"version"`
	// Reset means that any host may have changed, so the client has to ask again for every host.
	Reset   bool     `json:"reset,omitempty"`
	Changes []change `json:"changes,omitempty"`
}

// change is the change of one host or of one wildcard. If Endpoint is "", the client forgets its
// answer for Host and has to ask again.
type change struct {
	Host     string `json:"host"`
	App      string `json:"app,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// MaxAge is how many seconds a client may keep Endpoint. 0 means that the client decides.
	MaxAge int64 `json:"max_age,omitempty"`
}

// isWildcard reports whether host is a wildcard such as "*.example.com".
func isWildcard(host string) bool { return len(host) > 0 && host[0] == '*' }

// The method "change" converts c into a hostlookup.Change for a cache, with the host in normal
// form. A host without a normal form stays as it is; no cache has an entry for it.
//
// For a wildcard, the result has no endpoint, so the cache asks about each name below it again:
// some of these names may have entries of their own.
func (c change) change() hostlookup.Change {
	host, err := hostname.NormalizePattern(c.Host)
	if err != nil {
		return hostlookup.Change{Host: c.Host}
	}
	c.Host = host
	if c.Endpoint == "" || isWildcard(host) {
		return hostlookup.Change{Host: host}
	}
	ttl := time.Duration(min(max(c.MaxAge, 0), apiclient.MaxSeconds)) * time.Second
	return hostlookup.Change{Host: c.Host, Endpoint: hostlookup.Endpoint{App: c.App, Host: c.Host, Addr: c.Endpoint, TTL: ttl}}
}

// parseChanges reads the body of the answer to GET /changes.
func parseChanges(body []byte) (changes, error) {
	var answer changes
	var list []json.RawMessage
	if err := exactjson.Object(body, exactjson.Fields{"version": &answer.Version, "reset": &answer.Reset, "changes": &list}); err != nil {
		return changes{}, err
	}
	for _, raw := range list {
		var c change
		if err := exactjson.Object(raw, exactjson.Fields{"host": &c.Host, "app": &c.App, "endpoint": &c.Endpoint, "max_age": &c.MaxAge}); err != nil {
			return changes{}, err
		}
		answer.Changes = append(answer.Changes, c)
	}
	return answer, nil
}
