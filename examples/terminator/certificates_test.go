package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// secret is a certificate and its key in PEM.
type secret struct{ cert, key string }

func (s secret) file() string { return s.cert + s.key }

// issue makes a certificate that is valid from an hour ago until the time notAfter.
func issue(t *testing.T, notAfter time.Time, names ...string) secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial, DNSNames: names, NotBefore: notAfter.AddDate(0, -3, 0), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return secret{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	}
}

func nextMonth() time.Time { return time.Now().AddDate(0, 1, 0) }

// routeOf declares a route with a check, so that HAProxy does not check the node of its servers.
func routeOf(host string) string {
	return "- host: " + host + "\n  check: {interval: 100ms}\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n"
}

// tlsWorld is a terminator with a real HAProxy that ends TLS for a.example.com and b.example.com.
type tlsWorld struct {
	*watcher
	dir, https string
	certs      string   // the directory of -certificates
	args       []string // of watchIn
}

func newTLSWorld(t *testing.T, files map[string]string) *tlsWorld {
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	ports := haproxytest.Ports(t, 3)
	serve(t, fmt.Sprintf("127.0.0.1:%d", ports[0]), "web")
	w.write("eu-1/objects.yaml", fmt.Sprintf(`apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}
- {apiVersion: v1, kind: Node, metadata: {name: node}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}
`, ports[0]))
	w.write("routes.yaml", "routes:\n"+routeOf("a.example.com")+routeOf("b.example.com"))
	certs := w.path("certificates")
	require.NoError(t, os.Mkdir(certs, 0o700))
	for name, text := range files {
		w.write("certificates/"+name, text)
	}
	https := fmt.Sprintf("127.0.0.1:%d", ports[1])
	args := []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[2]), "-https", https, "-certificates", certs, "-haproxy", w.haproxy(),
		"-stats-socket", filepath.Join(dir, haproxytest.StatsSocket), "-node-health", "kube-proxy", "-max-change", "100%", "-max-interval", "0",
	}
	code, _, stderr := w.runAlone(append([]string{"-once", "-out", dir}, args...)...)
	require.Equal(t, cli.ExitOK, code, stderr)
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Config: filepath.Join(dir, "haproxy.cfg"), Dir: dir,
		StatsSocket: filepath.Join(dir, haproxytest.StatsSocket), MasterSocket: filepath.Join(dir, haproxytest.MasterSocket),
		ReadyTimeout: time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	args = append(args, "-reload", filepath.Join(dir, haproxytest.MasterSocket))
	v := w.watchIn(dir, args...)
	v.waitReady()
	return &tlsWorld{v, dir, https, certs, args}
}

// put replaces a file of the directory of certificates by a rename.
func (w *tlsWorld) put(name, text string) {
	w.t.Helper()
	w.replace("certificates/"+name, text)
}

