package hostlookup

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTPFeed is a Feed from an HTTP API, by long polling:
//
//	GET /changes                     {"version": "v1", "reset": true}
//	GET /changes?since=v1&wait=30    {"version": "v2", "changes": [{"host": "a.com", "app": "A", "endpoint": "10.0.0.24", "max_age": 30}, {"host": "b.com"}]}
//
// The first request gets the present version at once. Each further one names the
// version that the last answer had, and is answered as soon as there is another, or
// after the seconds of wait with the same version and no changes. An answer may stop at
// any version on the way. An API that cannot tell what has changed since a version says
// "reset": any host may have.
//
// A change without an endpoint is of a host that is to be asked for anew, or of a
// wildcard. max_age is for how many seconds an endpoint may be kept, as in Cache-Control;
// 0 or none leaves it to the cache. Other members are ignored.
//
// The last version is kept from one call of Changes to the next, so that nothing is
// missed and nothing reset when the API was away for a while. An HTTPFeed is therefore
// for one follower, and its Changes must not overlap. The fields are read at the first
// use and must not change afterwards.
type HTTPFeed struct {
	// URL is where the changes are: "http://127.0.0.1:9000/changes". Required.
	URL string

	// Client, TLS and Token are those of HTTP. A Client must have no Timeout that is
	// shorter than Wait.
	Client *http.Client
	TLS    *tls.Config
	Token  func(context.Context) (string, error)

	// Wait is for how long the API is to hold a request while nothing changes, in whole
	// seconds. 0 means 30 s.
	Wait time.Duration

	// Timeout bounds what a request takes beyond Wait. 0 means 10 s.
	Timeout time.Duration

	// MaxBody bounds the body of an answer in bytes. 0 means 4 MiB.
	MaxBody int64

	once    sync.Once
	err     error
	url     *url.URL
	client  *http.Client
	version string
}

// calmFeed is how long the feed pauses after an answer that came at once and brought
// nothing, or no other version, or another reset. Without it an API that does not know
// how to wait, or tells the same again, or two that disagree behind one address, would
// be asked without end.
const calmFeed = time.Second

func (f *HTTPFeed) init() error {
	f.once.Do(func() {
		f.url, f.err = url.Parse(f.URL)
		switch {
		case f.err != nil:
			f.err = fmt.Errorf("hostlookup: feed: %w", f.err)
		case f.url.Scheme != "http" && f.url.Scheme != "https" || f.url.Host == "":
			f.err = fmt.Errorf("hostlookup: feed: %q is no HTTP URL", clip(f.URL))
		}
		if f.client = f.Client; f.client == nil {
			f.client = newClient(f.TLS)
		}
	})
	return f.err
}

// Check reports what is wrong with the fields.
func (f *HTTPFeed) Check() error { return f.init() }

// CloseIdleConnections closes the connections that no request uses.
func (f *HTTPFeed) CloseIdleConnections() {
	if f.init() == nil {
		f.client.CloseIdleConnections()
	}
}

// Changes implements Feed.
func (f *HTTPFeed) Changes(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			began := time.Now()
			since := f.version
			news, err := f.poll(ctx, since)
			if err != nil {
				if ctx.Err() == nil {
					yield(Change{}, err)
				}
				return
			}
			if news.Reset && !yield(Change{}, nil) {
				return
			}
			for _, n := range news.Changes {
				if !yield(n.change(), nil) {
					return
				}
			}
			f.version = news.Version // not before all is applied
			calm := news.Version == since || news.Reset && since != "" || !news.Reset && len(news.Changes) == 0
			if calm && !sleep(ctx, calmFeed-time.Since(began)) {
				return
			}
		}
	}
}

// sleep waits for d, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// news is an answer of the API.
type news struct {
	Version string       `json:"version"`
	Reset   bool         `json:"reset"`
	Changes []newsChange `json:"changes"`
}

type newsChange struct {
	record
	MaxAge int64 `json:"max_age"`
}

func (n newsChange) change() Change {
	if n.Endpoint == "" || strings.HasPrefix(n.Host, "*.") {
		return Change{Host: n.Host} // a cache holds names, not wildcards
	}
	age := min(max(n.MaxAge, 0), maxSeconds)
	return Change{n.Host, Endpoint{App: n.App, Host: n.Host, Addr: n.Endpoint, TTL: time.Duration(age) * time.Second}}
}

func (f *HTTPFeed) poll(ctx context.Context, since string) (news, error) {
	if err := f.init(); err != nil {
		return news{}, err
	}
	wait := max(cmp.Or(f.Wait, 30*time.Second).Truncate(time.Second), 0)
	ctx, cancel := context.WithTimeout(ctx, wait+cmp.Or(max(f.Timeout, 0), 10*time.Second))
	defer cancel()
	u := *f.url
	if since != "" {
		query := u.Query()
		query.Set("since", since)
		query.Set("wait", strconv.Itoa(int(wait/time.Second)))
		u.RawQuery = query.Encode()
	}
	resp, err := get(ctx, f.client, u.String(), f.Token)
	if err != nil {
		return news{}, fmt.Errorf("hostlookup: feed: %w", err)
	}
	defer resp.Body.Close()
	maxBody := cmp.Or(max(f.MaxBody, 0), 4<<20)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return news{}, fmt.Errorf("hostlookup: feed: %w", err)
	case resp.StatusCode != http.StatusOK:
		return news{}, fmt.Errorf("hostlookup: feed: %w", &StatusError{resp.StatusCode, clip(string(body))})
	case int64(len(body)) > maxBody:
		return news{}, fmt.Errorf("hostlookup: feed: the answer is longer than %d bytes", maxBody)
	}
	var n news
	if err := json.Unmarshal(body, &n); err != nil {
		return news{}, fmt.Errorf("hostlookup: feed: %w", err)
	}
	if n.Version == "" {
		return news{}, errors.New("hostlookup: feed: an answer without version")
	}
	return n, nil
}
