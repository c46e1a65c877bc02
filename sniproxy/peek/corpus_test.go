package peek_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

// capture is the expected result for a file in testdata.
type capture struct {
	file     string
	protocol peek.Protocol
	name     string // in normal form
	raw      string // "" means the same as name
	method   string
	alpn     []string
	max      uint16
	quantum  bool // a post-quantum key share
	ech      bool
	records  int // the least number of records
}

var captures = []capture{
	{file: "go-default", protocol: peek.TLS, name: "go.example", max: 0x0304, quantum: true},
	{file: "go-alpn", protocol: peek.TLS, name: "go.example", max: 0x0304, quantum: true, alpn: []string{"h2", "http/1.1"}},
	{file: "go-classical", protocol: peek.TLS, name: "go.example", max: 0x0304},
	{file: "go-tls12", protocol: peek.TLS, name: "go.example", max: 0x0303},
	{file: "go-noname", protocol: peek.TLS, max: 0x0304, quantum: true},
	{file: "go-20k", protocol: peek.TLS, name: "large.go.example", max: 0x0304, quantum: true, records: 2},
	{file: "go-ech", protocol: peek.TLS, name: "public.go.example", max: 0x0304, quantum: true, ech: true},
	{file: "openssl-default", protocol: peek.TLS, name: "openssl.example", max: 0x0304},
	{file: "openssl-alpn", protocol: peek.TLS, name: "openssl.example", max: 0x0304, alpn: []string{"h2", "http/1.1"}},
	{file: "openssl-tls12", protocol: peek.TLS, name: "openssl.example", max: 0x0303},
	{file: "openssl-tls10", protocol: peek.TLS, name: "openssl.example", max: 0x0301},
	{file: "openssl-noname", protocol: peek.TLS, max: 0x0304},
	{file: "openssl-fragments", protocol: peek.TLS, name: "fragments.openssl.example", max: 0x0304, records: 8},
	{file: "curl-h2", protocol: peek.TLS, name: "curl.example", max: 0x0304, alpn: []string{"h2", "http/1.1"}},
	{file: "curl-http11", protocol: peek.TLS, name: "curl.example", max: 0x0304, alpn: []string{"http/1.1"}},
	{file: "curl-tls12", protocol: peek.TLS, name: "curl.example", max: 0x0303, alpn: []string{"h2", "http/1.1"}},
	{file: "wget", protocol: peek.TLS, name: "localhost", max: 0x0304},
	{file: "chromium", protocol: peek.TLS, name: "chromium.example", max: 0x0304, quantum: true, ech: true, alpn: []string{"h2", "http/1.1"}},
	{file: "curl-http1", protocol: peek.HTTP1, name: "curl.example", method: "GET"},
	{file: "curl-proxied", protocol: peek.HTTP1, name: "curl.example", method: "GET"},
	{file: "curl-connect", protocol: peek.HTTP1, name: "curl.example", raw: "curl.example:443", method: "CONNECT"},
	{file: "curl-h2c", protocol: peek.HTTP2, name: "curl.example", method: "GET"},
	{file: "go-h2c", protocol: peek.HTTP2, name: "go.example", raw: "Go.Example:8080", method: "POST"},
	{file: "chromium-http", protocol: peek.HTTP1, name: "chromium.example", method: "GET"},
}

func (c capture) read(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", c.file+".bin"))
	require.NoError(t, err)
	return b
}

func captured(t testing.TB, file string) []byte { return capture{file: file}.read(t) }

