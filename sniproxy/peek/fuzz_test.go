package peek_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

var update = flag.Bool("update", false, "write the seeds of the fuzz targets")

// addCaptures adds the captures of a protocol as seeds. It leaves out large captures, because the
// fuzzer would spend its time on making them smaller.
func addCaptures(f *testing.F, protocol peek.Protocol, more ...any) {
	for _, c := range captures {
		if b := c.read(f); len(b) < 2000 && c.protocol&protocol != 0 {
			f.Add(append([]any{b, []byte{0, 100, 3}}, more...)...)
		}
	}
}

// prefixesNear returns lengths of prefixes to test. A short input gets all lengths. A long input
// gets the lengths near both ends, and some lengths that the bytes in cuts select.
func prefixesNear(b, cuts []byte) []int {
	if len(b) <= 120 {
		return nil
	}
	lengths := []int{}
	for n := range 12 {
		lengths = append(lengths, n, n*len(b)/12, len(b)-n)
	}
	n := 0
	for _, c := range cuts[:min(len(cuts), 32)] {
		n = min(n+1+int(c), len(b))
		lengths = append(lengths, n)
	}
	return lengths
}

// checkSegments calls one Parser after each segment, and checks that each result is the result of a
// new Parser.
func checkSegments(t *testing.T, b, cuts []byte, accept peek.Protocol) {
	t.Helper()
	p := peek.Parser{Accept: accept}
	whole, _ := parserAnswer(t, &peek.Parser{Accept: accept}, b)
	for n, i := 0, 0; n < len(b); i++ {
		step := 1 + len(b)/50
		if i < len(cuts) {
			step = 1 + int(cuts[i])
		}
		n = min(n+step, len(b))
		got, err := parserAnswer(t, &p, b[:n:n])
		if _, more := err.(peek.NeedMore); !more || n == len(b) {
			require.Equal(t, whole, got, "after %d bytes", n)
			return
		}
	}
}

func FuzzClientHello(f *testing.F) {
	addCaptures(f, peek.TLS)
	f.Fuzz(func(t *testing.T, wire, cuts []byte) {
		got, err := tlsAnswer(t, wire)
		agreeWithTLS(t, wire)
		checkPrefixes(t, wire, prefixesNear(wire, cuts), tlsAnswer)
		checkSegments(t, wire, cuts, peek.TLS)

		// If the same message is in other records, the result has the same name, or the error is
		// ErrTooLarge.
		msg, _, split := hellotest.Message(wire)
		if split != nil || len(msg) == 0 {
			return
		}
		sizes := []int{1 + len(msg)/2}
		for _, c := range cuts[:min(len(cuts), 32)] {
			sizes = append(sizes, 1+int(c))
		}
		other, otherErr := tlsAnswer(t, hellotest.Records(msg, append(sizes, 16384)...))
		switch {
		case errors.Is(err, peek.ErrTooLarge), errors.Is(otherErr, peek.ErrTooLarge):
		case err == nil || err == peek.ErrNoName:
			require.Equal(t, got.name, other.name)
			require.Equal(t, got.kind, other.kind)
		case otherErr == nil:
			// The error was in the headers of the records.
			require.Empty(t, got.name)
		}
	})
}

func FuzzHTTP1(f *testing.F) {
	addCaptures(f, peek.HTTP1)
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		agreeWithHTTP(t, b)
		checkPrefixes(t, b, prefixesNear(b, cuts), http1Answer)
		checkSegments(t, b, cuts, peek.HTTP1)
	})
}

func FuzzHTTP2(f *testing.F) {
	addCaptures(f, peek.HTTP2)
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		agreeWithHTTP2(t, b)
		checkPrefixes(t, b, prefixesNear(b, cuts), http2Answer)
		checkSegments(t, b, cuts, peek.HTTP2)
	})
}

// FuzzParser parses any bytes with all protocols accepted.
func FuzzParser(f *testing.F) {
	addCaptures(f, peek.TLS|peek.HTTP1|peek.HTTP2, uint16(300))
	f.Fuzz(func(t *testing.T, b, cuts []byte, limit uint16) {
		var p peek.Parser
		r, err := p.Parse(b)
		checkSegments(t, b, cuts, 0)
		checkPrefixes(t, b, prefixesNear(b, cuts), func(t testing.TB, b []byte) (answer, error) {
			return parserAnswer(t, new(peek.Parser), b)
		})
		if err == nil {
			checkName(t, r.Name)
			again, err := peek.NormalizeHost(r.Name)
			require.NoError(t, err)
			require.Equal(t, r.Name, again)
		} else {
			require.Empty(t, r.Name)
		}
		if _, more := err.(peek.NeedMore); more {
			return
		}
		// With a lower MaxBytes, the result is the same, or the error is ErrTooLarge. If Accept
		// does not have the protocol, the Parser returns an error.
		want, _ := parserAnswer(t, new(peek.Parser), b)
		bounded, _ := parserAnswer(t, &peek.Parser{MaxBytes: 1 + int(limit)}, b)
		if bounded.kind != peek.ErrTooLarge.Error() {
			require.Equal(t, want, bounded)
		}
		if r.Protocol != 0 {
			p := peek.Parser{Accept: (peek.TLS | peek.HTTP1 | peek.HTTP2) &^ r.Protocol}
			refused, err := p.Parse(b)
			require.Error(t, err)
			require.Empty(t, refused.Name)
			require.True(t, errors.Is(err, peek.ErrNotTLS) || errors.Is(err, peek.ErrNotHTTP))
		}
	})
}

