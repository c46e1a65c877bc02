package httpapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/internal/bearer"
	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// Client is a hostlookup.Lookup that asks a host API about each host. It stores no answers: put a
// hostlookup.Cache in front of it.
//
// Status 200 with the JSON object of a valid endpoint is an answer, and 404 is
// hostlookup.ErrNotFound. Any other status, including a redirect, is a *hostlookup.Error that wraps
// a *StatusError. These are errors too: a body that is too long or not JSON, an endpoint that
// hostlookup.Endpoint.Validate refuses, and a member "host" with another host.
//
// The member "host" of an answer may be missing or "". Otherwise it must be the host of the request,
// or the wildcard that covers this host: "*.example.com" for "a.example.com".
//
// The TTL of an answer with the status 200 or 404 depends on its headers (RFC 9111 section 5.2.2):
//
//   - The TTL is s-maxage minus Age. Without s-maxage, it is max-age minus Age.
//   - If the difference is 0 or less, or with no-cache, the TTL is hostlookup.Revalidate.
//   - With no-store, the TTL is negative, so a cache does not keep the answer.
//
// A Client ignores must-revalidate and proxy-revalidate. For any other status, the TTL is the
// Retry-After, in seconds or as a date.
//
// A Client is safe for concurrent use. Set the fields before the first use.
type Client struct {
	// URL is the address of a host in the API, with {host} in its path or query, such as
	// "http://127.0.0.1:9000/hosts/{host}". Each request replaces {host} by the escaped host.
	// Required.
	URL string

	// HTTPClient makes the requests. nil means a client that follows no redirects, keeps up to 64
	// idle connections, and uses the proxy from the environment.
	HTTPClient *http.Client

	// TLS has the certificate authorities and the client certificate for HTTPS. If HTTPClient is
	// set, the Client does not use TLS.
	TLS *tls.Config

	// Token, if not nil, returns the bearer token for a request. TokenFile makes such a function.
	Token func(context.Context) (string, error)

	// Timeout limits a request, including the reading of its answer. 0 means 5 s. Negative means
	// that only the caller's context limits a request.
	Timeout time.Duration

	// MaxBody is the largest size of an answer's body in bytes. 0 means 64 KiB.
	MaxBody int64

	once   sync.Once
	err    error
	url    urlTemplate
	client atomic.Pointer[http.Client]
}

// StatusError reports that the API answered with a status other than 200 and 404.
type StatusError struct {
	Code int
	Body string // the first bytes of the body, for logs; may be empty
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("httpapi: API answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Body != "" {
		s += fmt.Sprintf(": %q", e.Body)
	}
	return s
}

func statusError(code int, body []byte) *StatusError {
	return &StatusError{code, string(body[:min(len(body), 80)])}
}

func (c *Client) init() error {
	c.once.Do(func() {
		c.url, c.err = parseTemplate(c.URL)
		c.client.Store(cmp.Or(c.HTTPClient, apiclient.New(c.TLS)))
	})
	return c.err
}

// Check returns an error for the first wrong field, or nil. Call Check at the start of a program.
// Without Check, the first lookup returns the error.
func (c *Client) Check() error { return c.init() }

// CloseIdleConnections closes the connections that no request is using.
func (c *Client) CloseIdleConnections() {
	if c.init() == nil {
		c.client.Load().CloseIdleConnections()
	}
}

// SetTLS replaces the field TLS for new connections, for example when the file of authorities has
// changed. If HTTPClient is set, SetTLS does nothing. SetTLS is safe for concurrent use.
func (c *Client) SetTLS(conf *tls.Config) {
	if c.init() == nil && c.HTTPClient == nil {
		c.client.Swap(apiclient.New(conf)).CloseIdleConnections()
	}
}

