package drill_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkStandard measures all standard drills: a cluster with 1,000 nodes in three zones, and
// 2,000 services with 20 nodes each.
func BenchmarkStandard(b *testing.B) {
	b.Run("nodes=1000/services=2000", func(b *testing.B) {
		r := newRunner(b, 1000, 2000, 20, nil)
		drills, err := r.Standard()
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			results, err := r.RunAll(b.Context(), drills, nil)
			require.NoError(b, err)
			require.Len(b, results, len(drills))
		}
		b.ReportMetric(float64(len(drills)), "drills")
	})
}
