package hostlookup

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// HTTP asks an HTTP API about each host. It remembers nothing: put a Cache before it.
//
// 200 with a JSON object {"app": …, "host": …, "endpoint": …} is an answer; other
// members are ignored. 404 is ErrNotFound. Everything else is an error: other status
// codes, redirects too; an endpoint that Validate refuses; a body that is too long or
// not JSON. Errors that follow from a status are *StatusError inside *Error.
//
// Of Cache-Control the answer's lifetime is taken (RFC 9111 section 5.2.2): s-maxage or
// max-age, less Age; no-store and no-cache forbid to keep it. Of errors Retry-After
// is, in seconds or as a date.
//
// The fields are read at the first use and must not change afterwards. It is safe for
// concurrent use.
type HTTP struct {
	// URL has {host} in its path or query, where the host is put in, escaped:
	// "http://127.0.0.1:9000/hosts/{host}". Required.
	URL string

	// Client makes the requests. nil means one of its own that follows no
	// redirects, keeps up to 64 idle connections, and takes proxies from the
	// environment.
	Client *http.Client

	// TLS is for the client of its own: authorities, a client certificate.
	// Not used with Client.
	TLS *tls.Config

	// Token, if not nil, gives the bearer token of each request. See TokenFile.
	Token func(context.Context) (string, error)

	// Timeout bounds a request and its answer. 0 means 5 s, negative leaves it to
	// the context.
	Timeout time.Duration

	// MaxBody bounds the answer's body in bytes. 0 means 64 KiB.
	MaxBody int64

	once   sync.Once
	err    error
	parts  urlParts
	client *http.Client
}

// A StatusError is an answer with a status that is neither 200 nor 404.
type StatusError struct {
	Code int
	Body string // the first bytes, for logs; may be empty
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("hostlookup: API answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Body != "" {
		s += fmt.Sprintf(": %q", e.Body)
	}
	return s
}

func (h *HTTP) init() error {
	h.once.Do(func() {
		h.parts, h.err = splitURL(h.URL)
		if h.client = h.Client; h.client == nil {
			h.client = newClient(h.TLS)
		}
	})
	return h.err
}

func newClient(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        conf.Clone(), // net/http changes it, and the caller may share it
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // small answers, and no bombs
			MaxIdleConns:           64,
			MaxIdleConnsPerHost:    64, // the default of 2 closes most of a burst's
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			// Requests share a connection of HTTP/2, and go on to share one whose other end
			// is gone without a word, until TCP gives it up after a quarter of an hour.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Check reports what is wrong with the fields, so that a program can say so when it
// starts.
func (h *HTTP) Check() error { return h.init() }

// CloseIdleConnections closes the connections that no request uses. Without requests
// under way nothing is left open after it.
func (h *HTTP) CloseIdleConnections() {
	if h.init() == nil {
		h.client.CloseIdleConnections()
	}
}

// LookupHost implements Lookup.
func (h *HTTP) LookupHost(ctx context.Context, host string) (Endpoint, error) {
	if err := h.init(); err != nil {
		return Endpoint{}, err
	}
	// PathEscape leaves dots, and a path of dots climbs.
	if !nameFits(host) || strings.Trim(host, ".") == "" {
		return Endpoint{}, ErrNotFound
	}
	if timeout := cmp.Or(h.Timeout, 5*time.Second); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	resp, err := get(ctx, h.client, h.parts.with(host), h.Token)
	if err != nil {
		return Endpoint{}, fmt.Errorf("hostlookup: %w", err)
	}
	defer resp.Body.Close()
	maxBody := cmp.Or(max(h.MaxBody, 0), 64<<10)
	// Read to the end, or else the connection is not used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return Endpoint{}, fmt.Errorf("hostlookup: reading the API's answer: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		if ttl := freshness(resp.Header); ttl != 0 {
			return Endpoint{}, &Error{ErrNotFound, ttl}
		}
		return Endpoint{}, ErrNotFound
	case resp.StatusCode != http.StatusOK:
		err := &StatusError{resp.StatusCode, clip(string(body))}
		return Endpoint{}, &Error{err, retryAfter(resp.Header, time.Now())}
	case int64(len(body)) > maxBody:
		return Endpoint{}, fmt.Errorf("hostlookup: the API's answer is longer than %d bytes", maxBody)
	}
	ep, err := parseAnswer(body)
	if err != nil {
		return Endpoint{}, err
	}
	ep.TTL = freshness(resp.Header)
	return ep, nil
}

// record is an endpoint as JSON has it, in the API's answer and in files.
type record struct {
	App      string `json:"app"`
	Host     string `json:"host"`
	Endpoint string `json:"endpoint"`
}

func parseAnswer(body []byte) (Endpoint, error) {
	var r *record // stays nil at null
	if err := json.Unmarshal(body, &r); err != nil {
		return Endpoint{}, fmt.Errorf("hostlookup: the API's answer: %w", err)
	}
	if r == nil {
		return Endpoint{}, errors.New("hostlookup: the API's answer is null")
	}
	ep := Endpoint{App: r.App, Host: r.Host, Addr: r.Endpoint}
	if err := ep.Validate(); err != nil {
		return Endpoint{}, fmt.Errorf("%w in the API's answer", err)
	}
	return ep, nil
}

// urlParts is a URL split where the host goes in.
type urlParts []urlPart

// A urlPart is literal text, and the escape of the host that follows it (nil at
// the end).
type urlPart struct {
	text   string
	escape func(string) string
}

func (p urlParts) with(host string) string {
	var b strings.Builder
	for _, part := range p {
		b.WriteString(part.text)
		if part.escape != nil {
			b.WriteString(part.escape(host))
		}
	}
	return b.String()
}

const placeholder = "{host}"

func splitURL(template string) (urlParts, error) {
	bad := func(why string) (urlParts, error) {
		return nil, fmt.Errorf("hostlookup: URL %q: %s", clip(template), why)
	}
	if n := strings.Count(template, placeholder); n == 0 {
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
		// Whoever picks the host would pick the server.
		return bad(placeholder + " belongs into the path or the query")
	}
	texts := strings.Split(template, placeholder)
	parts := make(urlParts, len(texts))
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
