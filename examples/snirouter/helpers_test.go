package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/testcert"
)

// patience is how long a test waits for an event that must happen.
const patience = time.Minute

// process is a running snirouter. It listens for TLS, for HTTP, and for both on one port.
type process struct {
	t                      *testing.T
	tls, http, both, admin string
	stderr                 *clitest.Output
	cancel                 func()           // like SIGTERM
	wait                   func() (out int) // waits for the exit code
}

// start starts snirouter, and returns when it listens. It allows endpoints with loopback addresses.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, stderr: &clitest.Output{}}
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	exited := make(chan int, 1)
	// The port 0 in three spellings (0, 00 and 000) makes three listeners. The flags with the
	// spelling 000 share one listener, because their addresses are equal.
	//
	// On a busy machine, a test and the router may need longer than the default timeouts.
	args = append([]string{"-hello-timeout", "1h", "-lookup-timeout", "1m", "-dial-timeout", "1m"}, args...)
	args = append(args, "-tls", "127.0.0.1:0", "-http", "127.0.0.1:00", "-tls", "127.0.0.1:000", "-http", "127.0.0.1:000",
		"-admin", "127.0.0.1:0", "-admin-token-file", clitest.TokenFile(t), "-allow", "127.0.0.0/8")
	go func() { exited <- run(ctx, cli.Invocation{Args: args, Stderr: p.stderr}) }()
	p.wait = sync.OnceValue(func() int { return <-exited })
	t.Cleanup(func() {
		cancel()
		require.Equal(t, cli.ExitOK, p.wait(), p.stderr)
	})
	p.eventually(func() bool {
		p.tls, p.http = p.logged("msg=listening addr=", " protocol=tls\n"), p.logged("msg=listening addr=", " protocol=http/1|h2c\n")
		p.both, p.admin = p.logged("msg=listening addr=", " protocol=tls|http/1|h2c\n"), p.logged("msg=admin addr=", "\n")
		return p.tls != "" && p.http != "" && p.both != "" && p.admin != ""
	})
	return p
}

// logged returns the text between two texts in the same line of the log, else "".
func (p *process) logged(before, after string) string {
	for line := range strings.Lines(p.stderr.String()) {
		if _, rest, ok := strings.Cut(line, before); ok {
			if word, ok := strings.CutSuffix(rest, after); ok {
				return word
			}
		}
	}
	return ""
}

func (p *process) eventually(f func() bool, about ...any) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			require.FailNow(p.t, "it did not come to that", "%v %s", about, p.stderr)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// ask sends a request to the admin listener.
func (p *process) ask(method, path string, header ...string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.admin+path, nil)
	require.NoError(p.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(body)
}

// metric waits until the metrics contain a line.
func (p *process) metric(line string) {
	p.t.Helper()
	body := ""
	p.eventually(func() bool {
		_, body = p.ask("GET", "/metrics")
		return strings.Contains(body, "\n"+line+"\n")
	}, line)
}

// client returns an HTTP client that connects to addr for every URL.
func client(t *testing.T, addr string, conf *tls.Config) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		TLSClientConfig: conf, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// get returns the status and the body, or 0 and the error.
func get(client *http.Client, url string) (int, string) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// theAuthority signs the certificates of the tests.
var theAuthority = sync.OnceValue(func() testcert.Pair { return testcert.New("headgate test authority") })

// authorityFile writes the certificate of the authority for programs that need a file.
func authorityFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, theAuthority().PEM(), 0o600))
	return file
}

// site is an application behind the router, with a certificate for its names. Its page shows its
// name and the request; /echo is a WebSocket that echoes. It accepts connections with and without a
// PROXY header.
type site struct {
	name         string
	tls, http    string // addresses
	cert         tls.Certificate
	mu           sync.Mutex
	proxyHeaders []string // "2 10.1.2.3:4567" for each connection that had one
}

func newSite(t *testing.T, name string, hosts ...string) *site {
	t.Helper()
	s := &site{name: name, cert: theAuthority().Issue(hosts...).TLS}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s says %s to %s", s.name, r.Proto, r.RemoteAddr)
	})
	mux.Handle("/echo", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return &proxyproto.Listener{Listener: l, ReadHeaderTimeout: patience, ValidateHeader: s.sawHeader, ConnPolicy: optional}
	}
	serve := func(l net.Listener, conf *tls.Config) string {
		srv := httptest.NewUnstartedServer(mux)
		srv.Listener.Close()
		srv.Listener = l
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetHTTP1(true)
		srv.Config.Protocols.SetHTTP2(true)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		if conf == nil {
			srv.Start()
		} else {
			srv.TLS = conf
			srv.EnableHTTP2 = true
			srv.StartTLS()
		}
		t.Cleanup(srv.Close)
		return l.Addr().String()
	}
	s.http = serve(listen(), nil)
	s.tls = serve(listen(), &tls.Config{Certificates: []tls.Certificate{s.cert}})
	return s
}

// optional is the policy that accepts connections with and without a PROXY header.
func optional(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.USE, nil }

func (s *site) sawHeader(h *proxyproto.Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxyHeaders = append(s.proxyHeaders, fmt.Sprintf("%d %s %s", h.Version, h.SourceAddr, h.DestinationAddr))
	return nil
}

// headers returns the PROXY headers of the connections so far.
func (s *site) headers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.proxyHeaders)
}

// spki returns the hash of the authority's public key. With this hash in the flag
// --ignore-certificate-errors-spki-list, Chromium accepts each certificate that the authority has signed.
func spki() string {
	sum := sha256.Sum256(theAuthority().TLS.Leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// api is a host API with answers that a test can change.
type api struct {
	*httptest.Server
	down  atomic.Bool
	calls atomic.Int64
	mu    sync.Mutex
	hosts map[string]string
}

// newAPI returns an API of hosts. The argument "pairs" contains the name of a host, its address,
// the next name, and so on.
func newAPI(t *testing.T, pairs ...string) *api {
	t.Helper()
	a := &api{hosts: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		a.hosts[pairs[i]] = pairs[i+1]
	}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.TrimPrefix(r.URL.Path, "/hosts/")
		if host != probeHost {
			a.calls.Add(1)
		}
		if a.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		a.mu.Lock()
		addr, ok := a.hosts[host]
		a.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"app": "App of %s", "host": %q, "endpoint": %q}`, host, host, addr)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) set(host, addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts[host] = addr
}

func (a *api) template() string { return a.URL + "/hosts/{host}" }

// hostsFile writes a hosts file. The argument "pairs" contains the name of a host, its address, the
// next name, and so on.
func hostsFile(t *testing.T, pairs ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hosts.json")
	writeHosts(t, file, pairs...)
	return file
}

func writeHosts(t *testing.T, file string, pairs ...string) {
	t.Helper()
	var entries []string
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, fmt.Sprintf(`{"app": "App of %s", "host": %q, "endpoint": %q}`, pairs[i], pairs[i], pairs[i+1]))
	}
	require.NoError(t, os.WriteFile(file+".new", []byte("["+strings.Join(entries, ",\n")+"]"), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// tool returns the path of a program that tests need. The program may have several names.
func tool(t *testing.T, debianPackage string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.FailNow(t, names[0]+" is needed: apt-get install "+debianPackage)
	return ""
}

// command runs a program, and returns its output.
func command(t *testing.T, stdin string, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "http_proxy=", "https_proxy=", "all_proxy=", "HTTP_PROXY=", "HTTPS_PROXY=", "ALL_PROXY=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// readAll reads until the other side ends the connection, with a FIN or a reset.
func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	b, _ := io.ReadAll(c)
	return string(b)
}