// LookupHost asks the API about host. If host is empty, longer than 253 bytes or made only of dots,
// LookupHost returns ErrNotFound without a request.
func (c *Client) LookupHost(ctx context.Context, host string) (hostlookup.Answer, error) {
	if err := c.init(); err != nil {
		return hostlookup.Answer{}, err
	}
	// url.PathEscape does not escape dots, so a host ".." would lead to another path of the API.
	if strings.Trim(host, ".") == "" || len(host) > hostname.MaxName {
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	}
	if timeout := cmp.Or(c.Timeout, 5*time.Second); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	resp, body, err := apiclient.Get(ctx, c.client.Load(), apiclient.Request{
		URL: c.url.expand(host), UserAgent: userAgent, Token: c.Token, MaxBody: cmp.Or(max(c.MaxBody, 0), 64<<10),
	})
	if err != nil {
		return hostlookup.Answer{}, fmt.Errorf("httpapi: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		if ttl := freshness(resp.Header); ttl != 0 {
			return hostlookup.Answer{}, &hostlookup.Error{Err: hostlookup.ErrNotFound, TTL: ttl}
		}
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	case resp.StatusCode != http.StatusOK:
		return hostlookup.Answer{}, &hostlookup.Error{Err: statusError(resp.StatusCode, body), TTL: apiclient.RetryAfter(resp.Header, time.Now())}
	}
	ep, err := parseEndpoint(body)
	if err != nil {
		return hostlookup.Answer{}, err
	}
	// A cache would store the endpoint of another host under this host.
	if !answers(ep.Host, host) {
		return hostlookup.Answer{}, fmt.Errorf("httpapi: the API's answer to a request for %.80q has the host %.80q", host, ep.Host)
	}
	ep.TTL = freshness(resp.Header)
	return hostlookup.Answer{Endpoint: ep}, nil
}

// answers reports whether an answer that names the host "answered" can be the answer to a request
// for the host "asked". The argument "answered" is in normal form.
func answers(answered, asked string) bool {
	if answered == "" || answered == asked || hostname.Covers(answered, asked) {
		return true
	}
	normal, err := hostname.NormalizePattern(asked)
	return err == nil && (answered == normal || hostname.Covers(answered, normal))
}

func parseEndpoint(body []byte) (hostlookup.Endpoint, error) {
	var ep hostlookup.Endpoint
	if err := exactjson.Object(body, exactjson.Fields{"app": &ep.App, "host": &ep.Host, "endpoint": &ep.Addr}); err != nil {
		return hostlookup.Endpoint{}, fmt.Errorf("httpapi: the API's answer: %w", err)
	}
	if host, err := hostname.NormalizePattern(ep.Host); err == nil {
		ep.Host = host // in normal form, so that a cache can compare it with the name of the lookup
	}
	if err := ep.Validate(); err != nil {
		return hostlookup.Endpoint{}, fmt.Errorf("%w in the API's answer", err)
	}
	return ep, nil
}

// userAgent is the header User-Agent of all requests.
const userAgent = "headgate-hostlookup"

// A urlTemplate is the URL of a Client, split after each {host}.
type urlTemplate []urlPart

// A urlPart is a piece of a urlTemplate: literal text, followed by a placeholder for the host name.
// The last part has only text.
type urlPart struct {
	text   string
	escape func(string) string // escapes the host after text; nil in the last part
}

func (t urlTemplate) expand(host string) string {
	var b strings.Builder
	for _, part := range t {
		b.WriteString(part.text)
		if part.escape != nil {
			b.WriteString(part.escape(host))
		}
	}
	return b.String()
}

const placeholder = "{host}"

func parseTemplate(template string) (urlTemplate, error) {
	bad := func(why string) (urlTemplate, error) {
		return nil, fmt.Errorf("httpapi: URL %.80q: %s", template, why)
	}
	if !strings.Contains(template, placeholder) {
		return bad("no " + placeholder)
	}
	u, err := url.Parse(strings.ReplaceAll(template, placeholder, "placeholder"))
	switch {
	case err != nil:
		return bad(err.Error())
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("neither http nor https")
	case u.Host == "":
		return bad("no server")
	case u.Fragment != "":
		return bad("a fragment is not sent")
	}
	_, rest, _ := strings.Cut(template, "://")
	path := strings.IndexAny(rest, "/?")
	if path < 0 || strings.Contains(rest[:path], placeholder) {
		// The name of the host in a request for its endpoint comes from a client of the router. So
		// a placeholder for this name must not be in the server part of the URL template: otherwise
		// a client could choose the server that gets the request.
		return bad(placeholder + " belongs into the path or the query")
	}
	texts := strings.Split(template, placeholder)
	parts := make(urlTemplate, len(texts))
	query := false
	for i, text := range texts {
		query = query || strings.Contains(text, "?")
		parts[i].text = text
		if i == len(texts)-1 {
			break
		}
		if parts[i].escape = url.PathEscape; query {
			parts[i].escape = url.QueryEscape
		}
	}
	return parts, nil
}

// TokenFile returns a function for the Token field of Client, Feed or Handler, which reads the file
// at each call, without white space at the ends. So a token that Kubernetes renews in a mounted
// file is used at once.
//
// If the file is unreadable or has no valid token, the function returns the last valid token or, if
// there was none, the error. It is safe for concurrent use.
func TokenFile(path string) func(context.Context) (string, error) { return bearer.File(path) }
