package main

import (
	"fmt"
	"testing"
)

// BenchmarkNewRouter measures how long the router needs for its hosts when it starts.
func BenchmarkNewRouter(b *testing.B) {
	for _, n := range []int{20_000, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			hosts := make([]host, n)
			for i := range hosts {
				hosts[i] = host{Host: fmt.Sprintf("site-%06d.apps.example", i), Endpoint: "127.0.0.1:8080"}
			}
			for b.Loop() {
				newRouter(hosts)
			}
		})
	}
}
