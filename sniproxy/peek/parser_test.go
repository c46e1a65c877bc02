package peek_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

func TestDetect(t *testing.T) {
	for b, want := range map[string]peek.Protocol{
		"\x16\x03":             peek.TLS,
		"\x16\x03\x01\x02":     peek.TLS,
		"\x80\x2e\x01\x03\x01": peek.TLS,
		"\x80\x2e\x01\x00\x02": peek.TLS,
		"GET ":                 peek.HTTP1,
		"get /":                peek.HTTP1,
		"PRIME /":              peek.HTTP1,
		"PR /":                 peek.HTTP1,
		"M-SEARCH * ":          peek.HTTP1,
		"UPDATEREDIRECTREF / ": peek.HTTP1,
		"\r\nGET ":             peek.HTTP1,
		"\n\r\n\nGET ":         peek.HTTP1,
		"PRI ":                 peek.HTTP2,
		"PRI * HTTP/2.0\r\n":   peek.HTTP2,
	} {
		got, err := peek.Detect([]byte(b))
		require.NoError(t, err, "%q", b)
		require.Equal(t, want, got, "%q", b)
	}
	for _, b := range []string{"", "\x16", "\x80", "\x80\x2e", "\x80\x2e\x01", "\x80\x2e\x01\x03", "G", "GET", "PRI", "UPDATEREDIRECTREF", "\r", "\n", "\r\n", "\r\n\r", "\r\nPRI"} {
		_, err := peek.Detect([]byte(b))
		require.ErrorIs(t, err, peek.ErrNeedMore, "%q", b)
	}
	for _, b := range []string{
		"\x16\x02", "\x15\x03\x01", "\x00", " ", "\r\r\n", "\r\n ", "\r\n\x16\x03", "\r\nPRI ", "GET\t", "SSH-2.0-OpenSSH", "1", "\x80\x2e\x02",
		"\x80\x2e\x01\x04", "\x80\x2e\x01\x00\x03", "\xc3\x28\xa0\xa1", "ABCDEFGHIJKLMNOPQRSTUVWXYZ ", "\x03\x00\x00\x13",
	} {
		_, err := peek.Detect([]byte(b))
		require.ErrorIs(t, err, peek.ErrNotTLS, "%q", b)
		require.ErrorIs(t, err, peek.ErrNotHTTP, "%q", b)
		checkPrefixes(t, []byte(b), nil, func(t testing.TB, b []byte) (answer, error) {
			p, err := peek.Detect(b)
			return answer{kind(t, err), p.String(), 0}, err
		})
	}
}

func TestProtocolString(t *testing.T) {
	require.Equal(t, "tls http/1 h2c unknown tls|h2c", fmt.Sprint(peek.TLS, peek.HTTP1, peek.HTTP2, peek.Protocol(0), peek.TLS|peek.HTTP2))
}

