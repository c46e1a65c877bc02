package sniproxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/peek"
)

// Clients of crypto/tls and net/http reach their backend, for each way to cut the hello into
// records and segments, with and without PROXY headers.
func TestGoClients(t *testing.T) {
	versions := map[string]*tls.Config{
		"TLS 1.2":               {MaxVersion: tls.VersionTLS12},
		"TLS 1.3":               {MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}},
		"TLS 1.3, post-quantum": {MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}},
		"20 KB":                 {NextProtos: longALPN(20_000)},
	}
	cuts := map[string]hellotest.Cuts{
		"whole":                 {},
		"segments of one byte":  {Segment: 1},
		"two records":           {Records: []int{100, 16384}},
		"records of one byte":   {Records: []int{1}},
		"one byte, two records": {Records: []int{50, 16384}, Segment: 1},
	}
	headers := map[string]string{
		"":         "",
		"PROXY v1": "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n",
		"PROXY v2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x04\xd2\x01\xbb",
	}
	eachEngine(t, func(t *testing.T, e engine) {
		a := newTLSBackend(t, "a.example", "*.example")
		r := newRouter(t, e, hosts{"a.example": a.addr}, func(s *sniproxy.Server) { s.ProxyFrom = loopback })
		front := r.serve(0)
		for version, conf := range versions {
			for cut, cuts := range cuts {
				for header, bytes := range headers {
					t.Run(fmt.Sprint(version, ", ", cut, " ", header), func(t *testing.T) {
						if len(conf.NextProtos) > 0 && len(cuts.Records) == 1 {
							cuts.Records = []int{10} // smaller records would exceed 64 KiB with their headers
						}
						c := dial(t, front)
						_, err := c.Write([]byte(bytes))
						require.NoError(t, err)
						conf := conf.Clone()
						conf.ServerName = "a.example"
						require.Equal(t, "a.example: hi", tlsTalkOver(t, &gathering{Conn: hellotest.Cut(c, cuts)}, conf, "hi"))
						st := r.next()
						require.Equal(t, "a.example", st.Name)
						if header != "" {
							require.Equal(t, "192.0.2.7:1234", st.Client.String())
							require.True(t, st.Peer.Addr().IsLoopback())
						}
					})
				}
			}
		}
	})
}

// gathering writes the hello in one piece, even if crypto/tls sends it in two records.
type gathering struct {
	net.Conn
	hello []byte
	whole bool
}

func (g *gathering) Write(b []byte) (int, error) {
	if g.whole {
		return g.Conn.Write(b)
	}
	g.hello = append(g.hello, b...)
	if _, _, err := hellotest.Message(g.hello); err != nil {
		return len(b), nil
	}
	g.whole = true
	if _, err := g.Conn.Write(g.hello); err != nil {
		return 0, err
	}
	return len(b), nil
}

// longALPN returns a list of protocols with a total size of about n bytes. The backend supports one
// of these protocols.
func longALPN(n int) []string {
	list := []string{"http/1.1"}
	for ; n > 0; n -= 200 {
		list = append(list, strings.Repeat("x", 199))
	}
	return list
}

// tool returns the path of a program that a test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "this test runs %s; install it with: apt-get install %s", name, name)
	return path
}

// run runs a program to its end and returns its output.
func run(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func caFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, ca().PEM(), 0o600))
	return path
}

