package shift

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Order is an order to shift requests of a route to one of its clusters. It says in which steps the
// share of this cluster changes, and when errors pause the shift.
type Order struct {
	// Route is the name of the route: its host and path, with "=" before an exact path (see
	// routes.Route.Name). It is empty only in a ClusterShift.
	Route string `json:"route,omitempty"`
	// Cluster is the cluster that gets the requests.
	Cluster string `json:"cluster"`
	// From is the cluster whose routes the operator has ordered to shift; see
	// Runner.StartCluster. It is empty if the operator has named the route.
	From string `json:"from,omitempty"`
	// Steps are the successive shares of Cluster, at least one, in points: 10,000 points are all
	// requests. The last share is the target.
	Steps []int `json:"steps"`
	// Hold is the time for which each step is in force; 0 means that the next step follows at once.
	Hold Duration `json:"hold"`
	// For is the time after which the route returns to its declared weights, at most MaxFor. It
	// begins when the Runner gets the order. Runner.Start refuses an order without For.
	For Duration `json:"for"`
	// MaxErrors is a limit for the share of 5xx responses among the responses of Cluster. This share
	// may be at most MaxErrors points higher than the same share of the other clusters of the route;
	// otherwise the shift pauses. AllPoints means that errors never pause the shift.
	MaxErrors int `json:"maxErrors"`
	// MinRequests is the number of requests that Cluster must have got in a step before errors in
	// this step can pause the shift; 0 means that errors count from the first request.
	MinRequests int `json:"minRequests"`
}

// MaxFor is the longest time that an order can have. To shift a route for longer, repeat the order
// before the shift expires.
const MaxFor = 72 * time.Hour

// Defaults of ParseOrder.
const (
	DefaultHold        = 5 * time.Minute
	DefaultMaxErrors   = 100 // 1%
	DefaultMinRequests = 50
)

// DefaultSteps returns the shares of the default steps: 1, 5, 25, 50 and 100%.
func DefaultSteps() []int { return []int{100, 500, 2500, 5000, AllPoints} }

// Duration is a time.Duration whose text has units, such as "5m0s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// ParseOrder returns an order for a route and a target such as "eu-2:100" or "eu-2:2.5%". The steps
// are the DefaultSteps below the target, and then the target. Hold, MaxErrors and MinRequests are
// the defaults.
func ParseOrder(route, target string) (Order, error) {
	cluster, text, ok := strings.Cut(target, ":")
	if !ok || cluster == "" {
		return Order{}, fmt.Errorf("shift: %q: want CLUSTER:PERCENT", target)
	}
	points, err := ParsePercent(text)
	if err != nil {
		return Order{}, err
	}
	o := Order{
		Route: route, Cluster: cluster, Hold: Duration(DefaultHold),
		MaxErrors: DefaultMaxErrors, MinRequests: DefaultMinRequests,
	}
	return o.WithSteps(DefaultSteps(), points), o.WithSteps(nil, points).check()
}

// ParseSubject parses the name of a route or of a cluster. If the text is empty, both results are
// empty. A name without "." and "/" is a cluster, so write a route whose host has only one label as
// "localhost/". The function "canonical" returns the normal form of the name of a route.
func ParseSubject(text string, canonical func(string) (string, error)) (route, cluster string, err error) {
	if !strings.ContainsAny(text, "./") {
		return "", text, nil
	}
	route, err = canonical(text)
	return route, "", err
}

// WithSteps returns the order with other steps: the given steps that are below target, and then
// target itself. For example, the steps 1, 5, 25 and 50% and the target 10% give the steps 1, 5 and
// 10%.
func (o Order) WithSteps(steps []int, target int) Order {
	o.Steps = nil
	for _, s := range steps {
		if s < target {
			o.Steps = append(o.Steps, s)
		}
	}
	o.Steps = append(o.Steps, target)
	return o
}

// The method "after" returns the shift of this order for a route if an earlier shift has already
// moved a share of the route's requests. The argument "points" is this share in hundredths of a
// percent.
//
// The share becomes the first step, so that the shift returns to this share after errors. The shift
// begins with the next larger step of the order. For example, with the share 5% (500 points), the
// steps 1, 5, 25 and 100% become 5, 25 and 100%.
//
// If no step of the order is larger than the share, the last step of the order becomes the only
// one.
func (o Order) after(points int) Shift {
	target := o.Steps[len(o.Steps)-1]
	if target <= points {
		o.Steps = []int{target}
		return Shift{Order: o}
	}
	above := slices.DeleteFunc(slices.Clone(o.Steps), func(s int) bool { return s <= points })
	o.Steps = append([]int{points}, above...)
	return Shift{Order: o, Step: 1}
}

