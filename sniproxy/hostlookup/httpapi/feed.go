package httpapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// Feed is a hostlookup.Feed that follows the changes of a host API by long polling. Set the fields
// before the first use.
//
// A Feed remembers the last version between two calls of Changes. So the first call after an outage
// of the API yields the changes that the Feed has missed, and no reset. Calls of Changes must not
// overlap.
type Feed struct {
	// URL is the address of the API's changes, such as "http://127.0.0.1:9000/changes". Required.
	URL string

	// HTTPClient, TLS and Token mean the same as in Client. HTTPClient.Timeout must be 0 or longer
	// than Wait.
	HTTPClient *http.Client
	TLS        *tls.Config
	Token      func(context.Context) (string, error)

	// Wait is the parameter "wait" of each request, in whole seconds: the API answers after this
	// time even if nothing has changed. 0 means 30 s.
	Wait time.Duration

	// Timeout is how long a request may take in addition to Wait. 0 means 10 s.
	Timeout time.Duration

	// MaxBody is the largest size of an answer's body in bytes. 0 means 4 MiB.
	MaxBody int64

	once    sync.Once
	err     error
	url     *url.URL
	client  atomic.Pointer[http.Client]
	version string
}

// minPollInterval is the shortest time between two requests if the first answer had nothing new: no
// changes, the same version, or a second reset in a row. This happens if the API ignores the
// parameter wait or repeats its last answer, or if two servers behind one address have different
// hosts.
const minPollInterval = time.Second

func (f *Feed) init() error {
	f.once.Do(func() {
		f.url, f.err = url.Parse(f.URL)
		switch {
		case f.err != nil:
			f.err = fmt.Errorf("httpapi: feed: %w", f.err)
		case f.url.Scheme != "http" && f.url.Scheme != "https" || f.url.Host == "":
			f.err = fmt.Errorf("httpapi: feed: %.80q is no HTTP URL", f.URL)
		}
		f.client.Store(cmp.Or(f.HTTPClient, apiclient.New(f.TLS)))
	})
	return f.err
}

// Check returns an error for the first wrong field, or nil.
func (f *Feed) Check() error { return f.init() }

// CloseIdleConnections closes the connections that no request is using.
func (f *Feed) CloseIdleConnections() {
	if f.init() == nil {
		f.client.Load().CloseIdleConnections()
	}
}

// SetTLS replaces the value of the field TLS for new requests, as [Client.SetTLS] does. A request
// that waits for changes uses the old value until it ends.
func (f *Feed) SetTLS(conf *tls.Config) {
	if f.init() == nil && f.HTTPClient == nil {
		f.client.Swap(apiclient.New(conf)).CloseIdleConnections()
	}
}

// Changes implements hostlookup.Feed.
func (f *Feed) Changes(ctx context.Context) iter.Seq2[hostlookup.Change, error] {
	return func(yield func(hostlookup.Change, error) bool) {
		for {
			began := time.Now()
			since := f.version
			answer, err := f.poll(ctx, since)
			if err != nil {
				if ctx.Err() == nil {
					yield(hostlookup.Change{}, err)
				}
				return
			}
			if answer.Reset && !yield(hostlookup.Change{}, nil) {
				return
			}
			for _, c := range answer.Changes {
				if !yield(c.change(), nil) {
					return
				}
			}
			// The caller of Changes has received all changes of this answer, so store the version
			// now. If the caller stops before this point, the next call of Changes requests all of
			// these changes again.
			f.version = answer.Version
			broughtNothing := answer.Version == since ||
				answer.Reset && since != "" ||
				!answer.Reset && len(answer.Changes) == 0
			if broughtNothing && !apiclient.Sleep(ctx, minPollInterval-time.Since(began)) {
				return
			}
		}
	}
}

// poll requests the changes after the version in the argument "since". If this argument is "", poll
// requests only the present version.
func (f *Feed) poll(ctx context.Context, since string) (changes, error) {
	if err := f.init(); err != nil {
		return changes{}, err
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
	resp, body, err := apiclient.Get(ctx, f.client.Load(), apiclient.Request{
		URL: u.String(), UserAgent: userAgent, Token: f.Token, MaxBody: cmp.Or(max(f.MaxBody, 0), 4<<20),
	})
	if err == nil && resp.StatusCode != http.StatusOK {
		err = statusError(resp.StatusCode, body)
	}
	var answer changes
	if err == nil {
		answer, err = parseChanges(body)
	}
	if err == nil && answer.Version == "" {
		err = errors.New("an answer without version")
	}
	if err != nil {
		return changes{}, fmt.Errorf("httpapi: feed: %w", err)
	}
	return answer, nil
}