func TestParserAccepts(t *testing.T) {
	hello := hellotest.Hello{Name: "A.example."}.Wire()
	request := []byte(head("GET / HTTP/1.1", "Host: A.example:80"))
	h2c := h2().headers(get(":authority", "A.example:80")).Bytes()
	for _, c := range []struct {
		accept peek.Protocol
		b      []byte
		speaks peek.Protocol
		err    error
		not    error
	}{
		{0, hello, peek.TLS, nil, nil},
		{0, request, peek.HTTP1, nil, nil},
		{0, h2c, peek.HTTP2, nil, nil},
		{peek.TLS, hello, peek.TLS, nil, nil},
		{peek.TLS, request, peek.HTTP1, peek.ErrNotTLS, peek.ErrNotHTTP},
		{peek.HTTP1, request, peek.HTTP1, nil, nil},
		{peek.HTTP1, hello, peek.TLS, peek.ErrNotHTTP, peek.ErrNotTLS},
		{peek.HTTP1, h2c, peek.HTTP2, peek.ErrNotHTTP, peek.ErrNotTLS},
		{peek.HTTP1 | peek.HTTP2, h2c, peek.HTTP2, nil, nil},
		{peek.TLS | peek.HTTP1, h2c, peek.HTTP2, peek.ErrNotHTTP, peek.ErrMalformed},
		{peek.TLS | peek.HTTP1, h2c, peek.HTTP2, peek.ErrNotTLS, peek.ErrMalformed},
		{0, []byte("SSH-2.0-x"), 0, peek.ErrNotTLS, peek.ErrMalformed},
		{peek.TLS, []byte("SSH-2.0-x"), 0, peek.ErrNotTLS, peek.ErrNotHTTP},
		{0, append([]byte("\r\n"), request...), peek.HTTP1, nil, nil},
		{peek.TLS | peek.HTTP2, []byte("\n"), 0, peek.ErrNotHTTP, peek.ErrMalformed},
		{peek.TLS, []byte("\r"), 0, peek.ErrNotTLS, peek.ErrNotHTTP},
		{peek.HTTP1 | peek.HTTP2, []byte("SSH-2.0-x"), 0, peek.ErrNotHTTP, peek.ErrNotTLS},
	} {
		t.Run(fmt.Sprintf("%v of %v", c.speaks, c.accept), func(t *testing.T) {
			p := peek.Parser{Accept: c.accept}
			r, err := p.Parse(c.b)
			require.Equal(t, c.speaks, r.Protocol)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				require.NotErrorIs(t, err, c.not)
				require.Empty(t, r.Name)
			} else {
				require.NoError(t, err)
				require.Equal(t, "a.example", r.Name)
			}
			checkPrefixes(t, c.b, nil, func(t testing.TB, b []byte) (answer, error) {
				return parserAnswer(t, &peek.Parser{Accept: c.accept}, b)
			})
		})
	}
}

// A log can show the name that the client sent, although the result is an error.
func TestResultWithAnError(t *testing.T) {
	var p peek.Parser
	r, err := p.Parse(hellotest.Hello{Name: "192.0.2.1", ALPN: []string{"h2"}}.Wire())
	require.ErrorIs(t, err, peek.ErrIPLiteral)
	require.Equal(t, "192.0.2.1", r.RawName)
	require.Empty(t, r.Name)
	require.True(t, r.Hello.OffersALPN("h2"))

	p = peek.Parser{}
	r, err = p.Parse(hellotest.Hello{ALPN: []string{"h2"}}.Wire())
	require.Equal(t, peek.ErrNoName, err)
	require.Equal(t, peek.TLS, r.Protocol)
	require.True(t, r.Hello.OffersALPN("h2"))

	p = peek.Parser{}
	r, err = p.Parse([]byte(head("HEAD / HTTP/1.1", "Host: a b")))
	require.ErrorIs(t, err, peek.ErrInvalidName)
	require.Equal(t, "a b", r.RawName)
	require.Equal(t, "HEAD", r.Request.Method)

	p = peek.Parser{}
	r, err = p.Parse([]byte(head("HEAD / HTTP/1.0")))
	require.Equal(t, peek.ErrNoName, err)
	require.Equal(t, "HEAD", r.Request.Method)

	p = peek.Parser{}
	r, err = p.Parse([]byte("GET / HT"))
	require.ErrorIs(t, err, peek.ErrNeedMore)
	require.Equal(t, peek.HTTP1, r.Protocol)
}

func TestParserBound(t *testing.T) {
	for _, b := range [][]byte{
		hellotest.Hello{Name: "a.example", Pad: 500}.Wire(),
		[]byte(head("GET / HTTP/1.1", "Host: a.example", "X: "+string(make([]byte, 0, 500)))),
		h2().headers(get(":authority", "a.example")).Bytes(),
	} {
		whole, _ := parserAnswer(t, new(peek.Parser), b)
		require.Equal(t, "ok", whole.kind)
		for limit := 1; limit < len(b); limit++ {
			got, _ := parserAnswer(t, &peek.Parser{MaxBytes: limit}, b)
			require.Equal(t, peek.ErrTooLarge.Error(), got.kind, "%d of %d bytes", limit, len(b))
			got, _ = parserAnswer(t, &peek.Parser{MaxBytes: limit}, b[:limit])
			require.Equal(t, peek.ErrTooLarge.Error(), got.kind, "%d of %d bytes", limit, len(b))
		}
		got, _ := parserAnswer(t, &peek.Parser{MaxBytes: len(b)}, b)
		require.Equal(t, whole, got)
	}
}
