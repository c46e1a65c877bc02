package haproxycfg_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// goldenDir is where the files of the golden configurations claim to stand.
const goldenDir = "/etc/haproxy"

// TestGolden compares whole configurations with testdata/TestGolden, and has
// the real haproxy accept each of those files without a warning.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, c := range goldenConfigs(t) {
		t.Run(name, func(t *testing.T) {
			files, err := c.Render(goldenDir)
			require.NoError(t, err)
			dir := filepath.Join("testdata", t.Name())
			if *update {
				require.NoError(t, os.RemoveAll(dir))
				writeFiles(t, dir, files)
			}
			n := 0
			require.NoError(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					n++
				}
				return err
			}))
			require.Equal(t, len(files), n, "files in %s", dir)
			accepted := haproxytest.Dir(t)
			for i, f := range files {
				want, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Name)))
				require.NoError(t, err, "run go test -update to accept a change of file names")
				require.Equal(t, string(want), string(f.Data), f.Name)
				files[i].Data = bytes.ReplaceAll(want, []byte(goldenDir), []byte(accepted))
			}
			writeFiles(t, accepted, files)
			writeCertificate(t, filepath.Join(accepted, "certs"), "www.example.com")
			require.NoError(t, os.WriteFile(filepath.Join(accepted, "state"), []byte("1\n"), 0o600))
			requireAccepted(t, accepted)
		})
	}
}

