package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// echConfig runs "snirouter ech-config", and returns the ECHConfigList and the path of the key file.
func echConfig(t *testing.T, dir string) (list []byte, file string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), cli.Invocation{Args: []string{"ech-config", "-public-name", "public.test", "-out", dir}, Stdout: &stdout, Stderr: &stderr})
	require.Equal(t, cli.ExitOK, code, stderr.String())
	list, err := base64.StdEncoding.DecodeString(strings.TrimSpace(stdout.String()))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(stderr.String(), "wrote ")
	require.True(t, ok)
	file, _, _ = strings.Cut(rest, ";")
	return list, file
}

// A browser with the ECHConfigList of ech-config reaches the inner name. Keys change without a
// restart.
func TestECH(t *testing.T) {
	secret, public := newSite(t, "secret", "secret.test"), newSite(t, "public", "public.test")
	dir := t.TempDir()
	first, firstFile := echConfig(t, dir)
	p := start(t, "-hosts", hostsFile(t, "secret.test", secret.tls, "public.test", public.tls), "-ech-keys", dir)
	p.metric("headgate_router_ech_keys 1")
	visit := func(list []byte) string {
		_, body := get(client(t, p.tls, &tls.Config{RootCAs: theAuthority().Pool(), EncryptedClientHelloConfigList: list}), "https://secret.test/")
		return body
	}
	require.Contains(t, visit(first), "secret says HTTP/2.0")
	p.metric(`headgate_router_ech_total{result="accepted"} 1`)
	p.eventually(func() bool {
		return strings.Contains(p.stderr.String(), " name=secret.test ") && strings.Contains(p.stderr.String(), " ech=true ech_result=accepted ")
	})

	second, _ := echConfig(t, dir)
	p.metric("headgate_router_ech_keys 2")
	require.Contains(t, visit(first), "secret says")
	require.Contains(t, visit(second), "secret says")

	require.NoError(t, os.Remove(firstFile))
	p.metric("headgate_router_ech_keys 1")
	require.Contains(t, visit(first), "server rejected ECH")
	require.Contains(t, visit(second), "secret says")
	p.metric(`headgate_router_ech_total{result="grease"} 1`)
	p.metric(`headgate_router_ech_total{result="accepted"} 4`)

	wrong := filepath.Join(dir, "wrong.pem")
	require.NoError(t, os.WriteFile(wrong, []byte("not a key"), 0o600))
	p.metric("headgate_router_ech_keys_failed 1")
	require.Contains(t, visit(second), "secret says")
	require.NoError(t, os.Remove(wrong))
	p.metric("headgate_router_ech_keys_failed 0")
}

// Without -ech-keys, the router does not look into the hello, and has no metrics of ECH.
func TestNoECH(t *testing.T) {
	public := newSite(t, "public", "public.test")
	list, _ := echConfig(t, t.TempDir())
	p := start(t, "-hosts", hostsFile(t, "public.test", public.tls))
	_, body := get(client(t, p.tls, &tls.Config{RootCAs: theAuthority().Pool(), EncryptedClientHelloConfigList: list}), "https://secret.test/")
	require.Contains(t, body, "server rejected ECH")
	_, metrics := p.ask(http.MethodGet, "/metrics")
	require.NotContains(t, metrics, "ech_")
	p.eventually(func() bool { return strings.Contains(p.stderr.String(), " ech=true ") })
	require.NotContains(t, p.stderr.String(), "ech_result")
}

func TestECHErrors(t *testing.T) {
	empty := t.TempDir()
	wrong := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(wrong, "a.pem"), []byte("not a key"), 0o600))
	router := func(dir string) []string {
		return []string{"-default", "10.0.0.1:80", "-tls", "127.0.0.1:0", "-ech-keys", dir}
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no keys":           {router(empty), cli.ExitFailed, "the directory has no key"},
		"no directory":      {router(filepath.Join(empty, "none")), cli.ExitFailed, "no such file"},
		"wrong file":        {router(wrong), cli.ExitFailed, "a.pem"},
		"no listener":       {[]string{"-default", "10.0.0.1:80", "-http", "127.0.0.1:0", "-ech-keys", empty}, cli.ExitUsage, "-ech-keys is for -tls"},
		"nothing given":     {[]string{"ech-config"}, cli.ExitUsage, "-out and -public-name are needed"},
		"long names":        {[]string{"ech-config", "-out", empty, "-public-name", "a.test", "-max-name-length", "256"}, cli.ExitUsage, "want 0 to 255"},
		"wrong public name": {[]string{"ech-config", "-out", empty, "-public-name", "127.0.0.1"}, cli.ExitFailed, "public name"},
		"wrong directory":   {[]string{"ech-config", "-out", wrong, "-public-name", "a.test"}, cli.ExitFailed, "a.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			stderr := &clitest.Output{}
			require.Equal(t, tt.code, run(t.Context(), cli.Invocation{Args: tt.args, Stdout: stderr, Stderr: stderr}), stderr)
			require.Contains(t, stderr.String(), tt.want)
		})
	}
}
