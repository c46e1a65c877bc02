package certfiles_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/certfiles"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// issued is a certificate and its key in PEM.
type issued struct{ cert, key []byte }

func (i issued) file() []byte { return append(bytes.Clone(i.cert), i.key...) }

func issue(t *testing.T, name string) issued {
	t.Helper()
	cert, key := pem.Decode(configtest.Certificate(t, name).PEM)
	return issued{pem.EncodeToMemory(cert), key}
}

// weak returns a file with an RSA key of 1,024 bits, which OpenSSL rejects.
func weak(t *testing.T) []byte {
	t.Helper()
	key := haproxytest.RSAKey(t, 1024)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"weak.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
}

// TestSource reads a directory with good and faulty files, with the check of the real HAProxy.
func TestSource(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	a, b, c, d := issue(t, "a.example.com"), issue(t, "b.example.com"), issue(t, "c.example.com"), issue(t, "d.example.com")
	write("a.pem", a.file())
	write("b.crt", b.cert)
	write("b.key", b.key)
	write("c.pem", c.cert)
	write("c.pem.key", c.key)
	write("half.pem", a.file()[:300])
	write("weak.pem", weak(t))
	write("huge.pem", bytes.Repeat([]byte("\n"), 1<<20+1))
	for _, name := range []string{".hidden.pem", "a.pem.ocsp", "a.sctl", "a.issuer", "ca.crt", "old/a.pem"} {
		write(name, []byte("ignored"))
	}
	// A mounted Secret: tls.crt is a link through a link to a directory.
	write("..2026/tls.crt", d.cert)
	write("..2026/tls.key", d.key)
	require.NoError(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/tls.crt", filepath.Join(dir, "tls.crt")))
	require.NoError(t, os.Symlink("..data/tls.key", filepath.Join(dir, "tls.key")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link.pem")))
	checked := 0
	s := &certfiles.Source{Path: dir, Check: func(ctx context.Context, list []haproxycfg.Certificate) ([]error, error) {
		checked += len(list)
		return deploy.Checker{Haproxy: haproxytest.Binary(t)}.CheckCertificates(ctx, list)
	}}
	read := s.Read(t.Context())
	require.NoError(t, read.Err)
	got := map[string]string{}
	for _, f := range read.Files {
		name, err := filepath.Rel(dir, f.Path)
		require.NoError(t, err)
		if f.Err != nil {
			got[name] = f.Err.Error()
		} else {
			got[name] = f.Pair.Names[0]
		}
	}
	require.Contains(t, got["weak.pem"], "haproxy rejects it: ")
	require.Contains(t, got["half.pem"], "incomplete")
	delete(got, "weak.pem")
	delete(got, "half.pem")
	require.Equal(t, map[string]string{
		"a.pem": "a.example.com", "b.crt": "b.example.com", "c.pem": "c.example.com", "tls.crt": "d.example.com",
		"huge.pem": "1048577 bytes, and at most 1048576 are allowed", "link.pem": "no such file or directory",
	}, got)
	require.Equal(t, 5, checked)
	require.True(t, read.Equal(s.Read(t.Context())))
	require.Equal(t, 5, checked, "HAProxy judges each certificate once")

	write("half.pem", a.file())
	again := s.Read(t.Context())
	require.False(t, read.Equal(again))
	require.Equal(t, 5, checked, "the same certificate in another file")

	missing := (&certfiles.Source{Path: filepath.Join(dir, "missing")}).Read(t.Context())
	require.ErrorIs(t, missing.Err, os.ErrNotExist)
	one := (&certfiles.Source{Path: filepath.Join(dir, "a.pem")}).Read(t.Context())
	require.Len(t, one.Files, 1)
	require.NoError(t, one.Files[0].Err)
}

// TestNoVerdict: HAProxy first gives no verdict on some certificates, and later a verdict. After an
// upgrade, HAProxy again first gives no verdict, and then another verdict than before.
func TestNoVerdict(t *testing.T) {
	dir := t.TempDir()
	haproxy := filepath.Join(t.TempDir(), "haproxy")
	install := func(text string, age time.Duration) {
		t.Helper()
		require.NoError(t, os.WriteFile(haproxy, []byte(text), 0o700))
		require.NoError(t, os.Chtimes(haproxy, time.Time{}, time.Now().Add(-age)))
	}
	install("old", time.Hour)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.pem"), issue(t, "a.example.com").file(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.pem"), issue(t, "b.example.com").file(), 0o600))
	var asked int
	var noVerdict error
	var verdict func(haproxycfg.Certificate) error
	s := &certfiles.Source{Path: dir, Haproxy: haproxy, Check: func(_ context.Context, list []haproxycfg.Certificate) ([]error, error) {
		asked = len(list)
		verdicts := make([]error, len(list))
		for i, c := range list {
			verdicts[i] = verdict(c)
		}
		return verdicts, noVerdict
	}}
	read := func() []error {
		t.Helper()
		asked = 0
		files := s.Read(t.Context()).Files
		require.Len(t, files, 2)
		return []error{files[0].Err, files[1].Err}
	}
	weak := errors.New("weak")
	rejectsA := func(c haproxycfg.Certificate) error {
		if c.Names[0] == "a.example.com" {
			return weak
		}
		return nil
	}
	accepts := func(haproxycfg.Certificate) error { return nil }
	verdict, noVerdict = accepts, errors.New("haproxy does not run")
	require.Equal(t, []error{nil, nil}, read())
	verdict = rejectsA
	require.Equal(t, []error{weak, nil}, read())
	require.Equal(t, 2, asked, "no verdict is no acceptance")
	noVerdict = nil
	require.Equal(t, []error{weak, nil}, read())
	require.Equal(t, 1, asked, "a rejection is a verdict")
	read()
	require.Zero(t, asked)

	// After an upgrade, HAProxy gives no verdict. The verdicts of the old version stay.
	install("new one", time.Minute)
	verdict, noVerdict = accepts, errors.New("haproxy does not run")
	require.Equal(t, []error{weak, nil}, read())
	require.Equal(t, 2, asked)
	noVerdict = nil
	require.Equal(t, []error{nil, nil}, read())
	require.Equal(t, 2, asked)
	read()
	require.Zero(t, asked)
}

