package peek_test

import (
	"testing"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

// hellos returns typical hellos: with and without a post-quantum key share, in one record and in
// several.
func hellos(b *testing.B) []struct {
	name string
	wire []byte
} {
	two, err := hellotest.Rerecord(captured(b, "chromium"), 700)
	if err != nil {
		b.Fatal(err)
	}
	return []struct {
		name string
		wire []byte
	}{
		{"curl", captured(b, "curl-h2")},
		{"go-classical", captured(b, "go-classical")},
		{"go-pq", captured(b, "go-alpn")},
		{"chromium", captured(b, "chromium")},
		{"chromium-in-records-of-700", two},
		{"go-20k", captured(b, "go-20k")},
	}
}

func BenchmarkParseClientHello(b *testing.B) {
	for _, h := range hellos(b) {
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(h.wire)))
			for b.Loop() {
				if _, err := peek.ParseClientHello(h.wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCryptoTLS reads the same hellos with a server of crypto/tls that stops after the hello.
// A router without its own parser works in this way.
func BenchmarkCryptoTLS(b *testing.B) {
	for _, h := range hellos(b) {
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(h.wire)))
			for b.Loop() {
				if cryptoTLS(h.wire) == nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkParser does all parsing that a router needs for a connection: it detects the protocol,
// parses the first bytes, and normalizes the name.
func BenchmarkParser(b *testing.B) {
	for _, file := range []string{"chromium", "chromium-http", "curl-h2c"} {
		wire := captured(b, file)
		for name, segment := range map[string]int{"whole": len(wire), "by-byte": 1} {
			b.Run(file+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(wire)))
				for b.Loop() {
					var p peek.Parser
					var err error
					for n := segment; n <= len(wire); n += segment {
						if _, err = p.Parse(wire[:n]); err == nil {
							break
						}
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkParserSlowly is the worst case: 64 KiB in records of one byte, one byte at a time,
// without a name.
func BenchmarkParserSlowly(b *testing.B) {
	wire := hellotest.Hello{Name: "a.example", Pad: 10_900}.Wire(1)
	b.ReportAllocs()
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		var p peek.Parser
		for n := 1; n < len(wire); n++ {
			if _, err := p.Parse(wire[:n]); err == nil {
				b.Fatal("too early")
			}
		}
	}
}

func BenchmarkParseHTTP1(b *testing.B) {
	for _, file := range []string{"curl-http1", "chromium-http", "curl-proxied"} {
		head := captured(b, file)
		b.Run(file, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(head)))
			for b.Loop() {
				if _, err := peek.ParseHTTP1(head); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseHTTP2(b *testing.B) {
	for _, file := range []string{"curl-h2c", "go-h2c"} {
		wire := captured(b, file)
		b.Run(file, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				if _, err := peek.ParseHTTP2(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNormalizeHost(b *testing.B) {
	for name, host := range map[string]string{"normal": "www.shop.example.com", "upper-and-port": "WWW.Shop.Example.com.:8080", "idna": "bücher.example"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := peek.NormalizeHost(host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
