package hellos

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/internal/testcert"
)

// Certificates are the certificates of the backends and of their clients.
type Certificates struct {
	File string // PEM, the root of the certificates of the backends

	ca, site testcert.Pair
	// The certificate of the client of ResumedGo. Its chain has an intermediate certificate and RSA
	// keys of 2,048 bits, as many companies use them.
	client     tls.Certificate
	clientRoot *x509.CertPool
}

// NewCertificates makes certificates for the hosts, and writes File to the directory dir.
func NewCertificates(dir string, hosts []string) (*Certificates, error) {
	c := &Certificates{File: filepath.Join(dir, "ca.pem"), ca: testcert.New("test CA"), clientRoot: x509.NewCertPool()}
	c.site = c.ca.Issue(hosts...)
	var err error
	if c.client, err = clientChain(c.clientRoot); err != nil {
		return nil, fmt.Errorf("hellos: certificates: %w", err)
	}
	return c, os.WriteFile(c.File, c.ca.PEM(), 0o600)
}

// clientChain makes the certificate of a client, and adds its root to the pool.
func clientChain(pool *x509.CertPool) (tls.Certificate, error) {
	var chain [][]byte
	var parent *x509.Certificate
	var parentKey *rsa.PrivateKey
	for i, name := range []string{"Example Root CA", "Example Issuing CA", "client.example"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return tls.Certificate{}, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)),
			Subject:      pkix.Name{CommonName: name, Organization: []string{"Example"}},
			NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
			IsCA: i < 2, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		if i == 2 {
			template.KeyUsage = x509.KeyUsageDigitalSignature
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			return tls.Certificate{}, err
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return tls.Certificate{}, err
		}
		parentKey = key
		if i == 0 {
			pool.AddCert(parent) // a client does not send the root
		} else {
			chain = append([][]byte{der}, chain...)
		}
	}
	return tls.Certificate{Certificate: chain, PrivateKey: parentKey}, nil
}

// server returns the configuration of a backend. A backend asks only the client of ResumedGo for a
// certificate, because browsers without a window cannot choose one.
func (c *Certificates) server() *tls.Config {
	conf := &tls.Config{Certificates: []tls.Certificate{c.site.TLS}, NextProtos: []string{"http/1.1"}}
	strict := conf.Clone()
	strict.ClientAuth, strict.ClientCAs = tls.RequireAndVerifyClientCert, c.clientRoot
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == HostOf(ResumedGo) {
			return strict, nil
		}
		return nil, nil
	}
	return conf
}
