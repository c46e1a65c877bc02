package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// serveH2C runs a server that speaks only HTTP/2 without TLS, until the test ends.
func serveH2C(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String())
}

// grpcHandler answers like a gRPC server. It sends each message of the request back. The status is
// in the trailers, or in the header if there is no message.
func grpcHandler(rw http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/health":
		return
	case "/silent":
		<-r.Context().Done()
		return
	}
	rw.Header().Set("Content-Type", "application/grpc")
	rw.Header().Set("Got", fmt.Sprint(r.Proto, " te=", r.Header.Get("Te"), " from=", r.Header.Get("X-Forwarded-For")))
	buf, seen := make([]byte, 1024), false
	rw.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			seen = true
			_, _ = rw.Write(buf[:n])
			_ = http.NewResponseController(rw).Flush()
		}
		if err != nil {
			break
		}
	}
	if !seen {
		rw.Header().Del("Trailer")
	}
	rw.Header().Set("Grpc-Status", "5")
	rw.Header().Set("Grpc-Message", "not%20found "+r.Trailer.Get("Checksum"))
}

// h2Client returns a client that speaks only HTTP/2: with TLS if roots is not nil, otherwise
// without. It sends every request to the given address.
func h2Client(t testing.TB, address string, roots *x509.CertPool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(roots != nil)
	tr.Protocols.SetUnencryptedHTTP2(roots == nil)
	tr.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	var d net.Dialer
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// protocolWorld is a world with a server that speaks only HTTP/2 without TLS, behind one route for
// each protocol. It serves HTTP and HTTPS.
func protocolWorld(t *testing.T, e edge.Edge, declared ...routes.Route) (*world, *x509.CertPool, *haproxycfg.Config) {
	w := newWorld(t)
	startAgent(t, node(1).Addr, w.nodeAgent, "up ready 100%")
	at := serveH2C(t, grpcHandler)
	w.upstreams = append(w.upstreams, edge.Upstream{Ref: ref("eu-1", "api"), NodePort: at.Port(), Nodes: []edge.Node{node(1)}})
	roots := x509.NewCertPool()
	roots.AddCert(configtest.WriteCertificate(t, filepath.Join(w.dir, "certs"), "example.com"))
	e.HTTPS = []haproxycfg.Bind{{
		Address: "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(t, 1)[0]),
		TLS:     &haproxycfg.TLS{Certificates: filepath.Join(w.dir, "certs")},
	}}
	return w, roots, w.start(e, tableOf(t, declared...))
}

// TestProtocols calls a server that speaks only HTTP/2 through routes with the protocols h2c and
// grpc. Messages, trailers and the gRPC status arrive, over every protocol of the client. The
// server passes its health checks.
func TestProtocols(t *testing.T) {
	t.Parallel()
	api := weighted{ref("eu-1", "api"), 100}
	var declared []routes.Route
	for _, p := range []routes.Protocol{routes.H2C, routes.GRPC} {
		for name, check := range map[string]*routes.Check{
			"none": nil, "connect": {}, "path": {Path: "/health"}, "host": {Path: "/health", Host: "health.internal"},
		} {
			declared = append(declared, with(route("example.com", "/"+string(p)+"/"+name, api), func(r *routes.Route) {
				r.Protocol = p
				if r.Check = check; check != nil {
					check.Interval = 10 * time.Second // a check that takes longer fails
				}
			}))
		}
	}
	declared = append(declared, route("example.com", "/http1", api))
	w, roots, config := protocolWorld(t, edge.Edge{CheckInterval: 10 * time.Second, AgentInterval: fast}, declared...)
	for _, b := range config.Backends {
		if len(b.Servers) == 0 || strings.HasPrefix(b.Name, "nodes.") || b.Protocol == "" {
			continue
		}
		if b.Servers[0].Check {
			w.eventually(b.Name, b.Servers[0].Name(), func(s runtimeapi.Stat) bool {
				return s.Status == "UP" && (s.CheckStatus == "L7OK" || b.Health.Path == "" && s.CheckStatus == "L4OK")
			})
		}
	}
	require.Equal(t, http.StatusBadGateway, newClient(t, w.frontend).do("GET", "example.com", "/http1", "").StatusCode)
	for name, c := range map[string]*http.Client{
		"HTTP/1.1 client":            {Transport: &http.Transport{DisableKeepAlives: true}},
		"HTTP/2 client":              h2Client(t, w.frontend, nil),
		"HTTP/2 client that has TLS": h2Client(t, w.tlsAddress, roots),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range declared[:len(declared)-1] {
				call := func(body string) *http.Response {
					url := "http://" + w.frontend + r.Path + "/pkg.Service/Method"
					if strings.Contains(name, "TLS") {
						url = "https://example.com" + r.Path + "/pkg.Service/Method"
					}
					in, out := io.Pipe()
					go func() { _, _ = io.WriteString(out, body); _ = out.Close() }()
					req, err := http.NewRequestWithContext(t.Context(), "POST", url, in)
					require.NoError(t, err)
					req.Host = "example.com"
					req.Header.Set("TE", "trailers")
					req.Header.Set("Content-Type", "application/grpc")
					req.Trailer = http.Header{"Checksum": {"c" + body}}
					res, err := c.Do(req)
					require.NoError(t, err)
					defer res.Body.Close()
					require.Equal(t, http.StatusOK, res.StatusCode, r.Path)
					got, err := io.ReadAll(res.Body)
					require.NoError(t, err)
					require.Equal(t, body, string(got))
					require.Equal(t, "HTTP/2.0 te=trailers from=127.0.0.1", res.Header.Get("Got"))
					return res
				}
				res := call("hello")
				require.Equal(t, "5", res.Trailer.Get("Grpc-Status"))
				require.Equal(t, "not%20found chello", res.Trailer.Get("Grpc-Message"))
				require.Equal(t, "5", call("").Header.Get("Grpc-Status"), "an answer of trailers only")
			}
		})
	}
}

