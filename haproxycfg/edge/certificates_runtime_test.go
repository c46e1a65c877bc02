package edge_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// withHTTPS adds a bind with certificates.
func (f *runtimeEdge) withHTTPS() {
	f.tlsAddress = "127.0.0.1:" + strconv.Itoa(haproxytest.Ports(f.t, 1)[0])
	f.edge.HTTPS = []haproxycfg.Bind{{Address: f.tlsAddress, TLS: &haproxycfg.TLS{List: edge.CertificateList, StrictSNI: true}}}
}

// renewed returns a certificate with a new key. With each call, it differs. Its chain has at least
// the given number of bytes.
func renewed(t testing.TB, chain int, names ...string) haproxycfg.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return withKey(t, key, chain, names...)
}

// withKey returns a certificate with the given key. Its chain has at least the given number of bytes.
func withKey(t testing.TB, key crypto.Signer, chain int, names ...string) haproxycfg.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text := slices.Clone(block)
	for n := 0; n < chain; n += len(block) {
		text = append(text, block...)
	}
	return haproxycfg.Certificate{
		PEM:  append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...),
		SHA1: sha1.Sum(der), Names: names,
	}
}

// connect opens a connection over TLS, and returns the fingerprint of its certificate.
func (f *runtimeEdge) connect(host string) (*tls.Conn, [20]byte, error) {
	raw, err := net.Dial("tcp", f.tlsAddress)
	if err != nil {
		return nil, [20]byte{}, err
	}
	conn := tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // the tests compare the fingerprint
	err = conn.SetDeadline(time.Now().Add(time.Minute))
	if err == nil {
		err = conn.Handshake()
	}
	if err != nil {
		_ = raw.Close()
		return nil, [20]byte{}, err
	}
	return conn, sha1.Sum(conn.ConnectionState().PeerCertificates[0].Raw), nil
}

// requireCertificate requires that a new connection gets the certificate, and that a request for the
// host over this connection is not refused.
func (f *runtimeEdge) requireCertificate(host string, want haproxycfg.Certificate) {
	f.t.Helper()
	conn, got, err := f.connect(host)
	require.NoError(f.t, err, host)
	defer conn.Close()
	require.Equal(f.t, want.SHA1, got, host)
	status, err := statusOver(conn, bufio.NewReader(conn), host)
	require.NoError(f.t, err)
	require.Equal(f.t, 503, status, "no server listens, but the certificate covers the host")
}

// statusOver sends a request over a connection, and returns the status of the answer.
func statusOver(conn io.Writer, in *bufio.Reader, host string) (int, error) {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return 0, err
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return r.StatusCode, err
}

// agreeCertificates requires that the running worker has the certificates of the files.
func (f *runtimeEdge) agreeCertificates(worker runtimeapi.Socket, config string) {
	f.t.Helper()
	file := func(sub, kind string) string {
		for _, word := range strings.FieldsFunc(config, func(r rune) bool { return strings.ContainsRune(" \n\"'", r) }) {
			if strings.HasPrefix(word, filepath.Join(f.dir, sub, edge.CertificateList+"-")) && strings.HasSuffix(word, kind) {
				return word
			}
		}
		return ""
	}
	list := file("certs-in-use", ".list")
	if list == "" {
		return
	}
	text, err := os.ReadFile(list)
	require.NoError(f.t, err)
	var want, got []string
	for _, name := range strings.Fields(string(text)) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(list), name))
		require.NoError(f.t, err)
		block, _ := pem.Decode(data)
		sum := sha1.Sum(block.Bytes)
		want = append(want, hex.EncodeToString(sum[:]))
	}
	lists, err := worker.CertificateLists(f.t.Context())
	require.NoError(f.t, err)
	require.Len(f.t, lists, 1)
	files, err := worker.CertificateFiles(f.t.Context(), lists[0])
	require.NoError(f.t, err)
	for _, name := range files {
		sum, err := worker.CertificateSHA1(f.t.Context(), name)
		require.NoError(f.t, err)
		got = append(got, hex.EncodeToString(sum[:]))
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(f.t, want, got, "the fingerprints of the certificates")
	pending, err := worker.PendingCertificate(f.t.Context())
	require.NoError(f.t, err)
	require.Empty(f.t, pending)

	// The map of covered names may also contain certificates that HAProxy had since its last reload.
	text, err = os.ReadFile(file("maps", ".map"))
	require.NoError(f.t, err)
	counts, err := worker.MapCounts(f.t.Context())
	require.NoError(f.t, err)
	for name := range counts {
		if !strings.HasPrefix(path.Base(name), edge.CertificateList+"-") {
			continue
		}
		entries, err := worker.Map(f.t.Context(), name)
		require.NoError(f.t, err)
		var lines []string
		for _, e := range entries {
			if sum, _, _ := strings.Cut(e.Key, "/"); slices.Contains(want, strings.ToLower(sum)) {
				lines = append(lines, e.Key+" "+e.Value)
			}
		}
		slices.Sort(lines)
		require.Equal(f.t, strings.Fields(string(text)), strings.Fields(strings.Join(lines, "\n")), name)
	}
}

