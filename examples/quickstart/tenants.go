package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
	"github.com/headgate/headgate/sniproxy/peek"
)

const (
	tlsPort  = "8443"
	httpPort = "8080"
	// answerTTL is how long the router may use an answer of the API before it must send a new
	// request. After the API has failed, the scenario waits longer than answerTTL before it tests
	// the router.
	answerTTL = time.Second
)

// tenantHosts are the host names of the sites. Each site has its own IP address.
var tenantHosts = []string{"blue.example.net", "green.example.net"}

// tenants are sites with their own TLS certificates, the API that returns the addresses of the
// sites, and the SNI router in front of the sites.
type tenants struct {
	addr    string // of the router
	roots   *x509.CertPool
	apiDown atomic.Bool

	cache   *hostlookup.Cache
	router  *sniproxy.Server
	servers []*http.Server
	running sync.WaitGroup
}

func startTenants(network int) (_ *tenants, err error) {
	t := &tenants{addr: fmt.Sprintf("127.%d.20.1", network), roots: x509.NewCertPool()}
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	endpoints := map[string]hostlookup.Endpoint{}
	var sites []netip.Prefix
	for i, host := range tenantHosts {
		addr := fmt.Sprintf("127.%d.20.%d", network, i+2)
		if err := t.startSite(host, addr); err != nil {
			return nil, fmt.Errorf("site %s: %w", host, err)
		}
		endpoints[host] = hostlookup.Endpoint{App: host, Addr: addr}
		sites = append(sites, netip.PrefixFrom(netip.MustParseAddr(addr), 32))
	}
	api, err := t.startAPI(endpoints)
	if err != nil {
		return nil, err
	}
	t.cache = &hostlookup.Cache{Source: &httpapi.Client{URL: "http://" + api + "/hosts/{host}"}}
	// The router connects to a loopback address only if AllowEndpoints contains it.
	t.router = &sniproxy.Server{Lookup: t.cache, AllowEndpoints: sites}
	for port, protocol := range map[string]peek.Protocol{tlsPort: peek.TLS, httpPort: peek.HTTP1} {
		l, err := net.Listen("tcp", net.JoinHostPort(t.addr, port))
		if err != nil {
			return nil, err
		}
		t.running.Go(func() { _ = t.router.Serve(l, protocol) })
	}
	return t, nil
}

// startSite starts the TLS server and the plain HTTP server of a host. Each server must listen on
// the same port number as the router: the API returns an address without a port, so the router
// connects to the port number on which it has accepted the client.
func (t *tenants) startSite(host, addr string) error {
	cert := testcert.New(host).TLS
	t.roots.AddCert(cert.Leaf)
	secure, err := net.Listen("tcp", net.JoinHostPort(addr, tlsPort))
	if err != nil {
		return err
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Service", host) })
	t.serve(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{cert}}), answer)
	plain, err := net.Listen("tcp", net.JoinHostPort(addr, httpPort))
	if err != nil {
		return err
	}
	t.serve(plain, answer)
	return nil
}

// startAPI starts an API that returns the addresses of hosts. While apiDown is true, the API
// answers 500.
func (t *tenants) startAPI(endpoints map[string]hostlookup.Endpoint) (addr string, err error) {
	hosts, err := hostlookup.NewHosts(endpoints)
	if err != nil {
		return "", err
	}
	api := &httpapi.Handler{MaxAge: answerTTL}
	if _, err := api.Publish(hosts); err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	t.serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.apiDown.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		api.ServeHTTP(w, r)
	}))
	return l.Addr().String(), nil
}

func (t *tenants) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	t.servers = append(t.servers, srv)
	t.running.Go(func() { _ = srv.Serve(l) })
}

// get sends a request to the router over a new connection. It returns the name of the site that
// answered, or the HTTP status or TLS alert with which the router refused the request.
func (t *tenants) get(ctx context.Context, scheme, host string) (string, error) {
	port := httpPort
	if scheme == "https" {
		port = tlsPort
	}
	c := newClient(net.JoinHostPort(t.addr, port), nil)
	transport := c.http.Transport.(*http.Transport)
	transport.DisableKeepAlives = true
	transport.TLSClientConfig = &tls.Config{RootCAs: t.roots}
	got, err := c.get(ctx, scheme+"://"+host+"/")
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" { // from crypto/tls
		return alert.Err.Error(), nil
	}
	return got.String(), err
}

func (t *tenants) stop() {
	if t.router != nil {
		_ = t.router.Close()
	}
	for _, srv := range t.servers {
		_ = srv.Close()
	}
	t.running.Wait()
	if t.cache != nil {
		_ = t.cache.Close()
	}
}

// stepTenants sends requests through the router: over TLS, which the router cannot decrypt, and
// over plain HTTP. It does so while the API works and while the API is down.
func stepTenants(ctx context.Context, s *system) ([]step, error) {
	t, err := startTenants(s.network)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	blue, green := tenantHosts[0], tenantHosts[1]
	var steps []step
	look := func(name, scheme, host, expected string) error {
		seen, err := t.get(ctx, scheme, host)
		if err != nil {
			seen = err.Error()
		}
		steps = append(steps, step{"sni: " + name, expected, seen, seen == expected})
		return ctx.Err()
	}
	const (
		unrecognized = "tls: unrecognized name"
		unknown      = "unknown.example.net"
	)
	type row struct{ name, scheme, host, expected string }
	rows := []row{
		{"HTTPS to blue", "https", blue, blue},
		{"HTTPS to green", "https", green, green},
		{"HTTP to blue", "http", blue, blue},
		{"HTTP to an unknown host", "http", unknown, "404"},
		{"HTTPS to an unknown host", "https", unknown, unrecognized},
	}
	for _, r := range rows {
		if err := look(r.name, r.scheme, r.host, r.expected); err != nil {
			return steps, err
		}
	}
	t.apiDown.Store(true)
	if err := pause(ctx, answerTTL+100*time.Millisecond); err != nil {
		return steps, err
	}
	rows = []row{
		{"API down: HTTPS to blue, known", "https", blue, blue},
		{"API down: HTTP to a new host", "http", "new.example.net", "503"},
	}
	for _, r := range rows {
		if err := look(r.name, r.scheme, r.host, r.expected); err != nil {
			return steps, err
		}
	}
	return steps, nil
}
