//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// tracksHost and tracksPath are the URL of the steady load.
const (
	tracksHost = "api.example.com"
	tracksPath = "/tracks"
	// loadRate is the number of requests that the client sends in a second.
	loadRate = 150
	// effect is the longest allowed time from a change in a cluster until the requests of the
	// client show the change.
	effect = 3 * time.Second
)

// traffic is a steady load through HAProxy.
type traffic struct {
	*loadRun
	s      *System
	report *scenario.Report
}

// startTraffic sends a steady load to a host.
func (s *System) startTraffic(ctx context.Context, report *scenario.Report, host, path string) *traffic {
	run := startLoad(ctx, loadConfig{Dial: s.Client.DialContext, Address: s.Edge.Addr.String() + ":80", Host: host, Path: path, Rate: loadRate})
	return &traffic{loadRun: run, s: s, report: report}
}

// underLoad makes the Run function of a scenario that needs the whole system. The function restores
// the system, and sends a steady load while it runs f. After f, it adds a row about all requests,
// even if f returned an error.
func underLoad(f func(context.Context, *System, *traffic, *scenario.Report) error) func(context.Context, *Env, *scenario.Report) error {
	return func(ctx context.Context, env *Env, report *scenario.Report) error {
		s, err := env.System(ctx)
		if err != nil {
			return err
		}
		if err := s.Restore(ctx); err != nil {
			return err
		}
		t := s.startTraffic(ctx, report, tracksHost, tracksPath)
		defer t.Stop()
		err = t.await(ctx, loadRate/2, time.Now())
		if err == nil {
			err = f(ctx, s, t, report)
		}
		t.Stop()
		t.report.Logf("%d requests were sent again, on connections that HAProxy had closed", t.Repeated(time.Time{}, time.Time{}))
		_ = t.row(scenario.Row{What: "all requests of this scenario"}, time.Time{})
		if errors.Is(err, errShown) {
			return nil
		}
		return err
	}
}

// A scenario returns errShown if it has failed and a row of the table already shows why.
var errShown = errors.New("a row has failed")

// The method "row" adds a row to the report. The row contains the number of requests that began at
// the time in the argument "since" or later. The method returns errShown if row.Err was set before
// the call.
func (t *traffic) row(row scenario.Row, since time.Time) error {
	failed := row.Err != nil
	row.Requests = t.Count(since, time.Time{})
	row.Failed = len(t.Failures(since, time.Time{}))
	row.Err = errors.Join(row.Err, t.Err(since, time.Time{}))
	if row.Requests == 0 {
		row.Err = errors.Join(row.Err, errors.New("no request was sent in that time"))
	}
	t.report.Add(row)
	if failed {
		return errShown
	}
	return nil
}

// await waits until the load has got answers to n requests that it sent at the time in the argument
// "since" or later.
func (t *traffic) await(ctx context.Context, n int, since time.Time) error {
	_, err := lab.Until(ctx, fmt.Sprintf("%d requests", n), patience, func(context.Context) error {
		got := 0
		for _, r := range t.Between(since, time.Time{}) {
			if r.Err == nil {
				got++
			}
		}
		if got < n {
			return errors.Join(fmt.Errorf("%d were answered", got), t.Err(since, time.Time{}))
		}
		return nil
	}, t.s.HAProxy.Process)
	return err
}

// The method "last" waits until it has probably seen the last matching request: until more than
// quietRequests requests in a row have not matched, and these requests have taken at least
// quietTime.
const (
	quietRequests = 2 * loadRate
	quietTime     = 2 * time.Second
	// patience is how long a scenario waits for an effect that should come within seconds. It is
	// longer than the allowed time, so that the row of a late effect shows how late it came.
	patience = time.Minute
)

// match selects requests.
type match func(request) bool

// The method "last" waits until no more requests of the load match; see quietRequests. It returns
// how long after "since" the last matching request began. The text "what" describes these requests
// in the error.
func (t *traffic) last(ctx context.Context, what string, since time.Time, match match) (took time.Duration, err error) {
	_, err = lab.Until(ctx, "no more requests "+what, patience, func(context.Context) error {
		from := since
		if r, ok := t.Last(since, match); ok {
			took, from = r.Start.Sub(since), r.Start
		}
		if n := t.Count(from, time.Time{}); n <= quietRequests || time.Since(from) < quietTime {
			return fmt.Errorf("the last one came after %s, and %d went elsewhere since then", took.Round(time.Millisecond), n-1)
		}
		return nil
	}, t.s.Terminator.Process, t.s.HAProxy.Process)
	return took, err
}

// The method "first" waits for a request that matches and that began at the time in the argument
// "since" or later. It returns how long after this time the request began.
func (t *traffic) first(ctx context.Context, what string, since time.Time, match match) (took time.Duration, err error) {
	_, err = lab.Until(ctx, "a request "+what, patience, func(context.Context) error {
		r, ok := t.First(since, match)
		if !ok {
			return fmt.Errorf("none of %d", t.Count(since, time.Time{}))
		}
		took = r.Start.Sub(since)
		return nil
	}, t.s.Terminator.Process, t.s.HAProxy.Process)
	return took, err
}

// The function "through" selects the requests that came through the port of a node.
func through(n *lab.Node) match {
	return func(r request) bool {
		return r.Answer.Cluster == n.Cluster.Name && n.Cluster.EntryNode(r.Answer) == n
	}
}

// The function "within" selects the requests that a cluster answered.
func within(c *lab.Cluster) match {
	return func(r request) bool { return r.Answer.Cluster == c.Name }
}

// entries returns, for each node of cluster c, how many requests came through the node. It counts
// only requests that began at the time in the argument "since" or later.
func (t *traffic) entries(c *lab.Cluster, since time.Time) map[string]int {
	came := make(map[string]int)
	for _, r := range t.Between(since, time.Time{}) {
		if r.Err != nil || r.Answer.Cluster != c.Name {
			continue
		}
		name := "a node that is not there"
		if n := c.EntryNode(r.Answer); n != nil {
			name = n.Name
		}
		came[name]++
	}
	return came
}

// ask sends one request to HAProxy. A response that does not come from a pod is not an error.
func (s *System) ask(ctx context.Context, host, path string) (status int, answer pod.Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s", s.Edge.Addr, path), nil)
	if err != nil {
		return 0, answer, err
	}
	req.Host = host
	res, err := s.Client.Client().Do(req)
	if err != nil {
		return 0, answer, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		err = json.NewDecoder(res.Body).Decode(&answer)
	}
	return res.StatusCode, answer, err
}

// wantStatus sends one request to HAProxy and checks the status.
func (s *System) wantStatus(ctx context.Context, host, path string, want int) error {
	status, _, err := s.ask(ctx, host, path)
	if err == nil && status != want {
		err = fmt.Errorf("%s%s: status %d", host, path, status)
	}
	return err
}

// subsetNodes returns the subset of a service in report.json.
func (s *System) subsetNodes(c *lab.Cluster, service string) ([]*lab.Node, error) {
	subset, err := s.Terminator.Subset(c.Name, service)
	if err != nil {
		return nil, err
	}
	var nodes []*lab.Node
	for _, name := range subset {
		n := c.Node(name)
		if n == nil {
			return nil, fmt.Errorf("report.json has node %s, but %s has no such node", name, c.Name)
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%s has no nodes in %s", service, c.Name)
	}
	return nodes, nil
}

// nodePort returns the node port of a service.
func (s *System) nodePort(ctx context.Context, c *lab.Cluster, service string) (int32, error) {
	svc, err := c.Client.CoreV1().Services(appNamespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	return svc.Spec.Ports[0].NodePort, nil
}
