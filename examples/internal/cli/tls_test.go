package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testcert"
)

// TestServerTLSWithPartsOfFiles cuts off a certificate file within its chain, and a file of
// authorities within its second certificate. The server must continue to use the last good content.
func TestServerTLSWithPartsOfFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		return file
	}
	root := testcert.New("root")
	middle := root.Issue("middle")
	leaf := middle.Issue("a.example")
	chain := append(leaf.PEM(), middle.PEM()...)
	certificate, key := write("cert.pem", chain), write("key.pem", leaf.KeyPEM())
	clients := write("clients.pem", append(root.PEM(), middle.PEM()...))
	faults := map[string]string{}
	conf, err := ServerTLS(certificate, key, clients, func(file string, err error) {
		if faults[file] = ""; err != nil {
			faults[file] = err.Error()
		}
	})
	require.NoError(t, err)
	served := func() int {
		pair, err := conf.GetCertificate(nil)
		require.NoError(t, err)
		return len(pair.Certificate)
	}
	both := root.Pool()
	both.AddCert(middle.TLS.Leaf)
	trusts := func(want *x509.CertPool) bool {
		c, err := conf.GetConfigForClient(nil)
		require.NoError(t, err)
		return c.ClientCAs.Equal(want)
	}
	require.Equal(t, 2, served())
	require.True(t, trusts(both))

	broken := bytes.Replace(middle.PEM(), []byte("MII"), []byte("AAA"), 1)
	for _, rest := range [][]byte{middle.PEM()[:len(middle.PEM())-30], []byte("-----BEGIN CERTIFICATE"), broken} {
		write("cert.pem", append(leaf.PEM(), rest...))
		require.Equal(t, 2, served(), "%s", rest)
		require.Contains(t, faults[certificate], certificate+": ")
		write("clients.pem", append(root.PEM(), rest...))
		require.True(t, trusts(both), "%s", rest)
		require.Contains(t, faults[clients], clients+": ")
		_, err = ServerTLS(certificate, key, "", nil)
		require.ErrorContains(t, err, certificate)
		_, err = Authorities(clients)
		require.ErrorContains(t, err, clients)
	}
	// A file with the same leaf and a shorter chain is new content.
	write("cert.pem", leaf.PEM())
	require.Equal(t, 1, served())
	require.Empty(t, faults[certificate])
	write("clients.pem", root.PEM())
	require.True(t, trusts(root.Pool()))
	require.Empty(t, faults[clients])
}

// TestPairExpiry checks that the metric has the expiry of the pair in use, even after a change and
// after a fault of the files.
func TestPairExpiry(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(p testcert.Pair) {
		require.NoError(t, os.WriteFile(certificate, p.PEM(), 0o600))
		require.NoError(t, os.WriteFile(key, p.KeyPEM(), 0o600))
	}
	first := testcert.New("a.example")
	write(first)
	conf, err := ServerTLS(certificate, key, "", func(string, error) {})
	require.NoError(t, err)
	registry := prometheus.NewRegistry()
	registry.MustRegister(PairExpiry("program", certificate, conf.GetCertificate))
	expiry := func() float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		require.Len(t, families, 1)
		require.Equal(t, "headgate_program_certificate_expiry_timestamp_seconds", families[0].GetName())
		require.Equal(t, certificate, families[0].Metric[0].Label[0].GetValue())
		return families[0].Metric[0].Gauge.GetValue()
	}
	require.Equal(t, float64(first.TLS.Leaf.NotAfter.Unix()), expiry())
	require.NoError(t, os.Remove(certificate))
	require.Equal(t, float64(first.TLS.Leaf.NotAfter.Unix()), expiry(), "the pair in use")

	failed := PairExpiry("program", certificate, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, os.ErrNotExist })
	registry = prometheus.NewRegistry()
	registry.MustRegister(failed)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}
