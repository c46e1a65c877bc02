package fleet

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// BenchmarkPack measures the size of 10,000 held routes to 1,000 services.
func BenchmarkPack(b *testing.B) {
	list := make([]routes.Route, 10_000)
	for i := range list {
		list[i] = routes.Route{
			Host: fmt.Sprintf("h%d.example.com", i), Path: "/", Position: routes.Position{File: "routes.yaml", Line: 4 * i},
			Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "shop", Service: fmt.Sprintf("s%d", i%1000), Port: "http"}, Weight: 100}},
		}
	}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		packed, err := Pack(list)
		require.NoError(b, err)
		size = len(packed)
	}
	b.ReportMetric(float64(size), "packed-bytes")
}
