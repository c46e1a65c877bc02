package quic_test

import (
	"testing"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// BenchmarkRead reads all datagrams of a hello, or a datagram that does not belong to one.
func BenchmarkRead(b *testing.B) {
	garbage := file(b, "chromium-1")
	garbage[100] ^= 1
	for _, c := range []struct {
		name      string
		datagrams [][]byte
		complete  bool
	}{
		{"one-datagram", [][]byte{file(b, "rfc9001-a2-client")}, true},
		{"two-datagrams", [][]byte{file(b, "chromium-1"), file(b, "chromium-2")}, true},
		{"does-not-authenticate", [][]byte{garbage}, false},
		{"not-quic", [][]byte{make([]byte, 1200)}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var r quic.Reader
				var err error
				for _, d := range c.datagrams {
					_, err = r.Read(d)
				}
				if (err == nil) != c.complete {
					b.Fatal(err)
				}
			}
		})
	}
}
