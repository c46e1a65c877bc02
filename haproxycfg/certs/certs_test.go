package certs_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// now is the time of all tests that choose certificates.
var now = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// issued is a certificate in the parts of a file.
type issued struct {
	cert, key []byte // PEM
	parsed    *x509.Certificate
	signer    crypto.Signer
}

func (i issued) file() []byte { return join(i.cert, i.key) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue makes a certificate. parent is nil for a self-signed one.
func issue(t testing.TB, key crypto.Signer, parent *issued, change func(*x509.Certificate), names ...string) issued {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, DNSNames: names, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 1, 0),
	}
	if change != nil {
		change(template)
	}
	by, with := template, key
	if parent != nil {
		by, with = parent.parsed, parent.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), with)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return issued{block("CERTIFICATE", der), block("PRIVATE KEY", keyDER), parsed, key}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func issueFor(t testing.TB, names ...string) issued {
	t.Helper()
	return issue(t, ecKey(t), nil, nil, names...)
}

func asAuthority(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }

// accepts reports whether HAProxy accepts a file as it is.
func accepts(t *testing.T, file []byte) bool {
	t.Helper()
	dir := haproxytest.Dir(t)
	path := filepath.Join(dir, "a.pem")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	config := "defaults\n mode http\n timeout client 1s\nfrontend f\n bind 127.0.0.1:1 ssl crt " + path + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(config), 0o600))
	return exec.Command(haproxytest.Binary(t), "-c", "-f", filepath.Join(dir, "haproxy.cfg")).Run() == nil
}

// TestParseAccepts parses files of many forms. HAProxy accepts each resulting pair.
func TestParseAccepts(t *testing.T) {
	root := issue(t, ecKey(t), nil, asAuthority)
	middle := issue(t, ecKey(t), &root, asAuthority)
	leafKey := ecKey(t)
	leaf := issue(t, leafKey, &middle, nil, "a.example.com", "*.Example.com", "b.example.com.")
	sec1, err := x509.MarshalECPrivateKey(leafKey)
	require.NoError(t, err)
	rsaKey := haproxytest.RSAKey(t, 2048)
	byRSA := issue(t, rsaKey, nil, nil, "rsa.example.com")
	_, edKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	byEd := issue(t, edKey, nil, nil, "ed.example.com")
	common := issue(t, ecKey(t), nil, func(c *x509.Certificate) { c.Subject.CommonName = "Old.example.com" })
	company := issue(t, ecKey(t), nil, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "A Company, Ltd."}
		c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")}
	})
	parameters, err := exec.Command("openssl", "ecparam", "-name", "prime256v1").Output()
	require.NoError(t, err)
	dh, err := exec.Command("openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048").Output()
	require.NoError(t, err)

	names := []string{"*.example.com", "a.example.com", "b.example.com"}
	chain := join(leaf.cert, middle.cert, root.cert)
	for name, tt := range map[string]struct {
		file, key []byte
		names     []string
		length    int // of the chain with the leaf
	}{
		"certificate and key":         {leaf.file(), nil, names, 1},
		"key first":                   {join(leaf.key, leaf.cert), nil, names, 1},
		"chain":                       {join(chain, leaf.key), nil, names, 3},
		"key within the chain":        {join(leaf.cert, leaf.key, middle.cert, root.cert), nil, names, 3},
		"root first":                  {join(root.cert, middle.cert, leaf.file()), nil, names, 3},
		"key in a second file":        {chain, leaf.key, names, 3},
		"other key in a second file":  {leaf.file(), root.key, names, 1},
		"EC parameters":               {join(leaf.cert, parameters, block("EC PRIVATE KEY", sec1)), nil, names, 1},
		"DH parameters":               {join(leaf.file(), dh), nil, names, 1},
		"RSA, PKCS 8":                 {byRSA.file(), nil, []string{"rsa.example.com"}, 1},
		"RSA, PKCS 1":                 {join(byRSA.cert, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))), nil, []string{"rsa.example.com"}, 1},
		"Ed25519":                     {byEd.file(), nil, []string{"ed.example.com"}, 1},
		"two pairs":                   {join(leaf.file(), byRSA.file()), nil, names, 2},
		"a key without a certificate": {join(byEd.key, leaf.file()), nil, names, 1},
		"text between blocks":         {join([]byte("subject=a\n"), leaf.cert, []byte("issuer=b\n\n"), leaf.key, []byte("end\n")), nil, names, 1},
		"CRLF":                        {bytes.ReplaceAll(leaf.file(), []byte("\n"), []byte("\r\n")), nil, names, 1},
		"no line feed at the end":     {bytes.TrimSpace(leaf.file()), nil, names, 1},
		"only a common name":          {common.file(), nil, []string{"old.example.com"}, 1},
		"addresses":                   {company.file(), nil, []string{"192.0.2.1", "[2001:db8::1]"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := certs.Parse(tt.file, tt.key)
			require.NoError(t, err)
			require.Equal(t, tt.names, p.Names)
			require.Equal(t, tt.length, bytes.Count(p.PEM, []byte("BEGIN CERTIFICATE")))
			require.Equal(t, 1, bytes.Count(p.PEM, []byte("BEGIN PRIVATE KEY")))
			require.True(t, accepts(t, p.PEM))
			again, err := certs.Parse(p.PEM, nil)
			require.NoError(t, err)
			require.Equal(t, p, again, "the copy is complete")
		})
	}
}