// clients opens connections over TLS all the time, and sends requests over connections that stay
// open. The function that it returns stops this, and returns the failures.
func (f *runtimeEdge) clients(host string) (stop func() []string) {
	kept, _, err := f.connect(host)
	require.NoError(f.t, err)
	var failed []string
	var wait sync.WaitGroup
	var end atomic.Bool
	request := func(conn *tls.Conn, in *bufio.Reader) {
		if status, err := statusOver(conn, in, host); err != nil || status != 503 {
			failed = append(failed, fmt.Sprint(status, err))
		}
	}
	wait.Go(func() {
		defer kept.Close()
		in := bufio.NewReader(kept)
		for last := false; !last && len(failed) == 0; {
			last = end.Load() // at least one round after the change
			conn, _, err := f.connect(host)
			if err != nil {
				failed = append(failed, err.Error())
				return
			}
			request(conn, bufio.NewReader(conn))
			_ = conn.Close()
			request(kept, in)
		}
	})
	return func() []string { end.Store(true); wait.Wait(); return failed }
}

// TestCertificateChanges contains a test for each cell of the table in README.md about certificates,
// for the haproxy on PATH.
func TestCertificateChanges(t *testing.T) {
	t.Parallel()
	const www, wild, fresh = "www.example.com", "*.example.org", "new.example.com"
	base := []haproxycfg.Certificate{renewed(t, 0, www), renewed(t, 0, wild, "example.org")}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	two := []haproxycfg.Certificate{renewed(t, 0, www, "api.example.com"), renewed(t, 0, www)}
	kinds := []haproxycfg.Certificate{two[0], withKey(t, key, 0, www)}
	declared := []routes.Route{runtimeRoute(www, "/", to("web")), runtimeRoute(wild, "/", to("web"))}
	more := append(slices.Clone(declared), runtimeRoute(fresh, "/", to("web")))
	upstreams := []edge.Upstream{runtimeService("web", haproxytest.Ports(t, 1)[0])}
	shared := newRuntimeEdge(t)
	shared.withHTTPS()
	shared.deploy.Check = nil // to save time
	newService, newServiceChanges := deploy.ReloadBackends, 0
	if shared.addsBackends() {
		newService, newServiceChanges = "", 1
	}
	for _, tt := range []struct {
		name         string
		before, list []haproxycfg.Certificate
		declared     []routes.Route
		want         deploy.ReloadReason
		changed      int // certificates
	}{
		{"renewed certificate", base, []haproxycfg.Certificate{renewed(t, 0, www), base[1]}, declared, "", 1},
		{"two renewed certificates in another order", base, []haproxycfg.Certificate{renewed(t, 0, wild, "example.org"), renewed(t, 0, www)}, declared, "", 2},
		{"renewed certificate with a chain of 10 KB", base, []haproxycfg.Certificate{renewed(t, 10_000, www), base[1]}, declared, "", 1},
		{"certificate covers one more host", base, []haproxycfg.Certificate{renewed(t, 0, www, fresh), base[1]}, more, "", 1},
		{"new certificate and new host", base, []haproxycfg.Certificate{base[0], base[1], renewed(t, 0, fresh)}, more, "", 1},
		{"new and renewed certificate", base, []haproxycfg.Certificate{renewed(t, 0, fresh), renewed(t, 0, www), base[1]}, more, "", 2},
		{"certificate gone", base, base[:1], declared[:1], "", 1},
		{"certificate gone that was preferred to another one", two, two[1:], declared, "", 1},
		{"one certificate instead of two", base, []haproxycfg.Certificate{renewed(t, 0, www, wild, "example.org")}, declared, "", 2},
		{"certificate of 20 KB", base, []haproxycfg.Certificate{renewed(t, 20_000, www), base[1]}, declared, deploy.ReloadCertificates, 0},
		{"new certificate before another one for the same host", base, []haproxycfg.Certificate{renewed(t, 0, www, fresh), base[0], base[1]}, more, deploy.ReloadCertificates, 0},
		{"renewed certificate and new service", base, []haproxycfg.Certificate{renewed(t, 0, www), base[1]}, append(slices.Clone(declared), runtimeRoute(www, "/api", to("api"))), newService, newServiceChanges},
		{"renewed certificate before another one for the same host", two, []haproxycfg.Certificate{renewed(t, 0, two[0].Names...), two[1]}, declared, deploy.ReloadCertificates, 0},
		{"renewed certificate before one with another kind of key", kinds, []haproxycfg.Certificate{renewed(t, 0, kinds[0].Names...), kinds[1]}, declared, "", 1},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			f := shared
			f.edge.Certificates = tt.before
			f.apply(upstreams, declared...)
			before := f.worker()
			for _, list := range [][]haproxycfg.Certificate{tt.list, tt.before} { // there, and back to the old certificates
				all := upstreams
				if strings.HasSuffix(tt.name, "new service") {
					all = append(slices.Clone(upstreams), runtimeService("api", 1))
				}
				f.edge.Certificates = list
				stop := func() []string { return nil }
				if tt.want == "" {
					stop = f.clients(www)
				}
				e := f.apply(all, tt.declared...)
				failed := stop()
				require.Equal(t, tt.want, e.Reload, e.Detail)
				require.Equal(t, tt.want == "", f.worker() == before, "the same worker")
				f.agree()
				if tt.want != "" { // an old worker may accept a connection just after a reload
					poll(t, "the new worker has the first certificate for the host", func() bool {
						conn, got, err := f.connect(www)
						if err == nil {
							_ = conn.Close()
						}
						return err == nil && got == list[0].SHA1
					})
					break
				}
				require.Empty(t, failed)
				require.Equal(t, tt.changed, e.Certificates)
				if tt.name == "certificate gone" && len(list) == 1 {
					_, _, err := f.connect("a.example.org")
					require.Error(t, err, "HAProxy has no certificate for this host any more")
				}
				checked := map[string]bool{}
				for _, c := range list {
					for _, name := range c.Names {
						if (name == www || name == fresh) && !checked[name] {
							checked[name] = true
							f.requireCertificate(name, c)
						}
					}
				}
				if tt.name == "certificate gone that was preferred to another one" {
					break // the preferred certificate comes back with a reload
				}
			}
			_, _, err := f.connect("unknown.example.net")
			require.Error(t, err)
		})
	}
}

