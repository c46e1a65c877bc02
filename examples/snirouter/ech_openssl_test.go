package main

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// TestECHWithOpenSSL: OpenSSL 4 is the client, the upstream of the real name, and the upstream of the
// public name. The OpenSSL of Debian 12 and 13 has no Encrypted ClientHello. So only "make test-openssl"
// runs this test: it fetches OpenSSL 4 from Debian experimental, and sets HEADGATE_OPENSSL to its path.
func TestECHWithOpenSSL(t *testing.T) {
	openssl := os.Getenv("HEADGATE_OPENSSL")
	if openssl == "" {
		t.Skip("make test-openssl fetches the OpenSSL that this test needs")
	}
	t.Setenv("OPENSSL_CONF", os.DevNull) // the file of the system is for another version

	ca := authorityFile(t)
	keys := t.TempDir()
	opensslKey := filepath.Join(keys, "openssl.pem")
	out, err := command(t, "", openssl, "ech", "-public_name", "public.test", "-out", opensslKey)
	require.NoError(t, err, out)
	list, keyFile := echConfig(t, keys)

	secret, secretP384 := tlsState(t, "secret.test"), tlsState(t, "p384.test", tls.CurveP384)
	public := tlsState(t, "public.test")
	opensslSecret := sServer(t, openssl, "openssl.test")
	opensslP384 := sServer(t, openssl, "openssl-p384.test", "-groups", "P-384")
	p := start(t, "-ech-keys", keys, "-hosts", hostsFile(t, "secret.test", secret, "p384.test", secretP384, "public.test", public,
		"openssl.test", opensslSecret, "openssl-p384.test", opensslP384))

	// visit connects with s_client, and returns what s_client and the upstream print.
	visit := func(t *testing.T, host string, args ...string) string {
		t.Helper()
		args = append([]string{"s_client", "-connect", p.tls, "-servername", host, "-CAfile", ca, "-verify_return_error", "-ign_eof"}, args...)
		out, _ := command(t, "GET / HTTP/1.0\r\n\r\n", openssl, args...)
		return out
	}
	// Without -tls1_3, s_client of OpenSSL 4.0 offers TLS 1.2 in the inner hello too, and the router must
	// reject this (RFC 9849 section 7.1).
	encrypted := func(list []byte, args ...string) []string {
		return append([]string{"-tls1_3", "-ech_config_list", base64.StdEncoding.EncodeToString(list)}, args...)
	}

	for name, c := range map[string]struct {
		host string
		args []string
		want []string // lines of the upstream
	}{
		"client":                               {"secret.test", encrypted(list), []string{"name=secret.test HelloRetryRequest=false"}},
		"client, HelloRetryRequest for P-384":  {"p384.test", encrypted(list), []string{"name=p384.test HelloRetryRequest=true"}},
		"client, HelloRetryRequest after X448": {"secret.test", encrypted(list, "-groups", "X448:P-384"), []string{"name=secret.test HelloRetryRequest=true"}},
		"client with a key of openssl ech":     {"secret.test", encrypted(readConfigList(t, opensslKey)), []string{"name=secret.test HelloRetryRequest=false"}},
		"upstream":                             {"openssl.test", encrypted(list), []string{"ECH acting as backend"}},
		"upstream, HelloRetryRequest":          {"openssl-p384.test", encrypted(list), []string{"ECH acting as backend", "Shared groups: secp384r1"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := visit(t, c.host, c.args...)
			require.Contains(t, out, "ECH: success: 1\nECH: inner: "+c.host+"\nECH: outer: public.test\n")
			require.Contains(t, out, "Verification: OK")
			for _, want := range c.want {
				require.Contains(t, out, want+"\n")
			}
		})
	}

	// The handshake succeeds only if the upstream gets the hello that the client has sent.
	t.Run("GREASE", func(t *testing.T) {
		out := visit(t, "public.test", "-ech_grease")
		require.Contains(t, out, "ECH: GREASE")
		require.Contains(t, out, "Verification: OK")
		require.Contains(t, out, "name=public.test HelloRetryRequest=false")
		// The config_id is random. If a key has the same config_id, the result is "failed".
		line := regexp.MustCompile(` name=public\.test .* ech=true ech_result=(grease|failed) `)
		p.eventually(func() bool { return line.MatchString(p.stderr.String()) })
	})

	t.Run("upstream of the public name", func(t *testing.T) {
		p := start(t, "-ech-keys", keys, "-hosts", hostsFile(t, "secret.test", secret,
			"public.test", sServer(t, openssl, "public.test", "-ech_key", keyFile)))
		old, _ := echConfig(t, t.TempDir())
		conf := &tls.Config{ServerName: "secret.test", RootCAs: theAuthority().Pool(), EncryptedClientHelloConfigList: old}
		_, err := tls.Dial("tcp", p.tls, conf)
		var rejected *tls.ECHRejectionError
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, list, rejected.RetryConfigList)

		conf.EncryptedClientHelloConfigList = rejected.RetryConfigList
		c, err := tls.Dial("tcp", p.tls, conf)
		require.NoError(t, err)
		defer c.Close()
		require.True(t, c.ConnectionState().ECHAccepted)
	})
}

// tlsState is a tlsServer with a certificate for a host. Without curves, it accepts the groups of
// crypto/tls.
func tlsState(t *testing.T, host string, curves ...tls.CurveID) (addr string) {
	t.Helper()
	return tlsServer(t, &tls.Config{Certificates: []tls.Certificate{theAuthority().Issue(host).TLS}, CurvePreferences: curves})
}

// tlsServer is a server of crypto/tls. Its page shows the host of the ClientHello, and whether the
// server has sent a HelloRetryRequest. The server closes each connection after one answer, so that
// the log of the router has a line for the connection.
func tlsServer(t *testing.T, conf *tls.Config) (addr string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprintf(w, "name=%s HelloRetryRequest=%v\n", r.TLS.ServerName, r.TLS.HelloRetryRequest)
	}))
	srv.TLS = conf
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// sServer runs "openssl s_server" with a certificate for a host. Its page shows the state of TLS.
func sServer(t *testing.T, openssl, host string, args ...string) (addr string) {
	t.Helper()
	cert := theAuthority().Issue(host)
	file := filepath.Join(t.TempDir(), "site.pem")
	require.NoError(t, os.WriteFile(file, append(cert.PEM(), cert.KeyPEM()...), 0o600))
	cmd := exec.Command(openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file, "-www"}, args...)...)
	output := &clitest.Output{}
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &process{t: t, stderr: output}
	p.eventually(func() bool {
		addr = p.logged("ACCEPT ", "\n")
		return addr != ""
	})
	return addr
}

// readConfigList returns the ECHConfigList of a key file.
func readConfigList(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		require.NotNil(t, block, "%s has no block ECHCONFIG", file)
		if block.Type == "ECHCONFIG" {
			return block.Bytes
		}
	}
}
