package tophosts

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Metric is a property of a host.
type Metric uint8

// The metrics.
const (
	Connections Metric = iota // number of connections
	Failures                  // number of connections that failed
	Bytes                     // bytes in both directions
	Wait                      // nanoseconds until the connections had an upstream

	metrics = iota
)

// Counter counts the samples of hosts. The zero Counter is ready; set the fields before the first
// use. All methods are safe for concurrent use.
type Counter struct {
	// Size bounds the error and the memory; see the package documentation. 0 means 128. The Counter
	// has two generations of at most 8*Size records, each of about 150 bytes and the name of its
	// host.
	Size int
	// Window is the time after which a new generation begins; 0 means 5 minutes.
	Window time.Duration

	mu            sync.Mutex
	current, last *generation
	since         time.Time // start of the generation "last", or of "current" if "last" is empty
	begun         time.Time // start of the generation "current"
}

// Sample describes a connection that has ended.
type Sample struct {
	Host string
	// At is the time of the sample. Counter.Add begins a new generation if At is at least a Window
	// after the start of the present generation.
	At     time.Time
	Failed bool
	// Add adds Bytes and Wait to the values of the host. Negative values count as 0.
	Bytes int64
	Wait  time.Duration
}

// Host is the value of a Metric for one host. The Counter knows only bounds of this value: the true
// value is at least Least and at most Most.
type Host struct {
	Name        string
	Least, Most uint64
}

// Exact reports whether Least is the true value.
func (h Host) Exact() bool { return h.Least == h.Most }

// Add adds a sample.
func (c *Counter) Add(s Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || s.At.Sub(c.begun) >= c.window() {
		c.rotate(s.At)
	}
	r := c.current.record(s.Host)
	r.value[Connections]++
	if s.Failed {
		r.value[Failures]++
	}
	r.value[Bytes] += uint64(max(s.Bytes, 0))
	r.value[Wait] += uint64(max(s.Wait, 0))
}

func (c *Counter) window() time.Duration { return cmp.Or(c.Window, 5*time.Minute) }

// rotate begins a new generation at the time "now". Of its two generations, the Counter drops the
// older one, and the present generation becomes the older one. If the present generation began two
// Windows ago or earlier, rotate drops its records too.
func (c *Counter) rotate(now time.Time) {
	if c.current == nil {
		size := cmp.Or(max(c.Size, 0), 128)
		c.current, c.last = &generation{size: size}, &generation{size: size}
		c.since, c.begun = now, now
		return
	}
	c.current, c.last = c.last, c.current
	c.current.clear()
	c.since = c.begun
	if now.Sub(c.begun) >= 2*c.window() {
		c.last.clear()
		c.since = now
	}
	c.begun = now
}

// Since returns the start of the time that the results cover. It is the zero time before the first
// sample.
func (c *Counter) Since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

// Top returns the n hosts with the largest values of Host.Least, the largest first. It leaves out
// hosts whose Least is 0.
func (c *Counter) Top(m Metric, n int) []Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return nil
	}
	var hosts []Host
	for name := range c.current.records {
		if h := c.value(m, name); h.Least > 0 {
			hosts = append(hosts, h)
		}
	}
	for name := range c.last.records {
		if c.current.records[name] != nil {
			continue
		}
		if h := c.value(m, name); h.Least > 0 {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b Host) int {
		return cmp.Or(cmp.Compare(b.Least, a.Least), strings.Compare(a.Name, b.Name))
	})
	return hosts[:min(n, len(hosts))]
}

// Value returns the value of a Metric for one host.
func (c *Counter) Value(m Metric, host string) Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return Host{Name: host}
	}
	return c.value(m, host)
}

func (c *Counter) value(m Metric, host string) Host {
	h := Host{Name: host}
	for _, g := range []*generation{c.current, c.last} {
		if r := g.records[host]; r != nil {
			h.Least += r.value[m]
			h.Most += r.value[m] + r.missed[m]
		} else {
			h.Most += g.subtracted[m]
		}
	}
	return h
}

// generation has the records for the samples of one Window.
type generation struct {
	size       int
	records    map[string]*record
	subtracted [metrics]uint64 // the sum of what reduce has subtracted from each value
	free       []*record
	list       []*record // a buffer of reduce
	values     []uint64  // a buffer of reduce
}

// record contains what the samples of a host have added since the record was made.
type record struct {
	host  string
	value [metrics]uint64
	// missed is an upper bound of the values that the host had in earlier records, which the method
	// "reduce" has removed. The counter of the algorithm (see the package documentation) for this
	// host is value + missed - generation.subtracted.
	missed [metrics]uint64
}

func (g *generation) clear() {
	clear(g.records)
	g.subtracted = [metrics]uint64{}
	g.free, g.list = nil, nil
}

// record returns the record of a host. If the host has none, record makes one.
func (g *generation) record(host string) *record {
	if r := g.records[host]; r != nil {
		return r
	}
	if g.records == nil {
		g.records = map[string]*record{}
	}
	if len(g.records) == 8*g.size {
		g.reduce()
	}
	var r *record
	if n := len(g.free); n > 0 {
		r, g.free = g.free[n-1], g.free[:n-1]
	} else {
		r = new(record)
	}
	// Copy the name: it may be a part of a longer string, such as the first bytes of a connection,
	// which the record would keep in memory.
	*r = record{host: strings.Clone(host), missed: g.subtracted}
	g.records[r.host] = r
	return r
}

// reduce subtracts the Size-th largest value of each Metric from all values of this Metric, and
// removes the records without a positive value. After the subtraction, fewer than Size records have
// a positive value of the same Metric.
func (g *generation) reduce() {
	g.list = g.list[:0]
	for _, r := range g.records {
		g.list = append(g.list, r)
	}
	for m := range metrics {
		g.values = g.values[:0]
		for _, r := range g.list {
			g.values = append(g.values, g.rest(r, m))
		}
		g.subtracted[m] += nthLargest(g.values, g.size)
	}
	clear(g.records) // faster than removing them one by one
	for _, r := range g.list {
		if g.rest(r, 0)|g.rest(r, 1)|g.rest(r, 2)|g.rest(r, 3) != 0 {
			g.records[r.host] = r
		} else {
			g.free = append(g.free, r)
		}
	}
}

// rest returns the value that the algorithm has for a record and a Metric: value + missed -
// subtracted, but at least 0.
func (g *generation) rest(r *record, m int) uint64 {
	if all := r.value[m] + r.missed[m]; all > g.subtracted[m] {
		return all - g.subtracted[m]
	}
	return 0
}

// nthLargest returns the n-th largest value, where n is from 1 to the number of values. It changes
// the order of the values. The algorithm is quickselect.
func nthLargest(values []uint64, n int) uint64 {
	for {
		pivot := values[len(values)/2]
		// values[:i] are larger than the pivot, values[i:k] equal to it, and values[j:] smaller.
		// The loop has not compared values[k:j] yet.
		i, k, j := 0, 0, len(values)
		for k < j {
			switch v := values[k]; {
			case v > pivot:
				values[i], values[k] = v, values[i]
				i++
				k++
			case v == pivot:
				k++
			default:
				j--
				values[k], values[j] = values[j], v
			}
		}
		switch {
		case n <= i:
			values = values[:i]
		case n <= j:
			return pivot
		default:
			values, n = values[j:], n-j
		}
	}
}
