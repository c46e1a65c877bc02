// Package report makes tables of what was measured: pure functions of values.
package report

import (
	"cmp"
	"slices"
)

// Spread is what repeated measurements of one thing gave.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// SpreadOf is the zero Spread for no values. The median of an even number of values is
// the mean of the two in the middle.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	median := v[mid]
	if len(v)%2 == 0 {
		median = (v[mid-1] + v[mid]) / 2
	}
	return Spread{Median: median, Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// Quantile is the smallest value that at least a share q of all values do not exceed
// (nearest rank), or 0 without values. It sorts them.
func Quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	rank := int(q * float64(len(values)))
	if float64(rank) < q*float64(len(values)) {
		rank++
	}
	return values[min(max(rank, 1), len(values))-1]
}