// TestFollow changes files while a Source follows them.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pem")
	a, b := issue(t, "a.example.com"), issue(t, "b.example.com")
	s := &certfiles.Source{Path: dir, Recheck: 50 * time.Millisecond}
	require.Empty(t, s.Read(t.Context()).Files)
	ctx, cancel := context.WithCancel(t.Context())
	published, done := make(chan certs.Files, 100), make(chan struct{})
	go func() { defer close(done); s.Follow(ctx, func(f certs.Files) { published <- f }) }()
	defer func() { cancel(); <-done }()
	wait := func(ok func(certs.Files) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			select {
			case f := <-published:
				return ok(f)
			default:
				return false
			}
		}, 30*time.Second, time.Millisecond)
	}
	serves := func(name string) func(certs.Files) bool {
		return func(f certs.Files) bool {
			return len(f.Files) == 1 && f.Files[0].Err == nil && f.Files[0].Pair.Names[0] == name
		}
	}
	require.NoError(t, os.WriteFile(path, a.file()[:100], 0o600))
	wait(func(f certs.Files) bool { return len(f.Files) == 1 && f.Files[0].Err != nil })
	require.NoError(t, os.WriteFile(path, a.file(), 0o600))
	wait(serves("a.example.com"))
	require.NoError(t, os.WriteFile(path, b.cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.key"), b.key, 0o600))
	wait(serves("b.example.com"))
	require.NoError(t, os.RemoveAll(dir))
	wait(func(f certs.Files) bool { return f.Err != nil })
}

// TestFollowAsksAgain gives no verdict at first. Follow calls Check again although no file changes.
func TestFollowAsksAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pem")
	require.NoError(t, os.WriteFile(path, issue(t, "a.example.com").file(), 0o600))
	weak := errors.New("weak")
	checks := 0
	s := &certfiles.Source{Path: path, Recheck: 10 * time.Millisecond, Check: func(context.Context, []haproxycfg.Certificate) ([]error, error) {
		if checks++; checks < 10 {
			return []error{nil}, errors.New("haproxy does not run")
		}
		return []error{weak}, nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var last certs.Files
	s.Follow(ctx, func(f certs.Files) {
		if last = f; f.Files[0].Err != nil {
			cancel()
		}
	})
	require.Equal(t, weak, last.Files[0].Err)
	require.Equal(t, 10, checks)
}

// TestRejectionIsJudgedAgain: some time after HAProxy has rejected a certificate, Source calls
// Check for it again, because OpenSSL or its settings may have changed.
func TestRejectionIsJudgedAgain(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.pem"), issue(t, "a.example.com").file(), 0o600))
	synctest.Test(t, func(t *testing.T) {
		asked, verdict := 0, errors.New("weak")
		s := &certfiles.Source{Path: dir, Check: func(context.Context, []haproxycfg.Certificate) ([]error, error) {
			asked++
			return []error{verdict}, nil
		}}
		read := func() error { return s.Read(t.Context()).Files[0].Err }
		require.ErrorIs(t, read(), verdict)
		time.Sleep(9 * time.Minute)
		require.ErrorIs(t, read(), verdict)
		require.Equal(t, 1, asked)
		time.Sleep(time.Minute)
		verdict = nil
		require.NoError(t, read())
		time.Sleep(time.Hour)
		require.NoError(t, read())
		require.Equal(t, 2, asked)
	})
}
