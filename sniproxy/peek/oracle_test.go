package peek_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

var errSeen = errors.New("seen")

// replay is a connection that returns fixed bytes and accepts none.
type replay struct {
	net.Conn
	r *bytes.Reader
}

func (c replay) Read(b []byte) (int, error)     { return c.r.Read(b) }
func (replay) Write(b []byte) (int, error)      { return len(b), nil }
func (replay) Close() error                     { return nil }
func (replay) RemoteAddr() net.Addr             { return nil }
func (replay) LocalAddr() net.Addr              { return nil }
func (replay) SetDeadline(time.Time) error      { return nil }
func (replay) SetWriteDeadline(time.Time) error { return nil }

// cryptoTLS returns the fields that crypto/tls reads from a hello. nil means that crypto/tls
// refuses the hello.
func cryptoTLS(wire []byte) *tls.ClientHelloInfo {
	var seen *tls.ClientHelloInfo
	conn := tls.Server(replay{r: bytes.NewReader(wire)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			seen = info
			return nil, errSeen
		},
	})
	_ = conn.HandshakeContext(context.Background())
	return seen
}

// exempt reports whether this package may refuse a hello that crypto/tls accepts.
func exempt(wire []byte) bool {
	for rest := wire; ; {
		if len(rest) < 5 {
			return true
		}
		if rest[0] != 22 || rest[1] != 3 { // warning alerts, other versions
			return true
		}
		n := 5 + int(rest[3])<<8 + int(rest[4])
		rest = rest[min(n, len(rest)):]
		used := len(wire) - len(rest)
		if _, _, err := hellotest.Message(wire[:used]); err == nil {
			return used > peek.MaxBytes
		}
	}
}

// agreeWithTLS checks that this package reads the same values from a hello as crypto/tls, if
// crypto/tls accepts the hello. This package also accepts some hellos that crypto/tls refuses: with
// a final dot in the name, or with errors in extensions that it does not read.
func agreeWithTLS(t testing.TB, wire []byte) {
	t.Helper()
	want := cryptoTLS(wire)
	if want == nil || exempt(wire) {
		return
	}
	got, err := peek.ParseClientHello(wire)
	if want.ServerName == "" {
		require.ErrorIs(t, err, peek.ErrNoName)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want.ServerName, got.ServerName)
	require.Equal(t, want.SupportedProtos, alpn(got))
	if versions := slices.Collect(got.SupportedVersions()); versions != nil {
		require.Equal(t, want.SupportedVersions, versions)
	}
	if slices.Contains(want.Extensions, 0xfe0d) != got.ECH {
		require.Contains(t, want.Extensions, uint16(0xfe0d)) // perhaps of the inner type
	}
}

func TestAgreesWithCryptoTLS(t *testing.T) {
	for _, c := range captures {
		if c.protocol != peek.TLS {
			continue
		}
		b := c.read(t)
		info := cryptoTLS(b)
		require.NotNil(t, info, c.file)
		require.Equal(t, c.name, info.ServerName)
		agreeWithTLS(t, b)
		for _, sizes := range [][]int{{1}, {3, 16384}, {100}} {
			if len(b) > 5000 && sizes[0] == 1 {
				continue // too slow with crypto/tls
			}
			wire, err := hellotest.Rerecord(b, sizes...)
			require.NoError(t, err)
			require.NotNil(t, cryptoTLS(wire))
			agreeWithTLS(t, wire)
		}
	}
}

// The test changes each byte of real hellos. crypto/tls and this package must never read two
// different names, and this package must accept each hello that crypto/tls accepts.
func TestMutatedHellosAgreeWithCryptoTLS(t *testing.T) {
	for _, file := range []string{"go-classical", "go-tls12", "openssl-alpn", "curl-h2", "chromium"} {
		b := captured(t, file)
		if len(b) > 1000 {
			b = b[:len(b):len(b)]
		}
		taken := 0
		for i := range b {
			if len(b) > 1000 && i > 400 && i%11 != 0 {
				continue // mostly bytes of keys
			}
			for _, mask := range []byte{0x01, 0x02, 0x80, 0xff} {
				wire := slices.Clone(b)
				wire[i] ^= mask
				if cryptoTLS(wire) != nil {
					taken++
				}
				agreeWithTLS(t, wire)
			}
		}
		require.Greater(t, taken, 100)
	}
}

// These are the documented differences between crypto/tls and this package.
func TestDifferencesFromCryptoTLS(t *testing.T) {
	plain := hellotest.Hello{Name: "a.example"}.Wire()
	version := slices.Clone(plain)
	version[1] = 2
	alert := []byte{21, 3, 1, 0, 2, 1, 100} // a warning alert, no_renegotiation
	for name, c := range map[string]struct {
		wire  []byte
		taken bool   // crypto/tls accepts the hello
		want  string // the result of this package
	}{
		"ordinary":                {plain, true, "ok"},
		"trailing dot":            {hellotest.Hello{Name: "a.example."}.Wire(), false, "ok"},
		"fault in another field":  {hellotest.Hello{Name: "a.example", Extensions: []hellotest.Extension{{Type: 13, Body: []byte{9}}}}.Wire(), false, "ok"},
		"record version 2":        {version, true, peek.ErrNotTLS.Error()},
		"warning before":          {slices.Concat(alert, plain), true, peek.ErrNotTLS.Error()},
		"warning within":          {slices.Concat(plain[:3], []byte{0, 10}, plain[5:15], alert, hellotest.Records(plain[15:])), true, peek.ErrMalformed.Error()},
		"64 KiB in tiny records":  {hellotest.Hello{Name: "a.example", Pad: 60_000}.Wire(10), true, peek.ErrTooLarge.Error()},
		"60 KiB in large records": {hellotest.Hello{Name: "a.example", Pad: 60_000}.Wire(), true, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.taken, cryptoTLS(c.wire) != nil)
			got, _ := tlsAnswer(t, c.wire)
			require.Equal(t, c.want, got.kind)
		})
	}
}

// agreeWithHTTP checks that this package and net/http read the same host, if both accept the
// request.
func agreeWithHTTP(t testing.TB, b []byte) {
	t.Helper()
	got, err := peek.ParseHTTP1(b)
	if err != nil && !errors.Is(err, peek.ErrNoName) {
		return
	}
	want, refused := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if refused != nil {
		return
	}
	require.Equal(t, want.Method, got.Method)
	if want.Host == got.Host {
		return
	}
	// net/url decodes percent signs in hosts. A name with a percent sign is never valid here.
	_, err = peek.NormalizeHost(got.Host)
	require.ErrorIs(t, err, peek.ErrInvalidName, "%q is not %q", got.Host, want.Host)
}

// agreeWithHTTP2 checks that this package and the framer of x/net/http2 read the same host.
func agreeWithHTTP2(t testing.TB, b []byte) {
	t.Helper()
	got, err := peek.ParseHTTP2(b)
	if err != nil && !errors.Is(err, peek.ErrNoName) {
		return
	}
	require.True(t, bytes.HasPrefix(b, []byte(http2.ClientPreface)))
	framer := http2.NewFramer(io.Discard, bytes.NewReader(b[len(http2.ClientPreface):]))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = peek.MaxBytes
	for {
		frame, refused := framer.ReadFrame()
		if refused != nil {
			return
		}
		headers, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		require.False(t, headers.Truncated)
		require.Equal(t, headers.PseudoValue("method"), got.Method)
		host := headers.PseudoValue("authority")
		for _, f := range headers.RegularFields() {
			if host == "" && f.Name == "host" {
				host = f.Value
			}
		}
		require.Equal(t, host, got.Host)
		return
	}
}
