package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// Pair is a certificate with its chain and the private key that belongs to the certificate.
type Pair struct {
	haproxycfg.Certificate
	// NotBefore and NotAfter are the times between which clients accept the certificate.
	NotBefore, NotAfter time.Time
}

// ErrNoKey is the error of Parse if there is no private key.
var ErrNoKey = errors.New("no private key, neither in it nor in a file beside it whose name ends in .key")

// These are further errors of Parse. Each describes one fault of a file.
var (
	errIncomplete  = errors.New("a PEM block in it is incomplete: it is cut off, or a program is still writing it")
	errEmpty       = errors.New("it is empty")
	errNoCert      = errors.New("no certificate in it")
	errEncrypted   = errors.New("its private key is encrypted; nobody is there to type the password")
	errKeyMismatch = errors.New("its private key belongs to none of its certificates")
	errOrder       = errors.New("its validity ends before it begins")
)

// Parse reads a certificate, its chain and its private key in PEM, in any order. The key is in the
// argument "text" or, if "text" has no private key, in "keyText". The certificate is the first one
// to which a key belongs; all other certificates are its chain. Parse ignores blocks of other
// types, such as EC and DH parameters.
//
// Pair.PEM contains only the certificate, the chain in the given order, and the key in PKCS #8.
// Pair.Names are the DNS names, IP addresses and common name by which HAProxy chooses a
// certificate.
func Parse(text, keyText []byte) (Pair, error) {
	certs, keys, err := blocks(text)
	if err != nil {
		return Pair{}, err
	}
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return Pair{}, errEmpty
	case len(certs) == 0:
		return Pair{}, errNoCert
	}
	if len(keys) == 0 {
		if _, keys, err = blocks(keyText); err != nil {
			return Pair{}, fmt.Errorf("the file of its key: %w", err)
		}
	}
	if len(keys) == 0 {
		return Pair{}, ErrNoKey
	}
	chain := make([]*x509.Certificate, len(certs))
	for i, block := range certs {
		if chain[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return Pair{}, fmt.Errorf("certificate %d in it: %w", i+1, err)
		}
	}
	for _, block := range keys {
		key, err := parseKey(block)
		if err != nil {
			return Pair{}, err
		}
		if leaf := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return belongs(key, c) }); leaf >= 0 {
			return newPair(chain, leaf, key)
		}
	}
	return Pair{}, errKeyMismatch
}

// blocks returns the certificates and the private keys of a PEM text. It returns an error if a
// block is incomplete, for example because somebody has cut off the file within its chain.
// pem.Decode alone would skip the incomplete block, and a part of the chain would be missing
// without an error.
func blocks(text []byte) (certs, keys []*pem.Block, err error) {
	begun := bytes.Count(text, []byte("-----BEGIN"))
	for rest := text; ; begun-- {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE":
			certs = append(certs, block)
		case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
			keys = append(keys, block)
		}
	}
	if begun != 0 {
		return nil, nil, errIncomplete
	}
	return certs, keys, nil
}

// parseKey returns the private key of a PEM block.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errEncrypted
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if rsaKey, rsaErr := x509.ParsePKCS1PrivateKey(block.Bytes); rsaErr == nil {
			key, err = rsaKey, nil
		} else if ecKey, ecErr := x509.ParseECPrivateKey(block.Bytes); ecErr == nil {
			key, err = ecKey, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("its private key cannot be read: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("its private key has the type %T, which no server can use", key)
}

// belongs reports whether a private key belongs to a certificate.
func belongs(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}

// newPair returns the Pair of the certificate chain[leaf]. The other certificates in chain become
// its chain.
func newPair(chain []*x509.Certificate, leaf int, key crypto.Signer) (Pair, error) {
	c := chain[leaf]
	if c.NotAfter.Before(c.NotBefore) {
		return Pair{}, errOrder
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("its private key: %w", err)
	}
	var text []byte
	add := func(kind string, der []byte) {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	add("CERTIFICATE", c.Raw)
	for i, other := range chain {
		if i != leaf {
			add("CERTIFICATE", other.Raw)
		}
	}
	add("PRIVATE KEY", der)
	return Pair{
		Certificate: haproxycfg.Certificate{PEM: text, SHA1: sha1.Sum(c.Raw), Names: names(c)},
		NotBefore:   c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}, nil
}

// names returns the hosts that a certificate covers, sorted and without repetitions.
func names(c *x509.Certificate) []string {
	var all []string
	for _, name := range append(slices.Clone(c.DNSNames), c.Subject.CommonName) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if isHost(strings.TrimPrefix(name, "*.")) {
			all = append(all, name)
		}
	}
	for _, ip := range c.IPAddresses {
		all = append(all, hostOf(ip))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hostOf returns an IP address as the header Host contains it: an IPv6 address has brackets.
func hostOf(ip net.IP) string {
	if ip.To4() == nil {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}

// isHost reports whether s consists of the characters of a host name. Common names often contain
// other text, such as the name of a company.
func isHost(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 253 && s[0] != '.'
}

// Covers reports whether a certificate with these names covers the host, which must be in lower
// case. A wildcard among the names covers exactly one label. If the host is itself a wildcard, only
// the same wildcard covers it.
func Covers(names []string, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.Contains(names, host) || slices.Contains(names, "*."+parent)
}
