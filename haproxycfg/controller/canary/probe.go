package canary

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Probe is a GET request, and the status that its answer must have.
type Probe struct {
	// URL is the URL of the request: http or https, a host and a path.
	URL string
	// Status is the status that the answer must have.
	Status int
}

// MaxProbes is the largest number of probes.
const MaxProbes = 32

const (
	maxURL         = 500
	defaultTimeout = 5 * time.Second
	maxBody        = 1 << 20 // of an answer, in bytes
)

// ParseProbe parses a probe: URL or URL=STATUS, such as https://api.example.com/tracks=200. Without
// a status, the answer must have the status 200.
func ParseProbe(text string) (Probe, error) {
	p := Probe{URL: text, Status: http.StatusOK}
	if at := strings.LastIndexByte(text, '='); at >= 0 && len(text)-at == len("=200") {
		status, err := strconv.ParseUint(text[at+1:], 10, 16)
		if err == nil {
			p.URL, p.Status = text[:at], int(status)
		}
	}
	u, err := url.Parse(p.URL)
	switch {
	case len(text) > maxURL:
		return Probe{}, fmt.Errorf("canary: a probe has more than %d bytes", maxURL)
	case err != nil:
		return Probe{}, fmt.Errorf("canary: %.100q: the URL cannot be parsed", text)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return Probe{}, fmt.Errorf("canary: %.100q: want http or https, a host and a path, such as https://api.example.com/tracks=200", text)
	case p.Status < 200 || p.Status > 599:
		return Probe{}, fmt.Errorf("canary: %.100q: want a status from 200 to 599", text)
	}
	p.URL = u.String()
	return p, nil
}

// String returns the probe in the form that ParseProbe parses.
func (p Probe) String() string { return p.URL + "=" + strconv.Itoa(p.Status) }

// Prober sends probes to one HAProxy. Set the fields before the first call of Run. Run may be called
// by one goroutine at a time.
type Prober struct {
	Probes []Probe
	// HTTP and HTTPS are the addresses at which HAProxy accepts HTTP and HTTPS. The Prober connects
	// to them, whatever the host in the URL of a probe is. A probe whose address is "" fails.
	HTTP, HTTPS string
	// TLS is the configuration of TLS for HTTPS; nil means that HAProxy's certificate must be valid
	// for the host, and that the system must trust its issuer.
	TLS *tls.Config
	// Timeout limits each probe. 0 means 5 s.
	Timeout time.Duration
}

// Run sends all probes at the same time. It returns the probes that fail, with the reasons. The keys
// are the texts that Probe.String returns. Each request has its own connection, and a redirect is an
// answer like any other.
func (r *Prober) Run(ctx context.Context) map[string]error {
	failed := make([]error, len(r.Probes))
	var running sync.WaitGroup
	for i, p := range r.Probes {
		running.Go(func() { failed[i] = r.send(ctx, p) })
	}
	running.Wait()
	failures := map[string]error{}
	for i, p := range r.Probes {
		if failed[i] != nil {
			failures[p.String()] = failed[i]
		}
	}
	return failures
}

func (r *Prober) send(ctx context.Context, p Probe) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, defaultTimeout))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "headgate-canary")
	address := r.HTTP
	if request.URL.Scheme == "https" {
		address = r.HTTPS
	}
	if address == "" {
		return errors.New("HAProxy has no address for " + request.URL.Scheme)
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			TLSClientConfig: r.TLS, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		var inURL *url.Error // its text repeats the URL
		if errors.As(err, &inURL) {
			err = inURL.Err
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != p.Status {
		return fmt.Errorf("the status is %d", response.StatusCode)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)); err != nil {
		return fmt.Errorf("the body ends early: %w", err)
	}
	return nil
}