// served returns the certificate in PEM that HAProxy serves for a host. It returns "" if HAProxy
// refuses the connection.
func (w *tlsWorld) served(host string) string {
	w.t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := d.DialContext(w.t.Context(), "tcp", w.https)
	if err != nil {
		return ""
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
}

func (w *tlsWorld) waitServed(host string, want secret) {
	w.t.Helper()
	w.eventually(host+" has its certificate", func() bool { return w.served(host) == want.cert })
}

// status sends a request for a host over a connection with the same server name.
func (w *tlsWorld) status(host string) int {
	w.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(w.t.Context(), "GET", "https://"+w.https+"/", http.NoBody)
	require.NoError(w.t, err)
	request.Host = host
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// ofCertificates returns the problems of certificates.
func ofCertificates(r kube.Report) (problems []kube.Problem) {
	for _, p := range r.Problems {
		if p.Object == kube.CertificateObject {
			problems = append(problems, p)
		}
	}
	return problems
}

// TestFaultyCertificates makes the certificate file of b.example.com faulty in many ways, one after
// the other. Each time, the terminator must still apply a change of routes, both hosts must keep
// their certificates, and the report, the log and the metrics must name the file. After that, a
// renewed certificate must take effect.
func TestFaultyCertificates(t *testing.T) {
	t.Parallel()
	a, b, other := issue(t, nextMonth(), "a.example.com"), issue(t, nextMonth(), "b.example.com"), issue(t, nextMonth(), "b.example.com")
	w := newTLSWorld(t, map[string]string{"a.pem": a.file(), "b.pem": b.file()})
	w.waitServed("a.example.com", a)
	w.waitServed("b.example.com", b)
	w.waitMetric(`headgate_terminator_certificates{source="file"} 2`)

	routes := w.read("routes.yaml")
	for i, tt := range []struct{ what, name, text, want string }{
		{"cut within the certificate", "b.pem", b.file()[:300], "a PEM block in it is incomplete"},
		{"cut within the key", "b.pem", b.file()[:len(b.file())-40], "a PEM block in it is incomplete"},
		{"empty", "b.pem", "", "it is empty"},
		{"no key", "b.pem", other.cert, "no private key"},
		{"another's key", "b.pem", other.cert + a.key, "belongs to none of its certificates"},
		{"text", "b.pem", "not a certificate\n", "no certificate in it"},
		{"key that OpenSSL rejects", "b.pem", weakSecret(t), "haproxy rejects it"},
		{"README", "README", "see the wiki\n", "no certificate in it"},
		{"backup of an editor", "a.pem~", b.file()[:300], "a PEM block in it is incomplete"},
		{"temporary file", ".a.pem.tmp123", b.file()[:300], ""},
	} {
		w.put(tt.name, tt.text)
		host := fmt.Sprintf("new%d.example.com", i)
		w.replace("routes.yaml", routes+routeOf(host))
		file := filepath.Join(w.certs, tt.name)
		w.eventually(tt.what, func() bool {
			maps, err := filepath.Glob(filepath.Join(w.dir, "maps", "hosts-*.map"))
			require.NoError(t, err)
			for _, m := range maps {
				if text, _ := os.ReadFile(m); bytes.Contains(text, []byte(host+" ")) {
					return true
				}
			}
			return false
		})
		report := w.waitTLSReport(tt.what, func(r kube.Report) bool {
			for _, p := range r.Problems {
				if p.File == file {
					return strings.Contains(p.Message, tt.want) && !p.Warning
				}
			}
			return tt.want == ""
		})
		require.Len(t, report.Certificates, 2, tt.what)
		require.Equal(t, b.cert, w.served("b.example.com"), tt.what)
		require.Equal(t, a.cert, w.served("a.example.com"), tt.what)
		require.Equal(t, http.StatusOK, w.status("b.example.com"), tt.what)
		if tt.want != "" {
			w.waitLog(`level=ERROR msg=problem of="` + file + ": Certificate: ")
			w.waitMetric("headgate_terminator_certificate_problems 1")
		}
		if tt.name == "b.pem" {
			w.waitMetric(`headgate_terminator_certificates{source="kept"} 1`)
			w.put(tt.name, b.file())
		} else {
			require.NoError(t, os.Remove(file))
		}
		w.waitTLSReport("no problem", func(r kube.Report) bool { return len(ofCertificates(r)) == 0 })
	}

	w.put("b.pem", other.file())
	w.waitServed("b.example.com", other)
	report := w.waitTLSReport("the cause", func(r kube.Report) bool {
		return r.Changes.Causes[0] == kube.Cause{Object: "Certificate " + filepath.Join(w.certs, "b.pem"), What: "changed"}
	})
	require.Len(t, report.Changes.Causes, 1)
	var copies []string
	var err error
	w.eventually("copies of those in use, and of that of the last good configuration", func() bool {
		copies, err = filepath.Glob(filepath.Join(w.dir, "certs-in-use", "*.pem"))
		return err == nil && len(copies) == 3
	})
	for _, c := range copies {
		info, err := os.Stat(c)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
}

// weakSecret returns a certificate with an RSA key of 1,024 bits.
func weakSecret(t *testing.T) string {
	t.Helper()
	key := haproxytest.RSAKey(t, 1024)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"b.example.com"}, NotAfter: nextMonth()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// waitTLSReport waits until the function "ok" returns true for the report.
func (w *tlsWorld) waitTLSReport(what string, ok func(kube.Report) bool) kube.Report {
	w.t.Helper()
	return w.waitReportIn(w.dir, what, ok)
}

// TestCertificatesThatGoAway restarts the terminator while a certificate is faulty, removes files,
// and removes the whole directory. Each host keeps its certificate until no route needs it.
func TestCertificatesThatGoAway(t *testing.T) {
	t.Parallel()
	a, b := issue(t, nextMonth(), "a.example.com"), issue(t, nextMonth(), "b.example.com")
	w := newTLSWorld(t, map[string]string{"a.pem": a.file(), "b.pem": b.file()})
	w.put("b.pem", "")
	w.waitLog("its last good certificate stays in use")
	require.Equal(t, cli.ExitOK, w.stop())
	require.NoError(t, os.Remove(filepath.Join(w.certs, "a.pem")))
	w.watcher = w.watchIn(w.dir, w.args...)
	w.waitLog("a.pem: Certificate: the file is gone; its old certificate stays in use, because the routes declare a.example.com")
	require.Equal(t, a.cert, w.served("a.example.com"))
	require.Equal(t, b.cert, w.served("b.example.com"))

	require.NoError(t, os.Rename(w.certs, w.certs+".away"))
	w.waitLog("the certificates cannot be read, so those in use stay")
	w.replace("routes.yaml", w.read("routes.yaml")+routeOf("c.example.com"))
	w.waitTLSReport("a route", func(r kube.Report) bool { return r.Changes.Causes[0].Object == "Route c.example.com/" })
	require.Equal(t, a.cert, w.served("a.example.com"))
	require.Equal(t, b.cert, w.served("b.example.com"))

	require.NoError(t, os.Rename(w.certs+".away", w.certs))
	w.put("b.pem", b.file())
	w.waitTLSReport("a file", func(r kube.Report) bool { return len(ofCertificates(r)) == 1 })
	w.replace("routes.yaml", "routes:\n"+routeOf("b.example.com")) // a.example.com is not declared any more
	w.eventually("a.example.com is refused", func() bool { return w.served("a.example.com") == "" })
	require.Equal(t, b.cert, w.served("b.example.com"))
}

// TestCertificatesAreReplacedInSteps replaces files as other programs do: first a certificate and
// then its key, or a link to another directory, or a file in several parts. During each
// replacement, every handshake must succeed.
func TestCertificatesAreReplacedInSteps(t *testing.T) {
	t.Parallel()
	a, b, b2, b3 := issue(t, nextMonth(), "a.example.com"), issue(t, nextMonth(), "b.example.com"), issue(t, nextMonth(), "b.example.com"), issue(t, nextMonth(), "b.example.com")
	w := newTLSWorld(t, map[string]string{"a.pem": a.file(), "b.crt": b.cert, "b.key": b.key})
	w.waitServed("b.example.com", b)
	w.put("b.crt", b2.cert)
	w.waitLog("its private key belongs to none of its certificates")
	require.Equal(t, b.cert, w.served("b.example.com"))
	w.put("b.key", b2.key)
	w.waitServed("b.example.com", b2)

	// A mounted Secret replaces the link ..data.
	require.NoError(t, os.Mkdir(filepath.Join(w.certs, "..1"), 0o700))
	w.write("certificates/..1/tls.crt", b3.cert)
	w.write("certificates/..1/tls.key", b3.key)
	w.write("certificates/..1/ca.crt", a.cert)
	require.NoError(t, os.Symlink("..1", filepath.Join(w.certs, "..data")))
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		require.NoError(t, os.Symlink("..data/"+name, filepath.Join(w.certs, name)))
	}
	require.NoError(t, os.Remove(filepath.Join(w.certs, "b.crt")))
	w.waitServed("b.example.com", b3)
	b4 := issue(t, nextMonth(), "b.example.com")
	require.NoError(t, os.Mkdir(filepath.Join(w.certs, "..2"), 0o700))
	w.write("certificates/..2/tls.crt", b4.cert)
	w.write("certificates/..2/tls.key", b4.key)
	require.NoError(t, os.Symlink("..2", filepath.Join(w.certs, "..tmp")))
	require.NoError(t, os.Rename(filepath.Join(w.certs, "..tmp"), filepath.Join(w.certs, "..data")))
	w.waitServed("b.example.com", b4)
	require.Equal(t, a.cert, w.served("a.example.com"))
}

// TestExpiry checks that HAProxy serves certificates that have expired or are not valid yet. The
// report must have a warning for each of them, and the metrics must have its expiry.
func TestExpiry(t *testing.T) {
	t.Parallel()
	yesterday, nextYear := time.Now().AddDate(0, 0, -1).Truncate(time.Second), time.Now().AddDate(1, 0, 0).Truncate(time.Second)
	a, b := issue(t, yesterday, "a.example.com"), issue(t, nextYear, "b.example.com")
	w := newTLSWorld(t, map[string]string{"a.pem": a.file(), "b.pem": b.file()})
	require.Equal(t, a.cert, w.served("a.example.com"))
	require.Equal(t, b.cert, w.served("b.example.com"))
	w.waitLog("a.pem: Certificate: the certificate expired at " + yesterday.UTC().Format(time.RFC3339) + "; it stays in use")
	w.waitLog("b.pem: Certificate: the certificate is not valid before ")
	for file, at := range map[string]time.Time{"a.pem": yesterday, "b.pem": nextYear} {
		w.waitMetric(fmt.Sprintf("headgate_terminator_certificate_expiry_timestamp_seconds{file=%q} %s",
			filepath.Join(w.certs, file), fmt.Sprintf("%v", float64(at.Unix()))))
	}
	w.waitMetric("headgate_terminator_certificate_problems 0")
	report := w.waitTLSReport("warnings", func(r kube.Report) bool { return len(ofCertificates(r)) == 2 })
	for _, p := range ofCertificates(report) {
		require.True(t, p.Warning)
	}

	// HAProxy prefers a valid certificate, even if the name of its file is later in the
	// alphabetical order.
	renewed := issue(t, nextMonth(), "a.example.com")
	w.put("z.pem", renewed.file())
	w.waitServed("a.example.com", renewed)
}
