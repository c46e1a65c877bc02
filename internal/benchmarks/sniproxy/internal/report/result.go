// Package report makes tables of measurements. Its functions depend only on their arguments.
package report

import (
	"cmp"
	"slices"
	"strings"
)

// Metric names one figure of a point.
type Metric string

// These are the names of the figures in a Point. Processor times and memory are totals of all
// processes of the router.
const (
	Ready         Metric = "ready_ms"                   // from the start of the process to the first right answer
	Memory        Metric = "pss_mib"                    // after the first connections have ended
	ConnCPU       Metric = "cpu_us_per_connection"      // each connection gets an answer of 1 KiB, and the backend closes it
	ConnUser      Metric = "user_us_per_connection"     // the part of ConnCPU outside the kernel
	ConnRate      Metric = "connections_per_second"     // the rate of this load; the router may be able to do more
	ConnCount     Metric = "connections"                // number of measured connections
	RoundTripCPU  Metric = "cpu_us_per_round_trip"      // 64 bytes in each direction
	RoundTripP50  Metric = "round_trip_p50_us"          //
	RoundTripP99  Metric = "round_trip_p99_us"          //
	BulkCPU       Metric = "cpu_s_per_gib"              // from the backend to the client
	BulkRate      Metric = "gib_per_second"             //
	IdleRSS       Metric = "rss_kib_per_idle"           // a connection that has carried traffic and stays open
	IdleFiles     Metric = "descriptors_per_idle"       //
	IdleCPU       Metric = "idle_cpu_ms_per_second"     // while all open connections are idle
	LeftFiles     Metric = "descriptors_left_per_close" // descriptors still open 2 s after the client has closed, for each connection
	OthersPercent Metric = "others_percent"             // share of the router's processor that other programs used
)

// Point contains the measurements of one router in one round, at one Size.
type Point struct {
	Round int `json:"round"`
	Size
	Figures map[Metric]float64 `json:"figures"`
	// Problem is the reason why figures are missing. It is "" if none are missing.
	Problem string `json:"problem,omitempty"`
}

// Router is a row of the table: all measurements of one router.
type Router struct {
	Name    string  `json:"name"`
	Role    string  `json:"role"` // "peer", "baseline" or "ours"
	Version string  `json:"version,omitempty"`
	Points  []Point `json:"points"`
}

// Title returns the name of the router with its version.
func (r Router) Title() string { return strings.TrimSpace(r.Name + " " + r.Version) }

// Size is the number of processors of a router, the number of its open connections, and the number
// of host names that the router knows.
type Size struct {
	Cores int `json:"cores"`
	Open  int `json:"open"`
	Hosts int `json:"hosts"`
}

// Sizes are the sizes at which a run measures each router.
type Sizes struct {
	Base      Size `json:"base"`       // few connections, few names
	Idle      Size `json:"idle"`       // enough connections to measure the memory of one
	ManyOpen  Size `json:"many_open"`  // many connections, few names
	ManyHosts Size `json:"many_hosts"` // few connections, many names
}

// Run describes how a command has measured routers, and contains all measurements.
type Run struct {
	Command  string   `json:"command"`
	Machine  string   `json:"machine"`
	Settings string   `json:"settings"`
	Routers  []Router `json:"routers"`
}

// Result is the outcome of a run that compares routers at the same sizes.
type Result struct {
	Run
	Sizes
}

// At returns the median and the range of the figure m at the size s, over all rounds.
func (r Router) At(s Size, m Metric) Spread { return SpreadOf(r.values(s, m)) }

// values returns the figure m at the size s of all rounds that have this figure.
func (r Router) values(s Size, m Metric) (values []float64) {
	for _, p := range r.Points {
		if v, ok := p.Figures[m]; ok && p.Size == s {
			values = append(values, v)
		}
	}
	return values
}

// Best returns the lowest median of the figure m at the size s among the peers. ok is false if no
// peer has a value for this figure.
func (r Run) Best(s Size, m Metric) (best float64, ok bool) {
	for _, router := range r.Routers {
		at := router.At(s, m)
		if router.Role == "peer" && at.N > 0 && (!ok || at.Median < best) {
			best, ok = at.Median, true
		}
	}
	return best, ok
}

// Complete reports whether no figure is missing.
func (r Run) Complete() bool {
	for _, router := range r.Routers {
		for _, p := range router.Points {
			if p.Problem != "" {
				return false
			}
		}
	}
	return len(r.Routers) > 0
}

// Spread summarizes repeated measurements.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// SpreadOf returns the median and the range of values. Without values, it returns the zero Spread.
// The median of an even number of values is the mean of the two values in the middle.
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

// Quantile returns the smallest value v for which at least a share q of all values are at most v
// (nearest rank). Without values, it returns 0. It sorts the values.
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