// ParseSteps parses a list of percentages in ascending order, such as "1,5,25".
func ParseSteps(text string) ([]int, error) {
	var steps []int
	for part := range strings.SplitSeq(text, ",") {
		points, err := ParsePercent(part)
		if err != nil {
			return nil, err
		}
		steps = append(steps, points)
	}
	if !ascending(steps) {
		return nil, fmt.Errorf("shift: steps %q: want percentages in ascending order", text)
	}
	return steps, nil
}

func ascending(steps []int) bool {
	for i := range steps {
		if i > 0 && steps[i] <= steps[i-1] {
			return false
		}
	}
	return true
}

var percentage = regexp.MustCompile(`^([0-9]{1,3})(?:\.([0-9]{1,2}))?%?$`)

// ParsePercent parses a percentage with at most two decimal places, such as "25", "0.5" or "2.5%",
// and returns it in hundredths: 250 for "2.5%". It refuses other forms, such as "1e2".
func ParsePercent(text string) (points int, err error) {
	m := percentage.FindStringSubmatch(strings.TrimSpace(text))
	if m != nil {
		points, err = strconv.Atoi(m[1] + (m[2] + "00")[:2])
	}
	if m == nil || err != nil || points > AllPoints {
		return 0, fmt.Errorf("shift: %.100q is not a percentage from 0 to 100 with at most two decimal places", text)
	}
	return points, nil
}

// FormatPercent returns a number of points, of which AllPoints are 100%, as a percentage: "2.5%"
// for 250.
func FormatPercent(points int) string {
	return strconv.FormatFloat(float64(points)/100, 'f', -1, 64) + "%"
}

const (
	maxSteps = 100
	maxText  = 2000
)

func (o Order) check() error {
	switch {
	case o.Route == "" || len(o.Route) > maxText || strings.ContainsAny(o.Route, " \t\r\n\x00"):
		return fmt.Errorf("route: %.100q is not the name of a route", o.Route)
	case o.Cluster == "" || len(o.Cluster) > maxText || strings.ContainsAny(o.Cluster, " \t\r\n\x00/;"):
		return fmt.Errorf("cluster: %.100q is not the name of a cluster", o.Cluster)
	case len(o.Steps) == 0 || len(o.Steps) > maxSteps || !ascending(o.Steps) || o.Steps[0] < 0 || o.Steps[len(o.Steps)-1] > AllPoints:
		return fmt.Errorf("steps: want 1 to %d shares in ascending order, from 0 to %d", maxSteps, AllPoints)
	case len(o.From) > maxText || strings.ContainsAny(o.From, " \t\r\n\x00/;"):
		return fmt.Errorf("from: %.100q is not the name of a cluster", o.From)
	case o.For < 0 || time.Duration(o.For) > MaxFor:
		return fmt.Errorf("for: want a time of at most %v", MaxFor)
	case o.Hold < 0 || time.Duration(o.Hold) > 30*24*time.Hour:
		return errors.New("hold: want a time from 0 to 30 days")
	case o.MaxErrors < 0 || o.MaxErrors > AllPoints:
		return fmt.Errorf("maxErrors: %d is not from 0 to %d", o.MaxErrors, AllPoints)
	case o.MinRequests < 0:
		return errors.New("minRequests: is negative")
	}
	return nil
}

// checkNew returns an error if o is not valid as a new order. It has three rules besides those of
// the method "check": For must be more than 0, all steps together must last at most as long as For,
// and an order for all routes of a cluster must move the requests out of the cluster.
func (o Order) checkNew() error {
	steps := time.Duration(len(o.Steps)) * time.Duration(o.Hold)
	switch {
	case o.For <= 0:
		return fmt.Errorf("for: want the time after which the shift ends, such as 2h; at most %v", MaxFor)
	case steps > time.Duration(o.For):
		return fmt.Errorf("for: the steps of the shift last %v, so it would end after %v, before its last step", steps, time.Duration(o.For))
	case o.From == o.Cluster && o.Target() > 0:
		return fmt.Errorf("to: a shift of all routes of %s moves their requests to another cluster, or to %[1]s:0", o.From)
	}
	return o.check()
}

// Target returns how many of 10,000 requests go to Cluster after the last step: 2,500 means 25%. It
// returns 0 if there is no step.
func (o Order) Target() int {
	if len(o.Steps) == 0 {
		return 0
	}
	return o.Steps[len(o.Steps)-1]
}