// The method "silent" sends a request to a route that does not answer, and returns the status, or 0
// if HAProxy closes the connection. On a slow machine, HAProxy may give up earlier, and answers
// 408.
func (w *world) silent() int {
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", "http://"+w.frontend+"/silent", http.NoBody)
	if err != nil {
		return 0
	}
	req.Host = "example.com"
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// TestSilentGRPCStream opens a stream in both directions. Then neither side sends anything for
// longer than the time-outs of other routes. To measure that time, the test waits for three
// requests that time out one after the other. After that, the stream still works.
func TestSilentGRPCStream(t *testing.T) {
	t.Parallel()
	api := weighted{ref("eu-1", "api"), 100}
	short := haproxycfg.Defaults{Client: 2 * fast, Timeouts: haproxycfg.Timeouts{Server: 2 * fast}}
	w, roots, _ := protocolWorld(t, edge.Edge{Defaults: short},
		with(route("example.com", "/grpc", api), func(r *routes.Route) { r.Protocol = routes.GRPC }),
		with(route("example.com", "/silent", api), func(r *routes.Route) { r.Protocol = routes.H2C }),
	)
	for name, c := range map[string]*http.Client{"without TLS": h2Client(t, w.frontend, nil), "with TLS": h2Client(t, w.tlsAddress, roots)} {
		scheme := "http"
		if name == "with TLS" {
			scheme = "https"
		}
		send := func(out io.Writer, message string) { go func() { _, _ = io.WriteString(out, message) }() }
		// open opens a stream. The server sends the head of its response with the first message.
		open := func() (*io.PipeWriter, *http.Response, error) {
			in, out := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", scheme+"://example.com/grpc", in)
			require.NoError(t, err)
			send(out, "before")
			res, err := c.Do(req)
			if err == nil && res.StatusCode != http.StatusOK {
				err = errors.Join(errors.New(res.Status), out.Close(), res.Body.Close())
			}
			return out, res, err
		}
		out, res, err := open()
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); {
			out, res, err = open() // the machine was too slow for the time-out of the client
		}
		require.NoError(t, err, name)
		defer res.Body.Close()
		receives := func(message string) {
			got := make([]byte, len(message))
			_, err = io.ReadFull(res.Body, got)
			require.NoError(t, err, name)
			require.Equal(t, message, string(got))
		}
		receives("before")
		for range 3 {
			require.Eventually(t, func() bool { return w.silent() == http.StatusGatewayTimeout }, time.Minute, time.Millisecond)
		}
		send(out, "after")
		receives("after")
		require.NoError(t, out.Close())
		_, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "5", res.Trailer.Get("Grpc-Status"))
	}
}
