package hostname

import "testing"

func BenchmarkNormalizeHost(b *testing.B) {
	for name, host := range map[string]string{
		"normal":         "www.shop.example.com",
		"upper-and-port": "WWW.Shop.Example.com.:8080",
		"idna":           "bücher.example",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NormalizeHost(host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