// Counters describe one or several clusters of a route in one HAProxy worker.
type Counters struct {
	// Requests counts the responses since the worker started, and Errors counts those with a status
	// of 5xx.
	Requests, Errors uint64
	// Up is the number of servers that can get requests now. If Up is less than Need, the cluster
	// has too few servers for a shift. If Need is 0, the number of servers does not matter.
	Up, Need int
}

// If the cluster has too few servers, short returns a message that says so. Otherwise it returns
// "".
func (c Counters) short(cluster string) string {
	if c.Up >= c.Need {
		return ""
	}
	return fmt.Sprintf("%d servers of %s are up, and %d are needed", c.Up, cluster, c.Need)
}

// errorPoints returns the share of requests that got an error, in points: 10,000 if every request
// got an error. It returns 0 if there was no request.
func (c Counters) errorPoints() float64 {
	return AllPoints * float64(c.Errors) / float64(cmp.Or(c.Requests, 1))
}

// Window adds up the responses during one step of a shift, and keeps the latest numbers of servers.
// The zero Window is empty.
type Window struct {
	Target, Rest Counters

	lastTarget, lastRest Counters
	begun                bool
}

// Add adds the responses that HAProxy has counted since the last call: "target" are the present
// counters of the cluster that gets the requests, and "rest" those of the other clusters. The first
// call adds nothing. A counter that is smaller than before began with 0 at a reload of HAProxy, so
// Add adds all of it.
func (w *Window) Add(target, rest Counters) {
	w.Target.Up, w.Target.Need, w.Rest.Up, w.Rest.Need = target.Up, target.Need, rest.Up, rest.Need
	if w.begun {
		w.Target.add(w.lastTarget, target)
		w.Rest.add(w.lastRest, rest)
	}
	w.lastTarget, w.lastRest, w.begun = target, rest, true
}

func (c *Counters) add(last, now Counters) {
	if now.Requests < last.Requests || now.Errors < last.Errors {
		last = Counters{}
	}
	c.Requests += now.Requests - last.Requests
	c.Errors += now.Errors - last.Errors
}

// Advance decides at the time "now" whether the shift s stays at its step, goes to the next step,
// or pauses. It returns the resulting shift, and whether this shift differs from s. w counts the
// responses since the current step began.
func (s Shift) Advance(now time.Time, w Window) (next Shift, changed bool) {
	if s.Status != Moving {
		return s, false
	}
	if s.Step < 0 { // the first step
		s.Step, s.Since = 0, now
		return s, true
	}
	if short := w.Target.short(s.Cluster); short != "" && s.Steps[s.Step] > 0 {
		s.Reason = fmt.Sprintf("at %s, %s", FormatPercent(s.Steps[s.Step]), short)
		s.Status, s.Step, s.Since = Paused, s.Step-1, now
		return s, true
	}
	// At 0%, the Cluster gets no new requests. It may still answer earlier requests with errors,
	// and a pause would then send requests back to it.
	target, rest := w.Target.errorPoints(), w.Rest.errorPoints()
	if s.Steps[s.Step] > 0 && w.Target.Requests > 0 && w.Target.Requests >= uint64(s.MinRequests) && target-rest > float64(s.MaxErrors) {
		s.Reason = fmt.Sprintf("at %s, %s of %d responses of %s were 5xx, and %s of %d responses of the other clusters",
			FormatPercent(s.Steps[s.Step]), formatShare(target), w.Target.Requests, s.Cluster, formatShare(rest), w.Rest.Requests)
		s.Status, s.Step, s.Since = Paused, s.Step-1, now
		return s, true
	}
	if now.Sub(s.Since) < time.Duration(s.Hold) {
		return s, false
	}
	if s.Step == len(s.Steps)-1 {
		s.Status, s.Since = Done, now
		return s, true
	}
	s.Step, s.Since = s.Step+1, now
	return s, true
}

func formatShare(points float64) string {
	return strconv.FormatFloat(points/100, 'f', 2, 64) + "%"
}

// Resume returns the paused shift s as a moving shift, whose failed step begins again at the time
// "now". It returns an error if s is not paused.
func (s Shift) Resume(now time.Time) (Shift, error) {
	if s.Status != Paused {
		return s, fmt.Errorf("shift: %s is %s, not paused", s.Route, s.Status)
	}
	s.Status, s.Step, s.Since, s.Reason = Moving, s.Step+1, now, ""
	return s, nil
}
