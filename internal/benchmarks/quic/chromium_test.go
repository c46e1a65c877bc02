package quic_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/chromiumtest"
	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// pagePieces is the number of pieces that the page loads, of pieceSize bytes each. The browser loads
// them at the same time.
const (
	pagePieces = 8
	pieceSize  = 50_000
)

// http3Site runs a server of HTTP/3. Its page loads pieces, and then shows the sum of their lengths
// and the protocols of all requests.
func http3Site(t *testing.T, cert testcert.Pair) netip.AddrPort {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>site</title><p id="out">loading</p><script>
			Promise.all([...Array(%d).keys()].map(i => fetch("/piece?" + i).then(r => r.text()))).then(all => {
				const sum = all.reduce((n, s) => n + s.length, 0)
				const protocols = performance.getEntriesByType("resource").map(e => e.nextHopProtocol)
				out.innerText = r.Host + " " + sum + " bytes by " + [...new Set(protocols)]
			}).catch(e => { out.innerText = "failed: " + e })
			const r = {Host: location.hostname}
		</script>`, pagePieces)
	})
	mux.HandleFunc("/piece", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, strings.Repeat("x", pieceSize))
	})
	conn := listenUDP(t)
	srv := &http3.Server{Handler: mux, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert.TLS}})}
	go srv.Serve(conn) //nolint:errcheck // until Close
	t.Cleanup(func() { srv.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// network is a network between clients and a router. It loses datagrams, and changes their order.
type network struct {
	front  *net.UDPConn
	router *net.UDPAddr
	loss   float64 // the share of datagrams that are lost, and of those that are swapped

	mu      sync.Mutex
	rng     *rand.Rand
	clients map[netip.AddrPort]*net.UDPConn
	readers map[netip.AddrPort]*quic.Reader
	hellos  []quic.Hello
	lost    int
	swapped int
}

func startNetwork(t *testing.T, router string, loss float64) *network {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp", router)
	require.NoError(t, err)
	n := &network{
		front: listenUDP(t), router: addr, loss: loss, rng: rand.New(rand.NewPCG(1, 2)),
		clients: map[netip.AddrPort]*net.UDPConn{}, readers: map[netip.AddrPort]*quic.Reader{},
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		n.front.Close()
		n.mu.Lock()
		for _, c := range n.clients {
			c.Close()
		}
		n.mu.Unlock()
		running.Wait()
	})
	running.Go(func() {
		pipes := map[netip.AddrPort]func([]byte){}
		buf := make([]byte, 1<<16)
		for {
			size, from, err := n.front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if pipes[from] == nil {
				c, err := net.DialUDP("udp", nil, n.router)
				if err != nil {
					t.Error(err)
					return
				}
				n.mu.Lock()
				n.clients[from] = c
				n.mu.Unlock()
				pipes[from] = n.pipe(func(b []byte) { c.Write(b) }) //nolint:errcheck // a loss
				back := n.pipe(func(b []byte) { n.front.WriteToUDPAddrPort(b, from) })
				running.Go(func() {
					buf := make([]byte, 1<<16)
					for {
						size, err := c.Read(buf)
						if err != nil {
							return
						}
						back(buf[:size])
					}
				})
			}
			n.peek(from, buf[:size])
			pipes[from](buf[:size])
		}
	})
	return n
}

// peek reads the hellos of the clients.
func (n *network) peek(from netip.AddrPort, datagram []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.readers[from]
	if !ok {
		r = &quic.Reader{}
		n.readers[from] = r
	}
	if r == nil {
		return
	}
	if hello, err := r.Read(datagram); err == nil {
		n.hellos = append(n.hellos, hello)
		n.readers[from] = nil
	}
}

// pipe returns a function that passes datagrams to send. It loses some, and it swaps some with the
// datagram that follows.
func (n *network) pipe(send func([]byte)) func([]byte) {
	var held []byte
	return func(b []byte) {
		n.mu.Lock()
		chance := n.rng.Float64()
		before := held
		held = nil
		switch {
		case chance < n.loss:
			n.lost++
		case chance < 2*n.loss && before == nil:
			n.swapped++
			held = slices.Clone(b)
		}
		pass := chance >= n.loss && held == nil
		n.mu.Unlock()
		if pass {
			send(b)
		}
		if before != nil {
			send(before)
		}
	}
}

// hosts is a Lookup.
type hosts map[string]netip.AddrPort

func (h hosts) LookupHost(_ context.Context, host string) (hostlookup.Answer, error) {
	addr, ok := h[host]
	if !ok {
		return hostlookup.Answer{}, hostlookup.ErrNotFound
	}
	return hostlookup.Answer{Endpoint: hostlookup.Endpoint{Host: host, Addr: addr.String()}}, nil
}

// startRouter starts a Server, and returns its address for QUIC.
func startRouter(t *testing.T, h hosts) (*sniproxy.Server, string) {
	t.Helper()
	srv := &sniproxy.Server{Lookup: h, AllowEndpoints: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, HelloTimeout: testTimeout}
	conn := listenUDP(t)
	served := make(chan error, 1)
	go func() { served <- srv.ServeQUIC(conn) }()
	t.Cleanup(func() {
		srv.Close()
		require.ErrorIs(t, <-served, sniproxy.ErrServerClosed)
	})
	return srv, conn.LocalAddr().String()
}

// TestHTTP3Client uses the HTTP/3 client of quic-go.
func TestHTTP3Client(t *testing.T) {
	ca := testcert.New("test CA")
	_, addr := startRouter(t, hosts{"a.test": http3Site(t, ca.Issue("a.test"))})
	lossy := startNetwork(t, addr, 0.05)
	for _, version := range []quicgo.Version{quicgo.Version1, quicgo.Version2} {
		transport := &http3.Transport{
			TLSClientConfig: &tls.Config{RootCAs: ca.Pool()},
			QUICConfig:      &quicgo.Config{Versions: []quicgo.Version{version}, HandshakeIdleTimeout: testTimeout, MaxIdleTimeout: testTimeout},
			Dial: func(ctx context.Context, _ string, conf *tls.Config, config *quicgo.Config) (*quicgo.Conn, error) {
				return quicgo.DialAddr(ctx, lossy.front.LocalAddr().String(), conf, config)
			},
		}
		client := &http.Client{Transport: transport, Timeout: testTimeout}
		resp, err := client.Get("https://a.test/piece")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, pieceSize, len(body))
		require.NoError(t, resp.Body.Close())
		_, err = client.Get("https://unknown.test/")
		require.ErrorContains(t, err, "0x170")
		require.NoError(t, transport.Close())
	}
}

// TestChromium loads pages over HTTP/3 through the router. The browser sends post-quantum hellos.
func TestChromium(t *testing.T) {
	ca := testcert.New("test CA")
	cert := ca.Issue("a.test", "b.test", "unknown.test")
	sum := sha256.Sum256(cert.TLS.Leaf.RawSubjectPublicKeyInfo)
	srv, addr := startRouter(t, hosts{"a.test": http3Site(t, cert), "b.test": http3Site(t, cert)})
	direct, lossy := startNetwork(t, addr, 0), startNetwork(t, addr, 0.05)
	port := func(n *network) string { return fmt.Sprint(n.front.LocalAddr().(*net.UDPAddr).Port) }
	var origins []string
	for _, host := range []string{"a.test:", "b.test:", "unknown.test:"} {
		origins = append(origins, host+port(direct), host+port(lossy))
	}
	b := chromiumtest.Start(t, "--enable-quic", "--origin-to-force-quic-on="+strings.Join(origins, ","),
		"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(sum[:]))
	for _, c := range []struct{ host, port, want string }{
		{"a.test", port(direct), fmt.Sprintf("a.test %d bytes by h3", pagePieces*pieceSize)},
		{"b.test", port(lossy), fmt.Sprintf("b.test %d bytes by h3", pagePieces*pieceSize)},
		{"unknown.test", port(direct), "ERR_QUIC"},
	} {
		b.Navigate(t, "https://"+c.host+":"+c.port+"/")
		text := ""
		for deadline := time.Now().Add(testTimeout); !strings.Contains(text, c.want); text = b.Text(t) {
			require.Less(t, time.Now(), deadline, "want %q, got %q", c.want, text)
			<-time.After(10 * time.Millisecond)
		}
	}
	names := map[string]bool{}
	for _, n := range []*network{direct, lossy} {
		n.mu.Lock()
		for _, h := range n.hellos {
			names[h.Name] = true
			require.True(t, h.ClientHello.PostQuantum(), h.Name)
			require.True(t, h.ClientHello.OffersALPN("h3"))
		}
		n.mu.Unlock()
	}
	require.Equal(t, map[string]bool{"a.test": true, "b.test": true, "unknown.test": true}, names)
	lossy.mu.Lock()
	require.Positive(t, lossy.lost)
	require.Positive(t, lossy.swapped)
	lossy.mu.Unlock()
	routed := map[string]bool{}
	for s := range srv.Connections() {
		require.Equal(t, peek.QUIC, s.Protocol)
		routed[s.Name] = true
	}
	require.Equal(t, map[string]bool{"a.test": true, "b.test": true}, routed)
}
