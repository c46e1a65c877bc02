package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func adminFlags(t *testing.T, args ...string) *AdminFlags {
	t.Helper()
	var f AdminFlags
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	f.Register(fs, "/metrics", "POST /drain")
	require.NoError(t, fs.Parse(args))
	return &f
}

// serveAdmin serves admin listeners with the flags. Their POST /drain prints "draining".
func serveAdmin(t *testing.T, f *AdminFlags) []net.Listener {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "draining ", r.URL.Query().Get("wait")) })
	admin := Admin{Extra: mux}
	listeners, err := f.Listen(t.Context(), &admin)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- admin.Serve(ctx, listeners...) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return listeners
}

func TestAdminFlags(t *testing.T) {
	socket, token := clitest.SocketPath(t), clitest.TokenFile(t)
	listeners := serveAdmin(t, adminFlags(t, "-admin", "127.0.0.1:0", "-admin", "unix:"+socket, "-admin-token-file", token))
	addrs := TCPAddrs(listeners)
	require.Len(t, addrs, 1)
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), addrs[0].Addr())
	tcp := addrs[0].String()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	ask := func(args ...string) (string, error) {
		var out strings.Builder
		err := adminFlags(t, args...).Ask(t.Context(), http.MethodPost, "/drain", url.Values{"wait": {"1s"}}, &out)
		return out.String(), err
	}
	for _, args := range [][]string{
		{"-admin", "unix:" + socket},
		{"-admin", tcp, "-admin", "unix:" + socket}, // of several, the socket
		{"-admin", tcp, "-admin-token-file", token},
		{"-admin", "", "-admin", tcp, "-admin-token-file", token},
	} {
		out, err := ask(args...)
		require.NoError(t, err, args)
		require.Equal(t, "draining 1s", out)
	}
	_, err := ask("-admin", tcp)
	require.ErrorContains(t, err, "/drain?wait=1s: 401 Unauthorized: this needs the token of -admin-token-file")
	_, err = ask()
	require.ErrorContains(t, err, "-admin is needed")
	_, err = ask("-admin", "here")
	require.Error(t, err)
	_, err = ask("-admin", tcp, "-admin-token-file", token+".gone")
	require.ErrorContains(t, err, "-admin-token-file")

	// The listener reads the token file again at each request.
	other := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(other, []byte("renewed"), 0o600))
	_, err = ask("-admin", tcp, "-admin-token-file", other)
	require.ErrorContains(t, err, "401")
	require.NoError(t, os.Rename(other, token))
	_, err = ask("-admin", tcp, "-admin-token-file", token)
	require.NoError(t, err)
}

func TestAdminWithoutTokenRefusesChanges(t *testing.T) {
	listeners := serveAdmin(t, adminFlags(t, "-admin", "127.0.0.1:0"))
	err := adminFlags(t, "-admin", listeners[0].Addr().String()).Ask(t.Context(), http.MethodPost, "/drain", nil, io.Discard)
	require.ErrorContains(t, err, "403 Forbidden: this needs the token of -admin-token-file, or a Unix socket")
}

func TestCurl(t *testing.T) {
	for want, args := range map[string][]string{
		"curl --unix-socket /run/s -X POST 'http://localhost/force?id=1'":                      {"-admin", ":9709", "-admin", "unix:/run/s", "-admin-token-file", "/t"},
		`curl -H "Authorization: Bearer $(cat /t)" -X POST 'http://127.0.0.1:9709/force?id=1'`: {"-admin", ":9709", "-admin-token-file", "/t"},
		"": {"-admin", ":9709"},
	} {
		require.Equal(t, want, adminFlags(t, args...).Curl(http.MethodPost, "/force?id=1"))
	}
}

func TestAdminSocket(t *testing.T) {
	path := clitest.SocketPath(t)
	l, err := listenUnix(path)
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, info.Mode())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else stays in the directory")
	_, err = listenUnix(path)
	require.ErrorContains(t, err, "another process listens on it")

	// The file of the socket stays after its process was killed.
	require.NoError(t, l.(*unixListener).UnixListener.Close())
	second, err := listenUnix(path)
	require.NoError(t, err)
	require.Equal(t, path, second.Addr().String())
	require.NoError(t, second.Close())
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err = listenUnix(path)
	require.ErrorContains(t, err, "is no socket")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))

	missing := filepath.Join(filepath.Dir(path), "none", "admin.sock")
	_, err = listenUnix(missing)
	require.ErrorContains(t, err, "the directory of the socket "+missing)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAdminFlagFaults(t *testing.T) {
	for _, addr := range []string{"here", "unix:", "unix:@abstract"} {
		require.Error(t, adminFlags(t, "-admin", addr).Check(), addr)
	}
	require.NoError(t, adminFlags(t, "-admin", ":9708", "-admin", "unix:/run/s", "-admin", "").Check())
	require.False(t, adminFlags(t, "-admin", "").Given())

	dir := t.TempDir()
	empty, fifo := filepath.Join(dir, "empty"), filepath.Join(dir, "fifo")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, []byte(strings.Repeat("x", maxToken+1)), 0o600))
	for _, file := range []string{empty, fifo, large, dir, filepath.Join(dir, "none")} {
		_, err := adminFlags(t, "-admin", "127.0.0.1:0", "-admin-token-file", file).Listen(t.Context(), &Admin{})
		require.ErrorContains(t, err, "-admin-token-file", file)
	}
}

func TestLocalAddress(t *testing.T) {
	for addr, want := range map[string]string{
		":9708": "127.0.0.1:9708", "0.0.0.0:9708": "127.0.0.1:9708", "[::]:9708": "[::1]:9708",
		"10.0.0.1:9708": "10.0.0.1:9708", "[2001:db8::1]:1": "[2001:db8::1]:1", "localhost:1": "localhost:1",
	} {
		got, err := LocalAddress(addr)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := LocalAddress("here")
	require.Error(t, err)
}
