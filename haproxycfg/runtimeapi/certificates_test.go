package runtimeapi_test

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/testcert"
)

// pemOf returns a certificate with its key, and with a blank line between the two.
func pemOf(p testcert.Pair) []byte { return append(append(p.PEM(), '\n'), p.KeyPEM()...) }

// withChain returns the certificate with a chain of at least this many bytes, and its key.
func withChain(t *testing.T, p testcert.Pair, size int) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: strings.Repeat("x", 60)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.TLS.Leaf.PublicKey, p.TLS.PrivateKey)
	require.NoError(t, err)
	text := p.PEM()
	for n := 0; n < size; {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		text, n = append(text, block...), n+len(block)
	}
	return append(text, p.KeyPEM()...)
}

// TestCertificates changes certificates of a running HAProxy of each version, through the stats
// socket and through the master. Clients connect all the time, and no handshake may fail.
func TestCertificates(t *testing.T) {
	t.Parallel()
	first, other := testcert.New("a.example"), testcert.New("b.example")
	eachVersion(t, func(dir string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a.pem"), pemOf(first), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "x.list"), []byte("a.pem\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "x.map"), []byte("a 1\nb 2\n"), 0o600))
		return fmt.Sprintf(`
global
    stats socket %[1]s/stats.sock level admin
    crt-base %[1]s
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend f
    bind unix@%[1]s/tls.sock ssl crt-list %[1]s/x.list strict-sni
    http-request return status 200 content-type text/plain lf-string %%[path,map_str(%[1]s/x.map,none)]
`, dir)
	}, func(t *testing.T, dir string) {
		handshake := func(host string) ([20]byte, error) {
			conn, err := net.Dial("unix", filepath.Join(dir, "tls.sock"))
			if err != nil {
				return [20]byte{}, err
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				return [20]byte{}, err
			}
			client := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // the test compares the fingerprint
			if err := client.HandshakeContext(t.Context()); err != nil {
				return [20]byte{}, err
			}
			return sha1.Sum(client.ConnectionState().PeerCertificates[0].Raw), nil
		}
		serves := func(host string, p testcert.Pair) {
			t.Helper()
			got, err := handshake(host)
			require.NoError(t, err)
			require.Equal(t, sha1.Sum(p.TLS.Leaf.Raw), got)
		}
		var clients sync.WaitGroup
		var stop atomic.Bool
		finish := sync.OnceFunc(func() { stop.Store(true); clients.Wait() })
		defer finish()
		clients.Go(func() {
			for !stop.Load() {
				if _, err := handshake("a.example"); err != nil {
					t.Errorf("a handshake during the changes: %v", err)
					return
				}
			}
		})
		list, file := filepath.Join(dir, "x.list"), filepath.Join(dir, "a.pem")
		for name, s := range map[string]runtimeapi.Socket{
			"stats":  {Path: filepath.Join(dir, haproxytest.StatsSocket)},
			"master": {Path: filepath.Join(dir, haproxytest.MasterSocket), Worker: "@1"},
		} {
			ctx := t.Context()
			lists, err := s.CertificateLists(ctx)
			require.NoError(t, err)
			require.Equal(t, []string{list}, lists)

			renewed := testcert.New("a.example")
			require.NoError(t, s.SetCertificate(ctx, file, withChain(t, renewed, 10_000)), name)
			serves("a.example", renewed)
			sum, err := s.CertificateSHA1(ctx, file)
			require.NoError(t, err)
			require.Equal(t, sha1.Sum(renewed.TLS.Leaf.Raw), sum)

			// A refused certificate leaves the old one in use, and no transaction.
			mixed := append(testcert.New("a.example").PEM(), other.KeyPEM()...)
			for _, bad := range [][]byte{mixed, []byte("no certificate"), pemOf(other)[:300], withChain(t, renewed, 17_000)} {
				err := s.SetCertificate(ctx, file, bad)
				require.Error(t, err)
				requireNoKey(t, err.Error(), bad)
				err = s.AddCertificate(ctx, list, filepath.Join(dir, "bad.pem"), bad)
				require.Error(t, err)
				requireNoKey(t, err.Error(), bad)
				pending, err := s.PendingCertificate(ctx)
				require.NoError(t, err)
				require.Empty(t, pending)
			}
			require.ErrorIs(t, s.SetCertificate(ctx, file, withChain(t, renewed, 17_000)), runtimeapi.ErrCertificateTooLarge)
			require.ErrorIs(t, s.SetCertificate(ctx, "a;b", pemOf(renewed)), runtimeapi.ErrCommand)
			require.ErrorIs(t, s.AddCertificate(ctx, "a b", file, pemOf(renewed)), runtimeapi.ErrCommand)
			require.Error(t, s.AddCertificate(ctx, list, file, pemOf(renewed)), "HAProxy has this certificate already")
			_, err = s.CertificateFiles(ctx, "/no/such.list")
			require.Error(t, err)
			_, err = s.CertificateSHA1(ctx, "/no/such.pem")
			require.Error(t, err)
			serves("a.example", renewed)

			host := name + ".example"
			_, err = handshake(host)
			require.Error(t, err)
			added := testcert.New(host)
			require.NoError(t, s.AddCertificate(ctx, list, filepath.Join(dir, host+".pem"), pemOf(added)))
			serves(host, added)
			files, err := s.CertificateFiles(ctx, list)
			require.NoError(t, err)
			require.Equal(t, file, files[0])
			require.Equal(t, filepath.Join(dir, host+".pem"), files[len(files)-1])

			added2 := filepath.Join(dir, host+"-2.pem")
			require.Error(t, s.DeleteCertificate(ctx, list, added2), "HAProxy does not have this certificate")
			require.NoError(t, s.AddCertificate(ctx, list, added2, pemOf(testcert.New("gone."+host))))
			require.NoError(t, s.DeleteCertificate(ctx, list, added2))
			_, err = handshake("gone." + host)
			require.Error(t, err)
			_, err = s.CertificateSHA1(ctx, added2)
			require.Error(t, err)
			require.ErrorIs(t, s.DeleteCertificate(ctx, "a b", added2), runtimeapi.ErrCommand)
			require.ErrorIs(t, s.DeleteCertificate(ctx, list, "a;b"), runtimeapi.ErrCommand)
			serves(host, added)

			require.NoError(t, s.AddMapEntries(ctx, filepath.Join(dir, "x.map"), []runtimeapi.MapEntry{{Key: "b", Value: "3"}, {Key: name, Value: "4"}, {Key: name, Value: "4"}}))
			entries, err := s.Map(ctx, filepath.Join(dir, "x.map"))
			require.NoError(t, err)
			require.Subset(t, entries, []runtimeapi.MapEntry{{Key: "a", Value: "1"}, {Key: "b", Value: "3"}, {Key: name, Value: "4"}})
			require.NoError(t, s.DeleteMapKey(ctx, filepath.Join(dir, "x.map"), name))
		}
		finish()
	})
}

// requireNoKey fails the test if the text contains a part of the PEM text.
func requireNoKey(t *testing.T, text string, pem []byte) {
	t.Helper()
	for line := range strings.Lines(string(pem)) {
		if line = strings.TrimSpace(line); len(line) > 20 {
			require.NotContains(t, text, line[:20])
		}
	}
}

// TestNoKeyInErrors: HAProxy has read the command and does not answer. The error does not contain
// the key.
func TestNoKeyInErrors(t *testing.T) {
	path := filepath.Join(haproxytest.Dir(t), "fake.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var fake sync.WaitGroup
	fake.Go(func() {
		first, err := listener.Accept()
		if err != nil {
			return
		}
		defer first.Close()
		_, _ = io.Copy(io.Discard, first) // the whole command, so the dial is over
		cancel()
		for { // the command that ends the transaction
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); fake.Wait() })
	text := pemOf(testcert.New("a.example"))
	err = runtimeapi.Socket{Path: path, Timeout: time.Minute}.SetCertificate(ctx, "/a.pem", text)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "set ssl cert /a.pem <<")
	requireNoKey(t, err.Error(), text)
}
