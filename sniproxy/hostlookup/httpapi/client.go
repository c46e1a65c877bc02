package httpapi

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
	"os"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/hostname"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// Client is a hostlookup.Lookup that asks a host API about each host. A Client stores no answers:
// put a hostlookup.Cache in front of it.
//
// Status 200 with the JSON object of an endpoint is an answer. Status 404 is
// hostlookup.ErrNotFound. Everything else is an error: another status, including a redirect; an
// endpoint that hostlookup.Endpoint.Validate refuses; a body that is too long or not JSON. An
// error that follows from a status is a *StatusError inside a *hostlookup.Error.
//
// The lifetime of an answer, found or not, comes from Cache-Control (RFC 9111 section 5.2.2):
// s-maxage or else max-age, less Age. An answer with no-store or no-cache must not be kept. The
// lifetime of a failure comes from Retry-After, in seconds or as a date.
//
// The first use reads the fields, and they must not change afterwards. A Client is safe for
// concurrent use.
type Client struct {
	// URL contains {host} in its path or its query. Each request replaces {host} with the
	// escaped host: "http://127.0.0.1:9000/hosts/{host}". Required.
	URL string

	// HTTPClient makes the requests. nil means a client that follows no redirects, keeps up to
	// 64 idle connections, and finds its proxy in the environment.
	HTTPClient *http.Client

	// TLS configures that client if HTTPClient is nil: authorities, a client certificate.
	TLS *tls.Config

	// Token, if not nil, returns the bearer token for a request. See TokenFile.
	Token func(context.Context) (string, error)

	// Timeout limits a request until its answer is read. 0 means 5 s; negative means no limit
	// beyond the caller's context.
	Timeout time.Duration

	// MaxBody limits the body of an answer in bytes. 0 means 64 KiB.
	MaxBody int64

	once   sync.Once
	err    error
	url    urlTemplate
	client *http.Client
}

// StatusError is an answer with a status other than 200 and 404.
type StatusError struct {
	Code int
	Body string // the first bytes, for logs; may be empty
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
		c.client = cmp.Or(c.HTTPClient, newHTTPClient(c.TLS))
	})
	return c.err
}

func newHTTPClient(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        conf.Clone(), // net/http changes the configuration, and the caller may share it
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // answers are small, and a compressed one may expand without limit
			MaxIdleConns:           64,
			MaxIdleConnsPerHost:    64, // the default of 2 closes most connections of a burst
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			// HTTP/2 requests share one connection. Without pings they would still share a
			// dead one until TCP gives it up, which takes a quarter of an hour.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Check reports the first fault in the fields. A program calls Check at its start, so that a
// wrong URL does not wait for the first lookup.
func (c *Client) Check() error { return c.init() }

// CloseIdleConnections closes the connections that no request uses at the moment.
func (c *Client) CloseIdleConnections() {
	if c.init() == nil {
		c.client.CloseIdleConnections()
	}
}

// LookupHost asks the API about host. A host that is empty, longer than 253 bytes or made of dots
// only is not found; the API is not asked.
func (c *Client) LookupHost(ctx context.Context, host string) (hostlookup.Answer, error) {
	if err := c.init(); err != nil {
		return hostlookup.Answer{}, err
	}
	// url.PathEscape leaves dots alone, and ".." would lead to another path of the API.
	if strings.Trim(host, ".") == "" || len(host) > hostname.MaxName {
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	}
	if timeout := cmp.Or(c.Timeout, 5*time.Second); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	resp, err := get(ctx, c.client, c.url.expand(host), c.Token)
	if err != nil {
		return hostlookup.Answer{}, fmt.Errorf("httpapi: %w", err)
	}
	defer resp.Body.Close()
	maxBody := cmp.Or(max(c.MaxBody, 0), 64<<10)
	// Read the body of an error too: net/http reuses a connection only after its answer was read to
	// the end.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return hostlookup.Answer{}, fmt.Errorf("httpapi: reading the API's answer: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		if ttl := freshness(resp.Header); ttl != 0 {
			return hostlookup.Answer{}, &hostlookup.Error{Err: hostlookup.ErrNotFound, TTL: ttl}
		}
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	case resp.StatusCode != http.StatusOK:
		return hostlookup.Answer{}, &hostlookup.Error{Err: statusError(resp.StatusCode, body), TTL: retryAfter(resp.Header, time.Now())}
	case int64(len(body)) > maxBody:
		return hostlookup.Answer{}, fmt.Errorf("httpapi: the API's answer is longer than %d bytes", maxBody)
	}
	ep, err := parseEndpoint(body)
	if err != nil {
		return hostlookup.Answer{}, err
	}
	ep.TTL = freshness(resp.Header)
	return hostlookup.Answer{Endpoint: ep}, nil
}

func parseEndpoint(body []byte) (hostlookup.Endpoint, error) {
	var ep *hostlookup.Endpoint // JSON null leaves it nil
	if err := json.Unmarshal(body, &ep); err != nil {
		return hostlookup.Endpoint{}, fmt.Errorf("httpapi: the API's answer: %w", err)
	}
	if ep == nil {
		return hostlookup.Endpoint{}, errors.New("httpapi: the API's answer is null")
	}
	if err := ep.Validate(); err != nil {
		return hostlookup.Endpoint{}, fmt.Errorf("%w in the API's answer", err)
	}
	return *ep, nil
}

// get requests JSON. token, if not nil, returns the bearer token.
func get(ctx context.Context, client *http.Client, url string, token func(context.Context) (string, error)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "headgate-hostlookup")
	if token != nil {
		word, err := token(ctx)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+word)
	}
	return client.Do(req)
}

// A urlTemplate is a URL that is split at each {host}.
type urlTemplate []urlPart

// A urlPart is literal text, then a host.
type urlPart struct {
	text   string
	escape func(string) string // escapes that host; nil in the last part, which no host follows
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
		// A client of the router chooses the host. It must not choose the API's server.
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

// TokenFile returns a function for Client.Token and Feed.Token. Each call reads the file and
// returns its content without the white space around it, so that a renewed token is used at once;
// Kubernetes renews the tokens that it mounts. While the file is unreadable or holds no valid
// token, the function returns the last valid one. Before the first valid token it returns the
// error. The function is safe for concurrent use.
func TokenFile(path string) func(context.Context) (string, error) {
	var (
		mu   sync.Mutex
		last string
	)
	return func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		token, err := readToken(path)
		if err == nil {
			last = token
		}
		if last == "" {
			return "", err
		}
		return last, nil
	}
}

// maxToken limits a token's file in bytes.
const maxToken = 16 << 10

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxToken:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxToken)
	case token == "":
		return "", fmt.Errorf("%s: file is empty", path)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", fmt.Errorf("%s: byte %#02x in token", path, token[i])
		}
	}
	return token, nil
}
