package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// byteByByte sends each byte in a segment of its own.
type byteByByte struct{ net.Conn }

func (c byteByByte) Write(p []byte) (int, error) {
	for i := range p {
		if n, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(p), nil
}

func TestGoClient(t *testing.T) {
	a, b := newSite(t, "site a", "a.test"), newSite(t, "site b", "*.b.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls, "*.b.test", b.tls))

	many := []string{"http/1.1"}
	for i := range 100 {
		many = append(many, fmt.Sprintf("protocol-%d-%s", i, strings.Repeat("x", 190)))
	}
	tests := []struct {
		name, host, want string
		conf             *tls.Config
		slow             bool
	}{
		{"TLS 1.3 with a post-quantum group", "a.test", "site a", &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}, false},
		{"TLS 1.3", "x.b.test", "site b", &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}, false},
		{"TLS 1.2", "a.test", "site a", &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		{"capitals", "A.Test", "site a", &tls.Config{}, false},
		{"segments of a byte", "a.test", "site a", &tls.Config{}, true},
		{"20 KB in two records", "y.b.test", "site b", &tls.Config{NextProtos: many}, false},
	}
	for _, tt := range tests {
		for where, addr := range map[string]string{"": p.tls, " on the port of both": p.both} {
			t.Run(tt.name+where, func(t *testing.T) {
				conn, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				if tt.slow {
					conn = byteByByte{conn}
				}
				conf := tt.conf.Clone()
				conf.RootCAs, conf.ServerName = theAuthority().Pool(), tt.host
				c := tls.Client(conn, conf)
				defer c.Close()
				require.NoError(t, c.Handshake())
				fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", tt.host)
				require.Contains(t, readAll(t, c), tt.want+" says HTTP/1.1")
			})
		}
	}
	p.metric(`headgate_router_connections_total{outcome="relayed",protocol="tls"} 12`)
}

func TestPlainHTTP(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	api := newAPI(t, "a.test", a.http, "b.test", "127.0.0.1:1")
	p := start(t, "-api", api.template())
	for _, addr := range []string{p.http, p.both} {
		code, body := get(client(t, addr, nil), "http://a.test:81/")
		require.Equal(t, 200, code)
		require.Contains(t, body, "site a says HTTP/1.1")
		code, body = get(client(t, addr, nil), "http://b.test/")
		require.Equal(t, 502, code)
		require.Contains(t, body, "cannot be reached")
		code, body = get(client(t, addr, nil), "http://c.test/")
		require.Equal(t, 404, code)
		require.Contains(t, body, "c.test")
	}
	// A TLS client at the HTTP listener, and an HTTP client at the TLS listener.
	code, body := get(client(t, p.http, &tls.Config{}), "https://a.test/")
	require.Zero(t, code, body)
	code, body = get(client(t, p.tls, nil), "http://a.test/")
	require.NotEqual(t, 200, code, body)
}

func TestCurl(t *testing.T) {
	curl := tool(t, "curl", "curl")
	a, b := newSite(t, "site a", "a.test"), newSite(t, "site b", "b.test")
	secure := start(t, "-hosts", hostsFile(t, "a.test", a.tls, "b.test", b.tls))
	plain := start(t, "-hosts", hostsFile(t, "a.test", a.http, "b.test", b.http))
	ca := authorityFile(t)
	tests := []struct{ name, url, addr, flag, want string }{
		{"HTTP/1.1 over TLS", "https://a.test", secure.tls, "--http1.1", "site a says HTTP/1.1"},
		{"HTTP/2 over TLS", "https://b.test", secure.tls, "--http2", "site b says HTTP/2.0"},
		{"TLS 1.2", "https://b.test", secure.both, "--tls-max=1.2", "site b says HTTP/2.0"},
		{"HTTP/1.1", "http://a.test", plain.http, "--http1.1", "site a says HTTP/1.1"},
		{"HTTP/1.0", "http://a.test", plain.both, "--http1.0", "site a says HTTP/1.0"},
		{"HTTP/2 with prior knowledge", "http://b.test", plain.http, "--http2-prior-knowledge", "site b says HTTP/2.0"},
		{"unknown over TLS", "https://c.test", secure.tls, "--http2", "unrecognized name"},
		{"unknown", "http://c.test", plain.http, "--http1.1", "404 Not Found"},
		{"unknown in HTTP/2", "http://c.test", plain.http, "--http2-prior-knowledge", "404 Not Found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flag, value, valued := strings.Cut(tt.flag, "=")
			args := []string{"-sS", "--cacert", ca, "--connect-to", "::" + tt.addr, flag}
			if valued {
				args = append(args, value)
			}
			out, _ := command(t, "", curl, append(args, tt.url+"/")...)
			require.Contains(t, out, tt.want)
		})
	}
}

func TestOpenSSL(t *testing.T) {
	openssl := tool(t, "openssl", "openssl")
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.tls))
	ca := authorityFile(t)
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"TLS 1.3", []string{"-servername", "a.test", "-tls1_3"}, []string{"Verification: OK", "TLSv1.3", "site a says HTTP/1.1"}},
		{"TLS 1.2", []string{"-servername", "a.test", "-tls1_2"}, []string{"Verification: OK", "TLSv1.2", "site a says HTTP/1.1"}},
		{"several records", []string{"-servername", "a.test", "-max_send_frag", "512", "-alpn", "http/1.1," + strings.Repeat("x", 250) + "," + strings.Repeat("y", 250)}, []string{"Verification: OK", "site a says HTTP/1.1"}},
		{"unknown host", []string{"-servername", "c.test"}, []string{"unrecognized name", "SSL alert number 112"}},
		{"no name", []string{"-noservername", "-tls1_3"}, []string{"SSL alert number 109"}},
		{"no name in TLS 1.2", []string{"-noservername", "-tls1_2"}, []string{"SSL alert number 112"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"s_client", "-connect", p.tls, "-CAfile", ca, "-verify_return_error", "-ign_eof"}, tt.args...)
			out, _ := command(t, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", openssl, args...)
			for _, want := range tt.want {
				require.Contains(t, out, want)
			}
		})
	}
}

func TestUnknownTLS(t *testing.T) {
	a, lost := newSite(t, "site a", "a.test"), newSite(t, "lost and found", "c.test")
	hosts := hostsFile(t, "a.test", a.tls)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"alert", nil, "remote error: tls: unrecognized name"},
		{"close", []string{"-unknown-tls", "close"}, "EOF"},
		{"fallback", []string{"-unknown-tls", "fallback=" + lost.tls}, "lost and found says"},
		{"default", []string{"-default", lost.tls, "-unknown-tls", "close"}, "lost and found says"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, append([]string{"-hosts", hosts}, tt.args...)...)
			conf := &tls.Config{RootCAs: theAuthority().Pool()}
			_, body := get(client(t, p.tls, conf), "https://c.test/")
			require.Contains(t, body, tt.want)
			code, body := get(client(t, p.tls, conf), "https://a.test/")
			require.Equal(t, http.StatusOK, code, body)
		})
	}
}