// checkName checks the rules for a name in normal form.
func checkName(t testing.TB, name string) {
	t.Helper()
	require.NotEmpty(t, name)
	require.LessOrEqual(t, len(name), 253)
	for label := range strings.SplitSeq(name, ".") {
		require.Regexp(t, `^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`, label)
	}
	require.NotRegexp(t, `(^|\.)(0x[0-9a-f]*|[0-9]+)$`, name)
}

func FuzzNormalizeHost(f *testing.F) {
	f.Add("A.Example.:80")
	f.Fuzz(func(t *testing.T, host string) {
		sni, sniErr := peek.NormalizeServerName(host)
		kind(t, sniErr)
		got, err := peek.NormalizeHost(host)
		kind(t, err)
		if sniErr == nil { // a server name is also a host, with the same normal form
			require.NoError(t, err)
			require.Equal(t, got, sni)
		}
		if err != nil {
			require.ErrorIs(t, err, peek.ErrInvalidName)
			require.Empty(t, got)
			return
		}
		checkName(t, got)
		ascii := !slices.ContainsFunc([]byte(host), func(c byte) bool { return c >= 0x80 })
		for _, same := range []string{got, got + ".", got + ":443", strings.ToUpper(got) + ".:1"} {
			again, err := peek.NormalizeHost(same)
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
		if ascii {
			require.True(t, strings.EqualFold(got, host[:len(got)]), "%q of %q", got, host)
		}
	})
}

// seeds returns inputs that some router has once parsed wrongly, or that are difficult to parse.
func seeds() map[string]map[string][]any {
	wire := func(h hellotest.Hello, sizes ...int) []any { return []any{h.Wire(sizes...), []byte{0}} }
	a := hellotest.Hello{Name: "a.example"}
	http1 := func(s string) []any { return []any{[]byte(s), []byte{1, 0, 7}} }
	frames := func(s *stream) []any { return []any{s.Bytes(), []byte{8, 0, 7}} }
	ssl2 := append([]byte{0x80, 34, 1, 3, 1, 0, 9, 0, 0, 0, 16}, make([]byte, 25)...)
	return map[string]map[string][]any{
		"FuzzClientHello": {
			"records-of-one-byte": wire(a, 1),
			"header-split":        wire(a, 3, 16384),
			"name-split":          wire(a, 60, 16384),
			"trailing-dot":        wire(hellotest.Hello{Name: "A.example."}),
			"nul-in-name":         wire(hellotest.Hello{Name: "a.example\x00.evil"}),
			"address":             wire(hellotest.Hello{Name: "::1"}),
			"name-of-300-bytes":   wire(hellotest.Hello{Name: strings.Repeat("a.", 150)}),
			"two-server-names":    wire(hellotest.Hello{Name: "a.example", Extensions: []hellotest.Extension{{Body: []byte{0, 4, 0, 0, 1, 'b'}}}}),
			"list-overruns":       wire(hellotest.Hello{Extensions: []hellotest.Extension{{Body: []byte{0, 255, 0, 0, 1, 'b'}}}}),
			"everything":          wire(hellotest.Hello{Name: "a.example", ALPN: []string{"h2"}, Versions: []uint16{0x304}, KeyShares: []uint16{0x11ec}, ECH: true}),
			"truncated":           {a.Wire()[:40], []byte{9}},
			"claims-16-mib":       {[]byte{22, 3, 1, 0, 4, 1, 255, 255, 255}, []byte{}},
			"empty-record":        {[]byte{22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 0}, []byte{}},
			"sslv2":               {ssl2, []byte{0}},
		},
		"FuzzHTTP1": {
			"two-hosts":       http1(head("GET / HTTP/1.1", "Host: a.example", "Host: b.example")),
			"folded":          http1(head("GET / HTTP/1.1", "Host:", " a.example")),
			"space-colon":     http1(head("GET / HTTP/1.1", "Host : a.example")),
			"absolute-form":   http1(head("GET http://a.example:80/ HTTP/1.1", "Host: A.example")),
			"absolute-other":  http1(head("GET http://a.example/ HTTP/1.1", "Host: b.example")),
			"user-info":       http1(head("GET http://a.example@b.example/ HTTP/1.0")),
			"connect":         http1(head("CONNECT a.example:443 HTTP/1.1", "Host: a.example:443")),
			"bare-lf":         http1("GET / HTTP/1.1\nHost: a.example\n\n"),
			"mixed-line-ends": http1("GET / HTTP/1.1\r\nX: y\nHost: a.example\r\n\r\n"),
			"bare-cr":         http1(head("GET / HTTP/1.1", "X: y\rHost: b.example", "Host: a.example")),
			"http10":          http1(head("GET / HTTP/1.0")),
			"address":         http1(head("GET / HTTP/1.1", "Host: [::1]:80")),
			"blank-line":      http1("\r\n" + head("GET / HTTP/1.1", "Host: a.example")),
			"blank-lines":     http1("\n\r\n\n" + head("GET / HTTP/1.1", "Host: a.example")),
			"blank-cr":        http1("\r" + head("GET / HTTP/1.1", "Host: a.example")),
		},
		"FuzzHTTP2": {
			"plain":            frames(h2().headers(get(":authority", "a.example"))),
			"continued":        frames(continued(get(":authority", "a.example"), 3)),
			"padded-priority":  frames(h2().headers(get(":authority", "a.example"), padded)),
			"host-alone":       frames(h2().headers(get("host", "a.example"))),
			"two-authorities":  frames(h2().headers(get(":authority", "a.example", ":authority", "b.example"))),
			"host-disagrees":   frames(h2().headers(get(":authority", "a.example", "host", "b.example"))),
			"padding-beyond":   frames(h2().raw(1, 4|8, 1, 9, 0x82)),
			"window-of-one":    frames(h2().raw(8, 0, 0, 0, 0, 0, 1).headers(get(":authority", "a.example"))),
			"data-before":      frames(h2().raw(0, 1, 1).headers(get(":authority", "a.example"))),
			"list-of-indices":  frames(h2().headers(append(get(":authority", "a.example", "x", strings.Repeat("y", 300)), bytes.Repeat([]byte{0xbe}, 400)...))),
			"only-the-preface": {[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte{}},
		},
		"FuzzParser": {
			"ssh-banner":     {[]byte("SSH-2.0-OpenSSH_9.2\r\n"), []byte{1}, uint16(10)},
			"proxy-protocol": {[]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), []byte{1}, uint16(20)},
			"rdp":            {[]byte("\x03\x00\x00\x13\x0e\xe0\x00\x00"), []byte{}, uint16(4)},
			"tls-alert":      {[]byte("\x15\x03\x01\x00\x02\x01\x00"), []byte{}, uint16(4)},
			"bounded":        {a.Wire(), []byte{5}, uint16(30)},
			"blank-lines":    {[]byte("\r\n\n" + head("GET / HTTP/1.1", "Host: a.example")), []byte{0, 0, 0, 0}, uint16(3)},
			"blank-h2c":      {append([]byte("\r\n"), h2().headers(get(":authority", "a.example")).Bytes()...), []byte{1}, uint16(9)},
			"blank-tls":      {append([]byte("\r\n"), a.Wire()...), []byte{1}, uint16(9)},
			"proxy-v2":       {[]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), []byte{1}, uint16(9)},
		},
		"FuzzNormalizeHost": {
			"port-and-dot":    {"A.Example.:443"},
			"idna":            {"BÜCHER.example"},
			"fullwidth-dots":  {"ｅｘａｍｐｌｅ．ｃｏｍ。"},
			"not-utf8":        {"a\xff.example"},
			"fullwidth-ipv4":  {"１２７.0.0.1"},
			"ipv6":            {"[fe80::1%25eth0]:80"},
			"nul":             {"a.example\x00.evil"},
			"underscore":      {"_acme-challenge.a_b.example"},
			"hex-last-label":  {"a.0x7F"},
			"label-of-64":     {strings.Repeat("a", 64) + ".example"},
			"name-of-254":     {strings.Repeat("a.", 126) + "ab"},
			"joiner":          {"a\u200db.example"},
			"right-to-left":   {"אב1.example"},
			"empty-a-label":   {"xn--.example"},
			"sharp-s-is-kept": {"faß.example"},
		},
	}
}

// The files in testdata/fuzz must contain the inputs of the function seeds. The flag -update writes
// these files.
func TestSeeds(t *testing.T) {
	for target, inputs := range seeds() {
		dir := filepath.Join("testdata", "fuzz", target)
		for name, values := range inputs {
			text := "go test fuzz v1\n"
			for _, v := range values {
				switch v := v.(type) {
				case []byte:
					text += "[]byte(" + strconv.Quote(string(v)) + ")\n"
				default:
					text += fmt.Sprintf("%T(%#v)\n", v, v)
				}
			}
			path := filepath.Join(dir, name)
			if *update {
				require.NoError(t, os.MkdirAll(dir, 0o755))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			}
			got, err := os.ReadFile(path)
			require.NoError(t, err, "go test -run TestSeeds -update writes it")
			require.Equal(t, text, string(got), path)
		}
	}
}
