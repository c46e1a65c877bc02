// Package apiclient sends GET requests to HTTP APIs that answer in JSON, within limits.
//
//	client := apiclient.New(nil)
//	resp, body, err := apiclient.Get(ctx, client, apiclient.Request{URL: "http://127.0.0.1:9000/hosts/a.com", MaxBody: 64 << 10})
package apiclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// New returns a client that follows no redirects, keeps up to 64 idle connections, and uses the
// proxy from the environment. conf may be nil. New makes a copy of conf.
func New(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        conf.Clone(), // net/http changes the configuration, and the caller may share it
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // answers are small, and a compressed one may expand without limit
			MaxIdleConns:           64,
			MaxIdleConnsPerHost:    64, // with the default of 2, net/http closes most connections after a burst
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			// All HTTP/2 requests share one connection. Without pings, they would continue to use a
			// dead connection until TCP detects that it is dead, after a quarter of an hour.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Request is a GET request for JSON.
type Request struct {
	URL       string
	UserAgent string
	// IfNoneMatch is the value of the header If-None-Match. "" means that Get does not send the
	// header.
	IfNoneMatch string
	// Token, if not nil, returns the bearer token for the request.
	Token func(context.Context) (string, error)
	// MaxBody is the largest size of an answer's body in bytes. There is no default: with 0, each
	// answer must have an empty body.
	MaxBody int64
}

// Get sends a request. It returns the answer and the bytes of its body; the Body of the answer is
// already closed. If the body has more than MaxBody bytes and the status is 200, Get returns an
// error. If the status is not 200, Get returns only the first MaxBody bytes.
func Get(ctx context.Context, client *http.Client, r Request) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", r.UserAgent)
	if r.IfNoneMatch != "" {
		req.Header.Set("If-None-Match", r.IfNoneMatch)
	}
	if r.Token != nil {
		word, err := r.Token(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+word)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	// Read the body of an error too: net/http reuses a connection only if the body of its last
	// answer was read to the end.
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.MaxBody+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading the API's answer: %w", err)
	case resp.StatusCode == http.StatusOK && int64(len(body)) > r.MaxBody:
		return nil, nil, fmt.Errorf("the API's answer is longer than %d bytes", r.MaxBody)
	}
	return resp, body, nil
}

// MaxSeconds is the largest number of seconds in a header. ParseSeconds reads a larger number as
// MaxSeconds (RFC 9111 section 1.2.2).
const MaxSeconds = 1 << 31

// ParseSeconds reads a number of seconds in a header, such as Age.
func ParseSeconds(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > MaxSeconds {
		n = MaxSeconds
	}
	return n, true
}

// RetryAfter returns the pause that the server requests in Retry-After (RFC 9110 section 10.2.3),
// or 0. If Retry-After is a date, the pause is the time from the header Date to this date. If the
// header Date is missing, the pause begins at the time in the argument "now".
func RetryAfter(h http.Header, now time.Time) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if n, ok := ParseSeconds(s); ok {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	// Subtract the time in the header Date from the time in Retry-After. Both are from the clock of
	// the server, and the clock of this machine may differ from it.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(at.Sub(now), 0)
}

// Sleep waits for d. It returns false if ctx ends before d is over.
func Sleep(ctx context.Context, d time.Duration) bool {
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