func TestCaptures(t *testing.T) {
	for _, want := range captures {
		t.Run(want.file, func(t *testing.T) {
			var p peek.Parser
			b := want.read(t)
			got, err := p.Parse(b)
			require.Equal(t, want.protocol, got.Protocol)
			if want.name == "" {
				require.ErrorIs(t, err, peek.ErrNoName)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, want.name, got.Name)
			switch {
			case want.raw != "":
				require.Equal(t, want.raw, got.RawName)
			case want.protocol == peek.TLS:
				require.Equal(t, want.name, got.RawName)
			default:
				host, _, _ := strings.Cut(got.RawName, ":")
				require.True(t, strings.EqualFold(want.name, host), got.RawName)
			}
			if want.protocol != peek.TLS {
				require.Equal(t, want.method, got.Request.Method)
				require.LessOrEqual(t, got.Request.Len, len(b))
				return
			}
			h := got.Hello
			require.Equal(t, len(b), h.Len)
			require.Equal(t, want.max, h.MaxVersion())
			require.Equal(t, want.quantum, h.PostQuantum())
			require.Equal(t, want.ech, h.ECH)
			require.False(t, h.SSLv2)
			if want.alpn != nil {
				require.Equal(t, want.alpn, alpn(h))
				require.True(t, h.OffersALPN("http/1.1"))
			}
			require.False(t, h.OffersALPN("acme-tls/1"))
			_, rest, err := hellotest.Message(b)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.GreaterOrEqual(t, countRecords(b), max(want.records, 1))
		})
	}
}

// TestCapturesAreComplete checks that the list of captures has each file in testdata, and no other
// file.
func TestCapturesAreComplete(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bin")
	require.NoError(t, err)
	var got, want []string
	for _, f := range files {
		got = append(got, strings.TrimSuffix(filepath.Base(f), ".bin"))
	}
	for _, c := range captures {
		want = append(want, c.file)
	}
	require.ElementsMatch(t, want, got)
}

func alpn(h peek.ClientHello) []string {
	var list []string
	for p := range h.ALPN() {
		list = append(list, string(p))
	}
	return list
}

func countRecords(wire []byte) (n int) {
	for len(wire) >= 5 {
		wire = wire[min(5+int(wire[3])<<8+int(wire[4]), len(wire)):]
		n++
	}
	return n
}

// answer is the part of a result that must be the same for each way to cut the bytes into segments.
type answer struct {
	kind string
	name string
	n    int // Len
}

// kinds lists the kinds of errors. The three kinds that also match ErrInvalidName come before
// ErrInvalidName.
var kinds = []error{
	peek.ErrNeedMore, peek.ErrNoName, peek.ErrTooLarge, peek.ErrMalformed,
	peek.ErrIPLiteral, peek.ErrControlCharacter, peek.ErrNameTooLong, peek.ErrInvalidName,
	peek.ErrNotTLS, peek.ErrNotHTTP,
}

func kind(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return "ok"
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			var typed *peek.Error
			if !errors.As(err, &typed) {
				_, more := err.(peek.NeedMore)
				require.True(t, more || err == peek.ErrNoName, "%#v", err)
			}
			return k.Error()
		}
	}
	t.Fatalf("an error of no kind: %v", err)
	return ""
}

func tlsAnswer(t testing.TB, b []byte) (answer, error) {
	h, err := peek.ParseClientHello(b)
	return answer{kind(t, err), h.ServerName, h.Len}, err
}

func http1Answer(t testing.TB, b []byte) (answer, error) {
	r, err := peek.ParseHTTP1(b)
	return answer{kind(t, err), r.Host, r.Len}, err
}

func http2Answer(t testing.TB, b []byte) (answer, error) {
	r, err := peek.ParseHTTP2(b)
	return answer{kind(t, err), r.Host, r.Len}, err
}

func parserAnswer(t testing.TB, p *peek.Parser, b []byte) (answer, error) {
	r, err := p.Parse(b)
	return answer{kind(t, err), r.Name, r.Hello.Len + r.Request.Len}, err
}

