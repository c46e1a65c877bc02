package report

// Metric names one figure of a point.
type Metric string

// What is measured at a point. Times of the router's processes are of all of them.
const (
	Ready         Metric = "ready_ms"                   // start of the process to the first right answer
	Memory        Metric = "pss_mib"                    // after the first connections, none open
	ConnCPU       Metric = "cpu_us_per_connection"      // 1 KiB answer, closed by the backend
	ConnUser      Metric = "user_us_per_connection"     // the part of it outside the kernel
	ConnRate      Metric = "connections_per_second"     // of the load, not the most that the router can do
	ConnCount     Metric = "connections"                // on which the figures rest
	RoundTripCPU  Metric = "cpu_us_per_round_trip"      // 64 bytes there and back
	RoundTripP50  Metric = "round_trip_p50_us"          //
	RoundTripP99  Metric = "round_trip_p99_us"          //
	BulkCPU       Metric = "cpu_s_per_gib"              // backend to client
	BulkRate      Metric = "gib_per_second"             //
	IdleRSS       Metric = "rss_kib_per_idle"           // a connection that has carried traffic and stays open
	IdleFiles     Metric = "descriptors_per_idle"       //
	LeftFiles     Metric = "descriptors_left_per_close" // still open 2 s after the client has closed, a connection
	OthersPercent Metric = "others_percent"             // of the router's core, used by anything but the router
)

// Point is what was measured of one router at one size.
type Point struct {
	Round   int                `json:"round"`
	Open    int                `json:"open"`
	Hosts   int                `json:"hosts"`
	Figures map[Metric]float64 `json:"figures"`
	// Problem says what kept further figures from being measured.
	Problem string `json:"problem,omitempty"`
}

// Router is a row: all points of one router.
type Router struct {
	Name    string  `json:"name"`
	Role    string  `json:"role"` // "peer", "baseline" or "ours"
	Version string  `json:"version,omitempty"`
	Points  []Point `json:"points"`
}

// Size is where to measure: connections held open and names known.
type Size struct {
	Open  int `json:"open"`
	Hosts int `json:"hosts"`
}

// Sizes are the points of a run.
type Sizes struct {
	Base      Size `json:"base"`       // few connections, few names
	Idle      Size `json:"idle"`       // enough connections to tell what one takes
	ManyOpen  Size `json:"many_open"`  // many connections, few names
	ManyHosts Size `json:"many_hosts"` // few connections, many names
}

// Result is a run.
type Result struct {
	Command  string `json:"command"`
	Machine  string `json:"machine"`
	Settings string `json:"settings"`
	Sizes
	Routers []Router `json:"routers"`
}

// At collects a figure at a size over all rounds.
func (r Router) At(s Size, m Metric) Spread {
	var values []float64
	for _, p := range r.Points {
		if v, ok := p.Figures[m]; ok && p.Open == s.Open && p.Hosts == s.Hosts {
			values = append(values, v)
		}
	}
	return SpreadOf(values)
}

// Best is the lowest median of a figure among the peers. Without a peer that has it, ok
// is false.
func (r Result) Best(s Size, m Metric) (best float64, ok bool) {
	for _, router := range r.Routers {
		at := router.At(s, m)
		if router.Role == "peer" && at.N > 0 && (!ok || at.Median < best) {
			best, ok = at.Median, true
		}
	}
	return best, ok
}

// Complete says whether all that was to be measured was.
func (r Result) Complete() bool {
	for _, router := range r.Routers {
		for _, p := range router.Points {
			if p.Problem != "" {
				return false
			}
		}
	}
	return len(r.Routers) > 0
}
