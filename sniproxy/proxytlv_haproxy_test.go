package sniproxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/sniproxy"
)

// hasTLVs reports whether this haproxy has the sample fetch fc_pp_tlv, which came with version 2.9.
func hasTLVs(t *testing.T, binary string) bool {
	out, err := exec.Command(binary, "-v").Output()
	require.NoError(t, err)
	var major, minor int
	_, err = fmt.Sscanf(string(out), "HAProxy version %d.%d", &major, &minor)
	require.NoError(t, err)
	return major > 2 || major == 2 && minor >= 9
}

// ask sends a request for the host and returns the body of the answer.
func ask(t *testing.T, c net.Conn, host string) string {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}

// TestHAProxyReadsTLVs: each HAProxy reads the host from the PROXY header, and HAProxy 2.9 and later
// also the application protocol.
func TestHAProxyReadsTLVs(t *testing.T) {
	for _, binary := range haproxytest.Binaries(t) {
		t.Run(filepath.Base(filepath.Dir(binary)), func(t *testing.T) {
			alpn := "-"
			if hasTLVs(t, binary) {
				alpn = "%[fc_pp_tlv(0x01)]"
			}
			dir := haproxytest.Dir(t)
			site := ca().Issue("a.example")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "site.pem"), append(site.PEM(), site.KeyPEM()...), 0o600))
			ports := haproxytest.Ports(t, 2)
			file := filepath.Join(dir, "haproxy.cfg")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `global
	ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
	mode http
	timeout client 30s
frontend f
	bind 127.0.0.1:%d accept-proxy
	bind 127.0.0.1:%d accept-proxy ssl crt %s/site.pem alpn http/1.1
	http-request return status 200 content-type text/plain lf-string "%%[fc_pp_authority] %s"
`, ports[0], ports[1], dir, alpn), 0o600))
			runServer(t, exec.Command(binary, "-db", "-f", file), ports)
			checkTLVs(t, ports[0], ports[1], func(protocol string) string {
				if alpn == "-" {
					return "a.example -"
				}
				return "a.example " + protocol
			})
		})
	}
}

// runServer runs a server until the end of the test, and waits until it listens on the ports.
func runServer(t *testing.T, command *exec.Cmd, ports []int) {
	t.Helper()
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	require.NoError(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for _, port := range ports {
		require.Eventually(t, func() bool {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		}, 30*time.Second, 10*time.Millisecond)
	}
}

// checkTLVs sends requests through routers to the two ports of a server, without and with TLS. The
// server must answer with the values that it has read from the PROXY header. The argument "want"
// returns this answer for an application protocol, which is "" if the header does not have it.
func checkTLVs(t *testing.T, plain, secure int, want func(protocol string) string) {
	t.Helper()
	set := func(s *sniproxy.Server) { s.ProxyOut, s.ProxyAuthority, s.ProxyALPN = 2, true, true }
	front := newRouter(t, native, hosts{"a.example": fmt.Sprintf("127.0.0.1:%d", plain)}, set).serve(0)
	require.Equal(t, want("http/1.1"), strings.TrimSuffix(ask(t, dial(t, front), "A.example."), "\n"))

	front = newRouter(t, native, hosts{"a.example": fmt.Sprintf("127.0.0.1:%d", secure)}, set).serve(0)
	for protocols, protocol := range map[string]string{"http/1.1": "http/1.1", "h2,http/1.1": "", "": ""} {
		conf := &tls.Config{ServerName: "a.example", RootCAs: ca().Pool()}
		if protocols != "" {
			conf.NextProtos = strings.Split(protocols, ",")
		}
		c := tls.Client(dial(t, front), conf)
		require.Equal(t, want(protocol), strings.TrimSuffix(ask(t, c, "a.example"), "\n"), protocols)
	}
}