// checkPrefixes parses prefixes of b. The result for each prefix must be NeedMore or the result for
// the whole b. If NeedMore for a shorter prefix has demanded more bytes than a prefix has, the
// result for this prefix must be neither a name nor ErrNoName. lengths are the lengths of the
// prefixes; nil means all.
func checkPrefixes(t testing.TB, b []byte, lengths []int, parse func(testing.TB, []byte) (answer, error)) {
	t.Helper()
	whole, _ := parse(t, b)
	if lengths == nil {
		for n := range len(b) + 1 {
			lengths = append(lengths, n)
		}
	}
	slices.Sort(lengths)
	least := 0 // the least length of a final result
	for _, n := range lengths {
		got, err := parse(t, b[:n:n])
		if more, ok := err.(peek.NeedMore); ok {
			if more <= 0 {
				t.Fatalf("NeedMore(%d)", int(more))
			}
			least = max(least, n+int(more))
			continue
		}
		if got != whole {
			t.Fatalf("after %d of %d bytes of %.100q: %v, and after all: %v", n, len(b), b, got, whole)
		}
		if n < least && (got.kind == "ok" || got.kind == peek.ErrNoName.Error()) {
			t.Fatalf("an answer after %d bytes, when NeedMore said %d", n, least)
		}
	}
}

func TestPrefixesOfCaptures(t *testing.T) {
	for _, c := range captures {
		t.Run(c.file, func(t *testing.T) {
			b := c.read(t)
			var lengths []int
			if len(b) > 5000 { // every seventh length, and all near the ends of records
				for n := 0; n < len(b); n += 7 {
					lengths = append(lengths, n)
				}
				for n := range 40 {
					lengths = append(lengths, n, 16384+5-20+n, len(b)-n)
				}
			}
			parse := map[peek.Protocol]func(testing.TB, []byte) (answer, error){
				peek.TLS: tlsAnswer, peek.HTTP1: http1Answer, peek.HTTP2: http2Answer,
			}[c.protocol]
			checkPrefixes(t, b, lengths, parse)
			checkPrefixes(t, b, lengths, func(t testing.TB, b []byte) (answer, error) {
				return parserAnswer(t, new(peek.Parser), b)
			})
		})
	}
}

// The test calls one Parser after each segment. Each result must be the result of a new Parser, for
// all sizes of segments, and even if the bytes are in another array at each call.
func TestSegmentsOfCaptures(t *testing.T) {
	for _, c := range captures {
		b := c.read(t)
		want, _ := parserAnswer(t, new(peek.Parser), b)
		for _, size := range []int{1, 2, 3, 5, 100, 1460, 16389} {
			var p peek.Parser
			for n := 0; ; {
				n = min(n+size, len(b))
				in := b[:n:n]
				if len(b) < 5000 {
					in = slices.Clone(in)
				}
				got, err := parserAnswer(t, &p, in)
				if _, more := err.(peek.NeedMore); more && n < len(b) {
					continue
				}
				require.Equal(t, want, got, "%s in segments of %d", c.file, size)
				again, _ := parserAnswer(t, &p, b)
				require.Equal(t, want, again, "asked again")
				break
			}
		}
	}
}

// The result is the same for each way to cut the message into records.
func TestRecordsOfCaptures(t *testing.T) {
	for _, c := range captures {
		if c.protocol != peek.TLS {
			continue
		}
		b := c.read(t)
		want, wantErr := peek.ParseClientHello(b)
		for _, sizes := range [][]int{{1}, {1, 16384}, {2, 3, 100}, {3, 16384}, {4, 16384}, {5, 16384}, {43, 1, 16384}, {100}, {1000}, nil} {
			wire, err := hellotest.Rerecord(b, sizes...)
			require.NoError(t, err)
			got, err := peek.ParseClientHello(wire)
			if len(wire) > peek.MaxBytes {
				require.ErrorIs(t, err, peek.ErrTooLarge, "%s in records of %v", c.file, sizes)
				continue
			}
			require.Equal(t, wantErr, err, "%s in records of %v", c.file, sizes)
			require.Equal(t, len(wire), got.Len)
			got.Len = want.Len
			require.Equal(t, want, got, "%s in records of %v", c.file, sizes)
			if len(wire) < 3000 {
				checkPrefixes(t, wire, nil, tlsAnswer)
			}
		}
	}
}