func goldenConfigs(t *testing.T) map[string]*haproxycfg.Config {
	everything := &haproxycfg.Config{
		Global: haproxycfg.Global{
			Descriptors: 20000, Threads: 2, User: "root", Group: "root",
			StatsSocket: goldenDir + "/stats.sock", StateFile: goldenDir + "/state",
			HardStopAfter: 10 * time.Minute, Grace: 2 * time.Second, CloseSpread: 1500 * time.Millisecond,
			Logs: []haproxycfg.Log{{Address: "stdout", Format: "raw", Level: "notice"}, {Address: "127.0.0.1:514", Facility: "local7"}},
		},
		Defaults: haproxycfg.Defaults{
			Timeouts:  haproxycfg.Timeouts{Connect: 500 * time.Millisecond, Queue: 2 * time.Second, Server: 90 * time.Second, Tunnel: 24 * time.Hour, Check: time.Second},
			Client:    90 * time.Second,
			ClientFin: 10 * time.Second, HTTPRequest: 5 * time.Second, KeepAlive: 5 * time.Minute,
			Retries: 2,
			RetryOn: []haproxycfg.RetryEvent{haproxycfg.RetryConnFailure, haproxycfg.RetryResponseTimeout, haproxycfg.RetryJunkResponse, haproxycfg.Retry503},
		},
		Frontends: []haproxycfg.Frontend{
			{
				Name: "plain", MaxConn: 1000,
				Binds:         []haproxycfg.Bind{{Address: ":80"}, {Address: "[::1]:8080", AcceptProxy: true}, {Address: "unix@" + goldenDir + "/plain sock"}},
				RedirectHTTPS: &haproxycfg.HTTPSRedirect{Port: 8443, Code: 301}, Forwarded: haproxycfg.ForwardedAppend,
				Monitor: "/ready", DefaultBackend: "sorry",
			},
			{
				Name: "tls",
				Binds: []haproxycfg.Bind{
					{Address: "[::]:443", TLS: &haproxycfg.TLS{Certificates: goldenDir + "/certs"}},
					{Address: "127.0.0.1:8443", AcceptProxy: true, TLS: &haproxycfg.TLS{Certificates: goldenDir + "/certs", MinVersion: "TLSv1.3", ALPN: []string{"http/1.1"}, StrictSNI: true}},
				},
				Router: &haproxycfg.Router{Hosts: "h", Exact: "e", Prefix: "p"}, DefaultBackend: "sorry",
			},
			{Name: "exporter", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8405"}}, Exporter: "/metrics", Forwarded: haproxycfg.ForwardedKeep},
		},
		Backends: []haproxycfg.Backend{
			{
				Name: "a.one", Balance: haproxycfg.LeastConn, AgentInterval: 1500 * time.Millisecond,
				Timeouts: haproxycfg.Timeouts{Server: time.Hour, Tunnel: 48 * time.Hour},
				Servers: []haproxycfg.Server{
					{Addr: netip.MustParseAddrPort("10.0.0.1:31000"), Track: "nodes/10.0.0.1:9707-9707", AgentPort: 9801},
					{Addr: netip.MustParseAddrPort("[fd00::2]:31000"), Track: "nodes/fd00::2:9707-9707", Weight: 256},
					{Addr: netip.MustParseAddrPort("10.0.0.3:31000"), Weight: haproxycfg.NoTraffic, AgentPort: 9801, AgentSend: "media/tracks 'it' #1 $HOME \\n"},
				},
			},
			{Name: "b-two", Balance: haproxycfg.Random, Health: haproxycfg.Health{Path: "/a'b%20d", Host: "50%.example.com", Interval: 10 * time.Second, FastInterval: time.Second, Rise: 1, Fall: 5}, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31001"), Check: true}}},
			{Name: "c:hash", Balance: haproxycfg.URI, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31002")}}},
			{Name: "d:hash", Balance: haproxycfg.Source, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:31002")}}},
			{Name: "empty"},
			{Name: "nodes", Balance: haproxycfg.RoundRobin, Health: haproxycfg.Health{Path: "/healthz"}, Servers: []haproxycfg.Server{
				{Addr: netip.MustParseAddrPort("10.0.0.1:9707"), Check: true, AgentPort: 9707},
				{Addr: netip.MustParseAddrPort("[fd00::2]:9707"), Check: true, AgentPort: 9707},
			}},
			{Name: "no-content", Answer: &haproxycfg.Answer{Status: 204}},
			{Name: "sorry", Answer: &haproxycfg.Answer{Status: 404, ContentType: "text/html; charset=utf-8", Body: `<p class="x">it's $HOME # 100% \ not "here"`}},
		},
		Maps: []haproxycfg.Map{
			{Name: "h", Entries: []haproxycfg.MapEntry{{Key: "www.example.com", Value: "v"}, {Key: "*.example.com", Value: "w"}}},
			{Name: "e", Entries: []haproxycfg.MapEntry{{Key: "v/x", Value: "a.one"}}},
			{Name: "p", Entries: []haproxycfg.MapEntry{{Key: "v/", Value: "b-two"}, {Key: "w/a%20'\"\\$#/", Value: "empty"}}},
		},
	}
	edge := haproxycfg.Edge{
		Global: haproxycfg.Global{StatsSocket: goldenDir + "/stats.sock", StateFile: goldenDir + "/state"},
		HTTP:   []haproxycfg.Bind{{Address: ":80"}},
		HTTPS:  []haproxycfg.Bind{{Address: ":443", TLS: &haproxycfg.TLS{Certificates: goldenDir + "/certs"}}},
		Admin:  []haproxycfg.Bind{{Address: "127.0.0.1:8405"}},
	}
	kubeProxy := edge
	kubeProxy.NodeHealth = haproxycfg.NodeAgentAndKubeProxy
	kubeProxy.RedirectHTTPS = &haproxycfg.HTTPSRedirect{}
	kubeProxy.CheckInterval, kubeProxy.AgentInterval = 5*time.Second, 500*time.Millisecond
	kubeProxy.Monitor = "/.well-known/ready"
	kubeProxy.Balance = haproxycfg.LeastConn
	noAgents := haproxycfg.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}, NodeHealth: haproxycfg.KubeProxyOnly, KubeProxyPort: 10999}

	table, upstreams := goldenRoutes(t)
	exporter := &haproxycfg.Config{Frontends: []haproxycfg.Frontend{{Name: "metrics", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8405"}}, Exporter: "/metrics"}}}
	configs := map[string]*haproxycfg.Config{"exporter-alone": exporter, "everything": everything}
	for name, e := range map[string]haproxycfg.Edge{"edge": edge, "edge-kube-proxy": kubeProxy, "edge-no-agents": noAgents} {
		c, problems := e.Config(table, upstreams)
		require.Len(t, problems, 1, "the service without nodes")
		configs[name] = c
	}
	configs["edge-nothing-declared"], _ = edge.Config(routes.Table{}, nil)
	return configs
}

func goldenRoutes(t *testing.T) (routes.Table, []haproxycfg.Upstream) {
	tracks1, tracks2 := ref("eu-1", "tracks"), ref("eu-2", "tracks")
	chat, web, empty := ref("eu-1", "chat"), ref("eu-1", "web"), ref("eu-1", "empty")
	check := &routes.Check{Path: "/health", Host: "health.internal", Interval: 5 * time.Second, Rise: 3}
	table, problems := routes.New(
		route("api.example.com", "/tracks", weighted{tracks1, 100}, weighted{tracks2, 50}),
		route("api.example.com", "/v2/tracks", weighted{tracks1, 200}, weighted{tracks2, 100}), // the same ratio: the same backend
		route("api.example.com", "/dark", weighted{tracks1, 100}, weighted{tracks2, 0}),
		route("www.example.com", "/", weighted{web, 100}),
		route("*.example.com", "/", weighted{web, 7}),
		with(route("www.example.com", "/chat", weighted{chat, 100}), func(r *routes.Route) {
			r.Timeouts = routes.Timeouts{Server: time.Hour, Tunnel: 24 * time.Hour}
		}),
		with(route("www.example.com", "/checked", weighted{web, 100}), func(r *routes.Route) { r.Check = check }),
		with(route("www.example.com", "/checked-agent", weighted{tracks1, 100}), func(r *routes.Route) { r.Check = &routes.Check{} }),
		with(route("www.example.com", "/exact", weighted{web, 100}), func(r *routes.Route) { r.Exact = true }),
		route("www.example.com", "/empty", weighted{empty, 100}),
	)
	require.Empty(t, problems)
	nodes := func(addrs ...string) (ns []haproxycfg.Node) {
		for _, a := range addrs {
			ns = append(ns, haproxycfg.Node{Name: "node-" + a, Addr: netip.MustParseAddr(a)})
		}
		return ns
	}
	return table, []haproxycfg.Upstream{
		{Ref: tracks1, NodePort: 31000, AgentPort: 9801, Nodes: nodes("10.1.0.3", "10.1.0.1", "10.1.0.2")},
		{Ref: tracks2, NodePort: 31000, AgentPort: 9802, Nodes: nodes("10.2.0.1", "fd00::1")},
		{Ref: chat, NodePort: 31002, Nodes: nodes("10.1.0.2", "10.1.0.4")},
		{Ref: web, NodePort: 31003, Nodes: nodes("10.1.0.4")},
		{Ref: empty, NodePort: 31004},
	}
}

type weighted struct {
	routes.Ref
	weight int
}

func ref(cluster, service string) routes.Ref {
	return routes.Ref{Cluster: cluster, Namespace: "media", Service: service, Port: "http"}
}

func route(host, path string, backends ...weighted) routes.Route {
	r := routes.Route{Host: host, Path: path}
	for _, b := range backends {
		r.Backends = append(r.Backends, routes.Backend{Ref: b.Ref, Weight: b.weight})
	}
	return r
}

func with(r routes.Route, change func(*routes.Route)) routes.Route {
	change(&r)
	return r
}

func writeFiles(t testing.TB, dir string, files []haproxycfg.RenderedFile) {
	t.Helper()
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, f.Data, 0o644))
	}
}

// requireAccepted runs haproxy -c and wants neither an error nor a warning.
func requireAccepted(t testing.TB, dir string) {
	t.Helper()
	out, err := exec.Command(haproxytest.Binary(t), "-c", "-f", filepath.Join(dir, "haproxy.cfg")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "[WARNING]")
}

// writeCertificate writes NAME.pem with a self-signed certificate to dir.
func writeCertificate(t testing.TB, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".pem"), text, 0o600))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}
