package kubeconn

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// A kubeconfig, and each file that it names, may be a FIFO or a huge file by mistake.
func TestLoadReadsWithinLimits(t *testing.T) {
	outside(t)
	dir := t.TempDir()
	fifo, huge := filepath.Join(dir, "fifo"), write(t, filepath.Join(dir, "huge"), "")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Truncate(huge, 1<<40))
	certificate := write(t, filepath.Join(dir, "certificate"), "")
	named := func(cluster, user string) string {
		text := strings.Replace(kubeconfig, "certificate-authority: ca.crt", cluster, 1)
		return write(t, filepath.Join(dir, "config"), strings.Replace(text, "token: secret", user, 1))
	}
	for file, want := range map[string]string{fifo: "a FIFO, not a regular file", huge: "1099511627776 bytes, and at most 1048576 are allowed"} {
		name := filepath.Base(file)
		for _, spec := range []string{
			file,
			named("certificate-authority: "+name, "token: secret"),
			named("", "tokenFile: "+name),
			named("", "client-certificate: "+name+", client-key: "+certificate),
			named("", "client-certificate: "+certificate+", client-key: "+name),
		} {
			_, err := Load(spec)
			require.ErrorContains(t, err, file+": "+want, spec)
			t.Setenv("KUBECONFIG", spec)
			_, err = Load("")
			require.ErrorContains(t, err, file+": "+want, spec)
		}
	}
}

// A request that fails because there is no token closes its body, as each http.RoundTripper must.
func TestNoTokenClosesTheBody(t *testing.T) {
	w := withToken{&fileToken{file: filepath.Join(t.TempDir(), "none")}, nil}
	body, other := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://eu-1.test", body)
	require.NoError(t, err)
	_, err = w.RoundTrip(r)
	require.ErrorContains(t, err, "token: ")
	_, err = other.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	r.Body = nil
	_, err = w.RoundTrip(r)
	require.ErrorContains(t, err, "token: ")
}

// Each request uses the present token in the file. If the file becomes a FIFO, requests use the
// last token.
func TestTokenIsReadAgain(t *testing.T) {
	outside(t)
	var tokens []string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
	}))
	defer srv.Close()
	dir := t.TempDir()
	token := write(t, filepath.Join(dir, "token"), "first\n")
	text := strings.NewReplacer("https://eu-1.test:6443", srv.URL, "certificate-authority: ca.crt", "insecure-skip-tls-verify: true", "token: secret", "tokenFile: token").Replace(kubeconfig)
	config, err := Load(write(t, filepath.Join(dir, "config"), text))
	require.NoError(t, err)
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	request := func() {
		resp, err := client.Get(srv.URL)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	request()
	write(t, token, "second")
	request()
	require.NoError(t, os.Remove(token))
	request()
	require.NoError(t, syscall.Mkfifo(token, 0o600))
	request()
	require.Equal(t, []string{"Bearer first", "Bearer second", "Bearer second", "Bearer second"}, tokens)
}