// TestParseRejects parses files that contain no usable pair of certificate and key.
func TestParseRejects(t *testing.T) {
	a, b := issueFor(t, "a.example.com"), issueFor(t, "b.example.com")
	chain := join(a.key, a.cert, b.cert)
	encrypted := func(args ...string) []byte {
		cmd := exec.Command("openssl", append(args, "-passout", "pass:secret")...)
		cmd.Stdin = bytes.NewReader(a.key)
		out, err := cmd.Output()
		require.NoError(t, err)
		return out
	}
	odd, err := exec.Command("openssl", "ecparam", "-name", "secp256k1", "-genkey", "-noout").Output()
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"cut within the certificate": {a.file()[:300], "incomplete"},
		"cut within the key":         {a.file()[:len(a.file())-40], "incomplete"},
		"cut within the chain":       {chain[:len(chain)-40], "incomplete"}, // HAProxy would accept a part of the chain
		"empty":                      {nil, "it is empty"},
		"blank":                      {[]byte("\n\n"), "it is empty"},
		"no key":                     {a.cert, "no private key"},
		"no certificate":             {a.key, "no certificate"},
		"another's key":              {join(a.cert, b.key), "belongs to none of its certificates"},
		"text":                       {[]byte("see the wiki\n"), "no certificate in it"},
		"DER":                        {a.parsed.Raw, "no certificate in it"},
		"PKCS 8 with a password":     {join(a.cert, encrypted("pkcs8", "-topk8")), "encrypted"},
		"SEC 1 with a password":      {join(a.cert, encrypted("ec", "-aes256")), "encrypted"},
		"no base64":                  {[]byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), "incomplete"},
		"no certificate in a block":  {join(block("CERTIFICATE", []byte("x")), a.key), "certificate 1 in it: "},
		"broken chain":               {join(a.file(), block("CERTIFICATE", []byte("x"))), "certificate 2 in it: "},
		"no key in a block":          {join(a.cert, block("PRIVATE KEY", []byte("x"))), "its private key cannot be read"},
		"unknown curve":              {join(a.cert, odd), "its private key cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := certs.Parse(tt.file, nil)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
	_, err = certs.Parse(a.cert, a.key[:60])
	require.ErrorContains(t, err, "the file of its key: ")
}

// FuzzParse parses arbitrary files. If Parse accepts a file, Parse of Pair.PEM gives the same pair.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text, key []byte) {
		p, err := certs.Parse(text, key)
		if err != nil {
			require.Zero(t, p)
			return
		}
		again, err := certs.Parse(p.PEM, nil)
		require.NoError(t, err)
		require.Equal(t, p, again)
		valid := haproxycfg.Config{CertificateLists: []haproxycfg.CertificateList{{Name: "l", Certificates: []haproxycfg.Certificate{p.Certificate}}}}
		require.NoError(t, valid.Validate())
	})
}
