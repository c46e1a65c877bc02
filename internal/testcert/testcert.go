// Package testcert makes certificates for tests and demonstrations.
//
//	ca := testcert.New("test CA")
//	site := ca.Issue("a.example", "*.b.example", "127.0.0.1")
//	server := &tls.Config{Certificates: []tls.Certificate{site.TLS}}
//	client := &tls.Config{RootCAs: ca.Pool()}
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// A Pair is a certificate and its private key. Servers and clients can use it. It is valid for two
// days.
type Pair struct {
	TLS tls.Certificate // its field Leaf is set
}

// New returns a certificate that signs itself, and can sign others; see Issue. A name is a host, a
// wildcard such as "*.example.com", or an IP address. The first name is also the common name.
func New(names ...string) Pair { return create(nil, names) }

// Issue returns a certificate that p signs. Its chain contains the certificate of p.
func (p Pair) Issue(names ...string) Pair { return create(&p, names) }

func create(parent *Pair, names []string) Pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(48 * time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for i, name := range names {
		if i == 0 {
			template.Subject = pkix.Name{CommonName: name}
		}
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	signer, signerKey := template, any(key)
	if parent == nil {
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		signer, signerKey = parent.TLS.Leaf, parent.TLS.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	must(err)
	leaf, err := x509.ParseCertificate(der)
	must(err)
	chain := [][]byte{der}
	if parent != nil {
		chain = append(chain, parent.TLS.Certificate...)
	}
	return Pair{tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}}
}

// Pool returns a pool with this certificate, for tls.Config.RootCAs.
func (p Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.TLS.Leaf)
	return pool
}

// PEM returns the certificate without its chain.
func (p Pair) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.TLS.Leaf.Raw})
}

// KeyPEM returns the private key.
func (p Pair) KeyPEM() []byte {
	der, err := x509.MarshalECPrivateKey(p.TLS.PrivateKey.(*ecdsa.PrivateKey))
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// The function "must" panics if err is not nil. The only possible cause is a name that a
// certificate cannot contain.
func must(err error) {
	if err != nil {
		panic("testcert: " + err.Error())
	}
}
