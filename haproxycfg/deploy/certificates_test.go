package deploy

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// withCertificates adds a frontend with these certificates to c.
func withCertificates(c *haproxycfg.Config, list ...haproxycfg.Certificate) *haproxycfg.Config {
	c.Frontends = append(c.Frontends, haproxycfg.Frontend{
		Name:           "https",
		Binds:          []haproxycfg.Bind{{Address: "127.0.0.1:18443", TLS: &haproxycfg.TLS{List: "tls", StrictSNI: true}}},
		DefaultBackend: "web",
	})
	c.CertificateLists = []haproxycfg.CertificateList{{Name: "tls", Certificates: list}}
	return c
}

// TestPrivateFiles follows the copy of a certificate until no configuration needs it. Only its
// owner may read the copy. No Diff shows it. It stays while the last good configuration names it.
func TestPrivateFiles(t *testing.T) {
	dir := t.TempDir()
	haproxy := haproxytest.Binary(t)
	d := &Dir{Path: dir, Check: Checker{Haproxy: haproxy}.Check}
	a, b, c := configtest.Certificate(t, "a.example.com"), configtest.Certificate(t, "b.example.com"), configtest.Certificate(t, "c.example.com")
	copyOf := func(c haproxycfg.Certificate) string { return filepath.Join(dir, filepath.FromSlash(c.FileName())) }
	apply := func(list ...haproxycfg.Certificate) {
		t.Helper()
		config := withCertificates(testConfig(dir, 80, 1), list...)
		diff, err := d.Diff(config)
		require.NoError(t, err)
		require.NotContains(t, diff.Text+diff.String(), "PRIVATE")
		require.False(t, diff.Empty())
		require.Zero(t, diff.Servers.Removed)
		_, err = d.Apply(t.Context(), config)
		require.NoError(t, err)
		diff, err = d.Diff(config)
		require.NoError(t, err)
		require.True(t, diff.Empty())
	}
	apply(a, b)
	for _, cert := range []haproxycfg.Certificate{a, b} {
		info, err := os.Stat(copyOf(cert))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
	other := &Dir{Path: t.TempDir(), PrivateMode: 0o640}
	_, err := other.Apply(t.Context(), withCertificates(testConfig(other.Path, 80, 1), a))
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(other.Path, filepath.FromSlash(a.FileName())))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode())
	temporary := filepath.Join(dir, certsDir, "."+filepath.Base(a.FileName())+"123") // left by a process that ended early
	require.NoError(t, os.WriteFile(temporary, nil, 0o600))
	apply(a, c)
	require.FileExists(t, copyOf(b), "the last good configuration names it")
	require.NoFileExists(t, temporary)

	before := snapshot(t, dir)
	d.Reload = func(context.Context) error { return errors.New("no") }
	_, err = d.Apply(t.Context(), withCertificates(testConfig(dir, 80, 1), c))
	require.Error(t, err)
	require.FileExists(t, copyOf(a))
	require.Contains(t, before, copyOf(a))
	d.Reload = nil

	apply(c)
	apply()
	require.NoFileExists(t, copyOf(a))
	require.NoFileExists(t, copyOf(b))
	require.FileExists(t, copyOf(c))
}

// TestMissingCopyIsWrittenAgain removes the copy of a certificate in use. The next Apply writes it
// again, although the configuration is the same.
func TestMissingCopyIsWrittenAgain(t *testing.T) {
	dir, reloads := t.TempDir(), 0
	d := &Dir{Path: dir, Reload: func(context.Context) error { reloads++; return nil }}
	cert := configtest.Certificate(t, "a.example.com")
	config := withCertificates(testConfig(dir, 80, 1), cert)
	_, err := d.Apply(t.Context(), config)
	require.NoError(t, err)
	file := filepath.Join(dir, filepath.FromSlash(cert.FileName()))
	require.NoError(t, os.Remove(file))
	_, err = d.Apply(t.Context(), config)
	require.NoError(t, err)
	require.FileExists(t, file)
	require.Equal(t, 2, reloads)
}

// TestCheckCertificates lets HAProxy judge certificates. Two certificates have a key that OpenSSL
// rejects, one has the key of another certificate, and one is cut off.
func TestCheckCertificates(t *testing.T) {
	good := configtest.Certificate(t, "good.example.com")
	other := configtest.Certificate(t, "other.example.com")
	certBlock, _ := pem.Decode(good.PEM)
	_, otherKey := pem.Decode(other.PEM)
	mixed := haproxycfg.Certificate{PEM: append(pem.EncodeToMemory(certBlock), otherKey...)}
	list := []haproxycfg.Certificate{
		good, weakCertificate(t, 1), other, weakCertificate(t, 2), mixed, good,
		{PEM: good.PEM[:len(good.PEM)/2]},
		{},
	}
	k := Checker{Haproxy: haproxytest.Binary(t), Warned: func([]Diagnostic) { t.Error("a check of certificates alone is no check of the configuration") }}
	verdicts, err := k.CheckCertificates(t.Context(), list)
	require.NoError(t, err)
	require.Len(t, verdicts, len(list))
	for i, rejected := range []bool{false, true, false, true, true, false, true, true} {
		require.Equal(t, rejected, verdicts[i] != nil, "%d: %v", i, verdicts[i])
		if rejected && i < 7 {
			require.ErrorContains(t, verdicts[i], "haproxy rejects it: ")
			require.NotContains(t, verdicts[i].Error(), "/")
		}
	}
	noVerdict := func(k Checker, ctx context.Context, script string) error {
		verdicts, err := k.CheckCertificates(ctx, list[1:2])
		require.Equal(t, []error{nil}, verdicts, script)
		require.Error(t, err, script)
		return err
	}
	require.ErrorIs(t, noVerdict(Checker{Haproxy: "/no/such/haproxy"}, t.Context(), ""), os.ErrNotExist)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, noVerdict(k, ended, ""), context.Canceled)
	verdicts, err = k.CheckCertificates(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, verdicts)
	broken := filepath.Join(t.TempDir(), "haproxy")
	for _, script := range []string{"exit 127", "kill -9 $$", "echo 'error while loading shared libraries' >&2; exit 1"} {
		require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
		noVerdict(Checker{Haproxy: broken}, t.Context(), script)
	}
}

// weakCertificate returns a certificate with an RSA key of 1,024 bits.
func weakCertificate(t *testing.T, serial int64) haproxycfg.Certificate {
	t.Helper()
	key := haproxytest.RSAKey(t, 1024)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"weak.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
	return haproxycfg.Certificate{PEM: text, SHA1: sha1.Sum(der), Names: template.DNSNames}
}