func TestOpenSSL(t *testing.T) {
	a := newTLSBackend(t, "a.example")
	r := newRouter(t, native, hosts{"a.example": a.addr})
	front, file := r.serve(peek.TLS), caFile(t)
	client := func(args ...string) (string, error) {
		return run(t, "hello\n", "openssl", append([]string{
			"s_client", "-connect", front, "-CAfile", file, "-verify_return_error", "-brief", "-ign_eof",
		}, args...)...)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			// s_client ends when the server closes. The server waits for a close_notify, which
			// s_client sends at the end of its input only with -ign_eof.
			out, err := run(t, "hello\n", "openssl", "s_client", "-connect", front, "-CAfile", file,
				"-verify_return_error", "-quiet", "-no_ign_eof", "-servername", "a.example", version)
			require.NoError(t, err, out)
			require.Contains(t, out, "verify return:1")
			require.Equal(t, "a.example", r.next().Name)
		})
	}
	for name, tt := range map[string]struct {
		args []string
		says string
		want sniproxy.Stats
	}{
		"unknown host":          {[]string{"-servername", "none.example"}, "unrecognized name", sniproxy.Stats{Name: "none.example", Answer: 112}},
		"unknown host, 1.2":     {[]string{"-servername", "none.example", "-tls1_2"}, "unrecognized name", sniproxy.Stats{Name: "none.example", Answer: 112}},
		"no name":               {[]string{"-noservername"}, "missing extension", sniproxy.Stats{Answer: 109}},
		"no name, 1.2":          {[]string{"-noservername", "-tls1_2"}, "unrecognized name", sniproxy.Stats{Answer: 112}},
		"address as a name":     {[]string{"-servername", "192.0.2.1"}, "unrecognized name", sniproxy.Stats{Answer: 112}},
		"name in upper letters": {[]string{"-servername", "NONE.example"}, "unrecognized name", sniproxy.Stats{Name: "none.example", Answer: 112}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := client(tt.args...)
			require.Error(t, err, out)
			require.Contains(t, out, tt.says)
			st := r.next()
			require.Equal(t, tt.want.Name, st.Name)
			require.Equal(t, tt.want.Answer, st.Answer)
			require.Error(t, st.Err)
		})
	}
}

func TestCurl(t *testing.T) {
	a := newHTTPSBackend(t, "a.example")
	plain := newHTTPBackend(t)
	r := newRouter(t, native, hosts{"a.example": a.addr, "plain.example": plain.addr})
	front, file := r.serve(0), caFile(t) // TLS and HTTP on one port
	port := front[strings.LastIndexByte(front, ':')+1:]
	curl := func(url string, args ...string) (string, error) {
		url = strings.Replace(url, ".example/", ".example:"+port+"/", 1)
		return run(t, "", "curl", append([]string{
			"--silent", "--show-error", "--cacert", file, "--noproxy", "*", "--connect-to", "::" + front, url,
		}, args...)...)
	}
	for name, tt := range map[string]struct {
		url  string
		args []string
		want string
	}{
		"HTTP/1.1 in TLS":     {"https://a.example/x", []string{"--http1.1"}, "HTTP/1.1 a.example /x"},
		"HTTP/2 in TLS":       {"https://a.example/x", []string{"--http2"}, "HTTP/2.0 a.example /x"},
		"HTTP/1.1 in clear":   {"http://plain.example/y", nil, "HTTP/1.1 plain.example /y"},
		"HTTP/2 in clear":     {"http://plain.example/y", []string{"--http2-prior-knowledge"}, "HTTP/2.0 plain.example /y"},
		"upgrade to HTTP/2":   {"http://plain.example/y", []string{"--http2"}, "plain.example /y"},
		"unknown":             {"http://none.example/y", nil, "404 Not Found"},
		"unknown, HTTP/2":     {"http://none.example/y", []string{"--http2-prior-knowledge"}, "404 Not Found"},
		"unknown, large POST": {"http://none.example/y", []string{"--data-binary", "@" + bigFile(t)}, "404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := curl(tt.url, tt.args...)
			for began := time.Now(); err != nil && name == "unknown, large POST" && time.Since(began) < patience; {
				out, err = curl(tt.url, tt.args...) // the router waits only 2 s for the end of the upload
			}
			require.NoError(t, err, out)
			require.Contains(t, strings.ReplaceAll(out, ":"+port, ""), tt.want)
		})
	}
	out, err := curl("https://none.example/")
	require.Error(t, err)
	require.Contains(t, out, "unrecognized name")
}

func bigFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(path, make([]byte, 8_000_000), 0o600))
	return path
}

// listenLocal listens on loopback.
func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}
