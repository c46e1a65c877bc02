package testcert_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/testcert"
)

// A certificate is valid only for its names and addresses, and only with the pool of its signer.
func TestIssue(t *testing.T) {
	ca := testcert.New("test CA")
	site := ca.Issue("a.example", "*.b.example", "127.0.0.1")
	for name, pool := range map[string]*x509.CertPool{"a.example": ca.Pool(), "x.b.example": ca.Pool(), "127.0.0.1": ca.Pool(), "test CA": nil} {
		cert := site.TLS.Leaf
		if pool == nil {
			cert, pool = ca.TLS.Leaf, ca.Pool()
			name = ""
		}
		_, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
		require.NoError(t, err, name)
		_, err = cert.Verify(x509.VerifyOptions{DNSName: name, Roots: testcert.New("other").Pool()})
		require.Error(t, err, name)
	}
	require.Error(t, site.TLS.Leaf.VerifyHostname("c.example"))
	require.Equal(t, "a.example", site.TLS.Leaf.Subject.CommonName)
	require.False(t, site.TLS.Leaf.IsCA)
	read, err := tls.X509KeyPair(site.PEM(), site.KeyPEM())
	require.NoError(t, err)
	require.Equal(t, site.TLS.PrivateKey, read.PrivateKey)
	require.Panics(t, func() { testcert.New("é") })
}
