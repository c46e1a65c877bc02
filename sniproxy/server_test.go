package sniproxy_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
)

func TestTLSReachesTheBackendOfItsName(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		a, b := newTLSBackend(t, "a.example"), newTLSBackend(t, "b.example")
		r := newRouter(t, e, hosts{"a.example": a.addr, "b.example": b.addr})
		front := r.serve(peek.TLS)
		for _, name := range []string{"a.example", "b.example", "A.Example"} {
			require.Equal(t, strings.ToLower(name)+": hello", tlsTalk(t, front, &tls.Config{ServerName: name}, "hello"))
			st := r.next()
			require.Equal(t, strings.ToLower(name), st.Name)
			require.NoError(t, st.Err)
		}
	})
}

func TestHTTPUnknownHostGetsAPage(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{})
		front := r.serve(peek.HTTP1 | peek.HTTP2)
		req, err := http.NewRequest("GET", "http://"+front, nil)
		require.NoError(t, err)
		req.Host = "unknown.example"
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 404, resp.StatusCode)
		require.Contains(t, string(body), "unknown.example")
	})
}