// TestCertificateChangeFails: another program has begun a transaction, and HAProxy refuses a second
// one. HAProxy is then reloaded, and no text contains a key.
func TestCertificateChangeFails(t *testing.T) {
	t.Parallel()
	f := newRuntimeEdge(t)
	f.withHTTPS()
	f.deploy.Check = nil // to save time
	upstreams := []edge.Upstream{runtimeService("web", haproxytest.Ports(t, 1)[0])}
	web := runtimeRoute("www.example.com", "/", to("web"))
	other := renewed(t, 0, "other.example.com")
	f.edge.Certificates = []haproxycfg.Certificate{renewed(t, 0, "www.example.com"), other}
	f.apply(upstreams, web)
	raw, err := net.Dial("unix", f.stats.Path)
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(raw, "set ssl cert "+filepath.Join(f.dir, other.FileName())+" <<\n"+string(other.PEM)+"\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(raw)
	require.NoError(t, err)
	require.Contains(t, string(answer), "Transaction created")

	now := renewed(t, 0, "www.example.com")
	f.edge.Certificates = []haproxycfg.Certificate{now, other}
	e := f.apply(upstreams, web)
	require.Equal(t, deploy.ReloadSocket, e.Reload)
	require.Contains(t, e.Detail, "ssl cert", "set or commit, depending on the version")
	for line := range strings.Lines(string(now.PEM)) {
		require.NotContains(t, e.Detail, strings.TrimSpace(line))
	}
	f.agree()
	require.Empty(t, f.apply(upstreams, web))
}
