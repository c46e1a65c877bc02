package deploy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
)

// renewedCertificate returns a certificate with the same names as c, and with another content.
func renewedCertificate(t *testing.T, c haproxycfg.Certificate) haproxycfg.Certificate {
	t.Helper()
	now := configtest.Certificate(t, append(slices.Clone(c.Names), "other.example")...)
	now.Names = c.Names
	return now
}

// withKey returns a certificate with the given key.
func withKey(t *testing.T, key crypto.Signer, names ...string) haproxycfg.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return haproxycfg.Certificate{
		PEM: append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...),
		SHA1: sha1.Sum(der), Names: names,
	}
}

func newECDSA(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func newRSA(t *testing.T) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

// TestCertificateChanges compares lists of certificates. The package haproxycfg/edge tests the same
// changes with HAProxy.
func TestCertificateChanges(t *testing.T) {
	a, b, c := configtest.Certificate(t, "a.example"), configtest.Certificate(t, "b.example"), configtest.Certificate(t, "c.example")
	a2, both := renewedCertificate(t, a), configtest.Certificate(t, "a.example", "b.example")
	b2, both2 := renewedCertificate(t, b), renewedCertificate(t, both)
	ec, ec2, other := withKey(t, newECDSA(t), "a.example"), withKey(t, newECDSA(t), "a.example"), withKey(t, newRSA(t), "a.example")
	again := a // the same certificate in another file
	again.PEM = append(slices.Clone(a.PEM), "# a comment\n"...)
	large := a2
	large.PEM = append(slices.Clone(a2.PEM), strings.Repeat("# a long comment\n", 1000)...)
	list := func(certs ...haproxycfg.Certificate) []haproxycfg.Certificate { return certs }
	for _, tt := range []struct {
		name           string
		before, after  []haproxycfg.Certificate
		lax            bool // without StrictSNI
		renewed, added int
		gone           int
		reload         string
	}{
		{name: "renewed", before: list(a, b), after: list(a2, b), renewed: 1},
		{name: "other order", before: list(a, b), after: list(b, a)},
		{name: "other order without strict SNI", before: list(a, b), after: list(b, a), lax: true, reload: "unknown names"},
		{name: "renewed and in another order", before: list(a, b), after: list(b, a2), renewed: 1},
		{name: "new", before: list(a), after: list(b, a), added: 1},
		{name: "new and first without strict SNI", before: list(a), after: list(b, a), lax: true, reload: "unknown names"},
		{name: "one more name", before: list(a, c), after: list(both, c), renewed: 1},
		{name: "one name less", before: list(both, c), after: list(a, c), renewed: 1},
		{name: "one for two", before: list(a, b), after: list(both), renewed: 1, gone: 1},
		{name: "two for one", before: list(both), after: list(a, b), renewed: 1, added: 1},
		{name: "gone", before: list(a, b), after: list(a), gone: 1},
		{name: "the first one gone", before: list(a, b), after: list(b), gone: 1},
		{name: "the first one gone without strict SNI", before: list(a, b), after: list(b), lax: true, reload: "the first certificate is gone"},
		{name: "the second one gone without strict SNI", before: list(a, b), after: list(a), lax: true, gone: 1},
		{name: "preferred to another one and gone", before: list(both, b), after: list(b), gone: 1},
		{name: "other names", before: list(a), after: list(b), added: 1, gone: 1},
		{name: "preferred to another one", before: list(a), after: list(a2, a), reload: "the order of the certificates for a.example"},
		{name: "less preferred than another one", before: list(a), after: list(a, a2), added: 1},
		{name: "renewed and preferred to another one", before: list(both, b), after: list(both2, b), reload: "the order of the certificates for b.example"},
		{name: "renewed and less preferred than another one", before: list(b, both), after: list(b, both2), renewed: 1},
		{name: "renewed as another one for the same name", before: list(both, b), after: list(both2, b2), renewed: 2},
		{name: "renewed as another one for the same name in another order", before: list(both, b), after: list(b2, both2), reload: "the order of the certificates for b.example"},
		{name: "renewed and preferred to a new one", before: list(a), after: list(a2, both), reload: "the order of the certificates for a.example"},
		{name: "renewed and less preferred than a new one", before: list(a), after: list(both, a2), renewed: 1, added: 1},
		{name: "renewed and first without strict SNI", before: list(a, b), after: list(a2, b), lax: true, renewed: 1},
		{name: "renewed and preferred to one with another kind of key", before: list(ec, other), after: list(ec2, other), renewed: 1},
		{name: "renewed and preferred to one of two with another kind of key", before: list(ec, other, a), after: list(ec2, other, a), reload: "the order of the certificates for a.example"},
		{name: "twice in the list", before: list(a), after: list(a2, a2), renewed: 1},
		{name: "in a second file", before: list(a), after: list(a, again), added: 1},
		{name: "in another file", before: list(a), after: list(again), renewed: 1},
		{name: "in two files and the second one is gone", before: list(a, again), after: list(a, b), reload: "fingerprint is not known"},
		{name: "in two files and the first one is gone", before: list(again, a, b), after: list(a, b), gone: 1},
		{name: "in two files and renewed", before: list(a, again), after: list(a2), reload: "fingerprint is not known"},
		{name: "too large", before: list(a), after: list(large), reload: "has 17"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &Dir{Path: t.TempDir(), Runtime: &Runtime{}}
			config := func(list []haproxycfg.Certificate) *haproxycfg.Config {
				c := withCertificates(testConfig(d.Path, 80, 1), list...)
				c.Frontends[len(c.Frontends)-1].Binds[0].TLS.StrictSNI = !tt.lax
				return c
			}
			_, err := d.Apply(t.Context(), config(tt.before))
			require.NoError(t, err)
			after, err := d.render(config(tt.after))
			require.NoError(t, err)
			change, err := d.liveChange(after, false)
			require.NoError(t, err)
			if tt.reload != "" {
				require.Contains(t, change.reload, tt.reload)
				return
			}
			require.Empty(t, change.reload)
			require.Len(t, change.certificates, 1)
			require.Len(t, change.certificates[0].renewed, tt.renewed)
			require.Len(t, change.certificates[0].added, tt.added)
			require.Len(t, change.certificates[0].gone, tt.gone)

			// HAProxy may have loaded an older configuration.
			old, err := d.render(config(list(c)))
			require.NoError(t, err)
			_, reload, err := d.certificateChanges(old.text(), []byte(onDisk(t, d.Path, configFile)), after)
			require.NoError(t, err)
			require.Contains(t, reload, "an earlier change was interrupted")
		})
	}
}

// TestStableMapNamesWithoutCertificates: new certificates do not change the names of stable maps.
func TestStableMapNamesWithoutCertificates(t *testing.T) {
	name := func(list ...haproxycfg.Certificate) string {
		c := withCertificates(hosts(1, "a.example"), list...)
		files, err := c.Render("")
		require.NoError(t, err)
		return files[0].Name
	}
	require.Equal(t, name(configtest.Certificate(t, "a.example")), name(configtest.Certificate(t, "b.example"), configtest.Certificate(t, "c.example")))
}
