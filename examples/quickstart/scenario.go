package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/shift"
)

const (
	shopURL   = "http://shop.example.com/"
	searchURL = "http://shop.example.com/search/songs"
	tracksURL = "http://api.example.com/tracks/1"

	webService    = "eu-1/media/web"
	tracksService = "eu-1/media/tracks"
	otherTracks   = "eu-2/media/tracks"

	// checksUntilInForce is the number of agent checks after which HAProxy certainly uses a changed
	// answer. HAProxy begins the second check only after it has read the answer to the first check
	// and changed the server.
	checksUntilInForce = 2
	// observed is the time for which the scenario watches the requests after a change.
	observed = time.Second
	// observedRequests is the number of requests that a step needs to see. It is large enough that
	// each selected node answers some of them.
	observedRequests = 75
	// patience is the time limit of the function "await". After this time, await returns an error.
	patience = time.Minute
)

// scenario changes the system step by step, and calls the function "report" after each step. If the
// system behaves unexpectedly, the field "ok" of the step is false. scenario returns an error only if
// it cannot continue.
func scenario(ctx context.Context, s *system, report func(step)) error {
	s.startTraffic()
	// HAProxy learns the weights from the answers of the agents. Before the first answers, it
	// treats all weights as equal. So wait for these answers.
	if err := awaitChecks(ctx, s.agents(webService, tracksService, otherTracks)); err != nil {
		return err
	}
	for _, part := range []func(context.Context, *system) ([]step, error){
		stepRoutes, stepNewHost, stepSubset, stepCordon, stepWeights, stepShift, stepRegions, stepReplace, stepTenants, stepNoFailures,
	} {
		steps, err := part(ctx, s)
		for _, step := range steps {
			report(step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// stepRoutes sends a request to each declared host and path, and to some undeclared hosts and paths
// that look similar.
func stepRoutes(ctx context.Context, s *system) ([]step, error) {
	notFound := fmt.Sprint(http.StatusNotFound)
	tests := []struct{ url, note, expected string }{
		{"shop.example.com/", "", webService},
		{"shop.example.com/search", "", "eu-1/media/search"},
		{"SHOP.example.com.:80/search/x?q=1", "", "eu-1/media/search"},
		{"shop.example.com/searching", " (not below /search)", webService},
		{"blue.tenants.example.com/", " (wildcard)", webService},
		{"a.b.tenants.example.com/", " (two labels)", notFound},
		{"api.example.com/", " (nothing declared)", notFound},
		{"unknown.example.com/", "", notFound},
	}
	var steps []step
	for _, t := range tests {
		got, err := s.client.get(ctx, "http://"+t.url)
		if err != nil {
			return steps, err
		}
		steps = append(steps, step{"route: " + t.url + t.note, t.expected, got.String(), got.String() == t.expected})
	}
	return steps, nil
}

// newHost is a host that the scenario declares for the service "web" while HAProxy runs.
const newHost = "new.example.com"

// stepNewHost declares a new host for a known service. HAProxy serves it without a reload.
func stepNewHost(ctx context.Context, s *system) ([]step, error) {
	return withoutReload(ctx, s, "new host "+newHost+" without a reload", webService, func() (string, error) {
		if err := s.declare("- host: " + newHost + "\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n"); err != nil {
			return "", err
		}
		if _, err := s.apply(ctx); err != nil {
			return "", err
		}
		got, err := s.client.get(ctx, "http://"+newHost+"/")
		return got.String(), err
	})
}

// stepShift shifts all requests of a route to the other cluster, and back. HAProxy needs no reload
// for this.
func stepShift(ctx context.Context, s *system) (steps []step, err error) {
	order := shift.Order{Route: "radio.example.com/", Cluster: "eu-2", Steps: []int{shift.AllPoints}}
	all := shift.State{Shifts: []shift.Shift{{Order: order, Status: shift.Moving, Since: time.Now()}}}
	for _, c := range []struct {
		name, expected string
		shifts         shift.State
	}{
		{"shift radio.example.com to eu-2 without a reload", "eu-2/media/radio", all},
		{"end the shift of radio.example.com without a reload", "eu-1/media/radio", shift.State{}},
	} {
		more, err := withoutReload(ctx, s, c.name, c.expected, func() (string, error) {
			if err := s.shift(ctx, c.shifts); err != nil {
				return "", err
			}
			return s.answering(ctx, "http://radio.example.com/")
		})
		if steps = append(steps, more...); err != nil {
			return steps, err
		}
	}
	return steps, nil
}

// stepRegions sends requests to nearestRoute. While most servers of the nearest cluster are in
// maintenance, the other cluster answers. HAProxy itself decides this for each request.
func stepRegions(ctx context.Context, s *system) (steps []step, err error) {
	nearest, err := s.preferred()
	if err != nil {
		return nil, err
	}
	var servers []string
	if err := await(ctx, "not all servers of the nearest cluster are up", func() bool {
		servers, err = s.usable(ctx, nearest.Backend)
		return err != nil || len(servers) == nodesPerService
	}); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	const near, far = "eu-1/media/radio", "eu-2/media/radio"
	closed := servers[:len(servers)-nearest.Min+1] // the others are too few
	for _, c := range []struct{ name, expected, state string }{
		{"all servers of eu-1 are up", near, "ready"},
		{fmt.Sprintf("%d of %d servers of eu-1 in maintenance", len(closed), len(servers)), far, "maint"},
		{"end of the maintenance", near, "ready"},
	} {
		more, err := withoutReload(ctx, s, "regions: "+c.name, c.expected, func() (string, error) {
			if err := s.setState(ctx, nearest.Backend, closed, c.state); err != nil {
				return "", err
			}
			return s.answering(ctx, "http://nearest.example.com/")
		})
		if steps = append(steps, more...); err != nil {
			return steps, err
		}
	}
	return steps, nil
}

// answering sends 20 requests to a URL. It returns the services that answer, or the statuses of
// requests that fail.
func (s *system) answering(ctx context.Context, url string) (string, error) {
	seen := map[string]int{}
	for range 20 {
		got, err := s.client.get(ctx, url)
		if err != nil {
			return "", err
		}
		seen[got.String()]++
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " "), nil
}

// withoutReload calls the function "change", which returns the services that answer after a change.
// These must be the argument "expected", and the worker process of HAProxy must stay the same.
func withoutReload(ctx context.Context, s *system, name, expected string, change func() (string, error)) ([]step, error) {
	before, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	got, err := change()
	if err != nil {
		return nil, err
	}
	after, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	seen := fmt.Sprintf("%s from worker %s", got, after)
	expected += " from worker " + before
	return []step{{name, expected, seen, seen == expected}}, nil
}

// stepSubset checks that all selected nodes of a service answer its requests, and no other nodes.
func stepSubset(ctx context.Context, s *system) ([]step, error) {
	from := time.Now()
	if err := s.awaitVisits(ctx, from, webService); err != nil {
		return nil, err
	}
	expected := s.subset(webService)
	seen := slices.Sorted(maps.Keys(byNode(s.journal.since(from, webService))))
	total := len(s.clusters["eu-1"].objects.Nodes)
	return []step{{
		name:     "subset: requests for web",
		expected: fmt.Sprintf("%s (%d of %d nodes)", strings.Join(expected, " "), len(expected), total),
		seen:     strings.Join(seen, " "),
		ok:       slices.Equal(expected, seen),
	}}, nil
}

// stepCordon cordons a node and uncordons it.
func stepCordon(ctx context.Context, s *system) ([]step, error) {
	m := s.clusters["eu-1"]
	victim := s.subset(webService)[0]
	agents := []agent{{node: s.nodes[victim]}}
	cordoned := time.Now()
	if err := change(ctx, agents, func() error { return m.cordon(victim, true) }); err != nil {
		return nil, err
	}
	inForce := time.Now()
	if err := pause(ctx, observed); err != nil {
		return nil, err
	}
	if err := s.awaitVisits(ctx, inForce, webService); err != nil {
		return nil, err
	}
	after := s.journal.since(inForce)
	late := byNode(after)[victim]
	last := time.Duration(0)
	for _, v := range s.journal.since(cordoned) {
		if v.node == victim {
			last = max(last, v.sent.Sub(cordoned))
		}
	}
	steps := []step{{
		name:     "cordon " + victim + ": requests there",
		expected: fmt.Sprintf("none after %d agent checks", checksUntilInForce),
		seen:     fmt.Sprintf("%d of %d; the last %.1fs after the cordon", late, len(after), last.Seconds()),
		ok:       late == 0,
	}}

	uncordoned := time.Now()
	if err := change(ctx, agents, func() error { return m.cordon(victim, false) }); err != nil {
		return steps, err
	}
	if err := s.awaitVisits(ctx, time.Now(), webService); err != nil {
		return steps, err
	}
	back := step{
		name:     "uncordon " + victim + ": requests there",
		expected: fmt.Sprintf("some after %d agent checks", checksUntilInForce),
		seen:     "none",
	}
	for _, v := range s.journal.since(uncordoned) {
		if v.node == victim {
			back.seen, back.ok = fmt.Sprintf("the first %.1fs after it", v.sent.Sub(uncordoned).Seconds()), true
			break
		}
	}
	return append(steps, back), nil
}

// stepWeights shifts the traffic of one host and path between two clusters.
func stepWeights(ctx context.Context, s *system) ([]step, error) {
	shares := func(name string, want, tolerance float64) (step, error) {
		from := time.Now()
		if err := s.awaitVisits(ctx, from, tracksService, otherTracks); err != nil {
			return step{}, err
		}
		one, other := len(s.journal.since(from, tracksService)), len(s.journal.since(from, otherTracks))
		share := 100 * float64(one) / float64(max(one+other, 1))
		return step{
			name:     "weight " + name + " in eu-1/eu-2: share of eu-1",
			expected: fmt.Sprintf("%.0f%% +- %.0f", want, tolerance),
			seen:     fmt.Sprintf("%.1f%% of %d", share, one+other),
			ok:       one+other > 0 && share >= want-tolerance && share <= want+tolerance,
		}, nil
	}
	first, err := shares("100/0", 100, 0)
	if err != nil {
		return nil, err
	}
	steps := []step{first}
	err = change(ctx, s.agents(tracksService, otherTracks), func() error {
		for _, name := range clusterNames {
			if err := s.clusters[name].annotate("media", "tracks", "headgate.dev/weight", "50"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return steps, err
	}
	second, err := shares("50/50", 50, 10)
	return append(steps, second), err
}

// stepReplace replaces a node as an upgrade of the cluster does: it cordons the old node, starts a
// new node, and stops the old one. HAProxy needs no reload, because the configuration has a spare
// server for the new node.
func stepReplace(ctx context.Context, s *system) ([]step, error) {
	m := s.clusters["eu-1"]
	old := s.subset(tracksService)[0]
	const name = "eu-1-f"
	services := map[string][]string{}
	for _, service := range []string{webService, tracksService, "eu-1/media/search"} {
		if subset := s.subset(service); slices.Contains(subset, old) {
			services[service] = subset
		}
	}
	agents := []agent{{node: s.nodes[old]}}
	if err := change(ctx, agents, func() error { return m.cordon(old, true) }); err != nil {
		return nil, err
	}
	if err := m.replace(old, name, withLastByte(addrOf(m.objects.Node(old)), "6")); err != nil {
		return nil, err
	}
	if err := s.startNode("eu-1", name); err != nil {
		return nil, err
	}
	before, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	change, err := s.apply(ctx)
	if err != nil {
		return nil, err
	}
	after, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	steps := []step{{"replace " + old + " by " + name + " without a reload", "worker " + before, "worker " + after, before == after}}
	for _, service := range slices.Sorted(maps.Keys(services)) {
		left, entered := difference(services[service], s.subset(service)), difference(s.subset(service), services[service])
		removed, added := changedServers(change.Diff, service)
		steps = append(steps, step{
			name:     "replace " + old + " by " + name + ": servers of " + service,
			expected: "1 removed, 1 added",
			seen:     fmt.Sprintf("%d removed (%s), %d added (%s)", removed, strings.Join(left, " "), added, strings.Join(entered, " ")),
			ok:       removed == 1 && added == 1 && slices.Equal(left, []string{old}),
		})
	}
	// Call apply until exactly the nodes of the subset answer, for at most a minute. One call is
	// not enough: the answer to an agent check that began before the change may end the maintenance
	// of the old server.
	var seen []string
	for deadline := time.Now().Add(patience); ; {
		if _, err := s.apply(ctx); err != nil {
			return steps, err
		}
		from := time.Now()
		if err := s.awaitVisits(ctx, from, tracksService); err != nil {
			return steps, err
		}
		seen = slices.Sorted(maps.Keys(byNode(s.journal.since(from, tracksService))))
		if slices.Equal(s.subset(tracksService), seen) || time.Now().After(deadline) {
			break
		}
	}
	steps = append(steps, step{
		name:     "subset: requests for tracks in eu-1",
		expected: strings.Join(s.subset(tracksService), " "),
		seen:     strings.Join(seen, " "),
		ok:       slices.Equal(s.subset(tracksService), seen),
	})
	s.nodes[old].stop()
	return steps, pause(ctx, observed)
}

// stepNoFailures adds a row with the number of requests that failed in the whole run. There must be
// none.
func stepNoFailures(_ context.Context, s *system) ([]step, error) {
	sent, failures := s.journal.total()
	seen := fmt.Sprintf("%d of %d", len(failures), sent)
	if len(failures) > 0 {
		seen += ": " + failures[0]
	}
	return []step{{"whole run: failed requests", "0", seen, len(failures) == 0 && sent > 0}}, nil
}

// await calls the function "done" every 20 ms, and returns nil as soon as done returns true. If
// this takes longer than patience, await returns an error that contains the text of the argument
// "problem".
func await(ctx context.Context, problem string, done func() bool) error {
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %s: %s", patience, problem)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// awaitVisits returns when the services together have answered observedRequests requests that
// clients sent at the time "start" or later.
func (s *system) awaitVisits(ctx context.Context, start time.Time, services ...string) error {
	err := await(ctx, fmt.Sprintf("%q answer too few requests", services), func() bool {
		return len(s.journal.since(start, services...)) >= observedRequests
	})
	if _, failures := s.journal.total(); err != nil && len(failures) > 0 {
		return fmt.Errorf("%w; failures: %q", err, failures[:min(len(failures), 3)])
	}
	return err
}

// awaitChecks waits until HAProxy has read and uses the answers that the agents give now.
func awaitChecks(ctx context.Context, agents []agent) error {
	before := make([]int, len(agents))
	for i, a := range agents {
		before[i] = a.checks()
	}
	return await(ctx, "HAProxy does not ask every agent", func() bool {
		for i, a := range agents {
			if a.checks() < before[i]+checksUntilInForce {
				return false
			}
		}
		return true
	})
}

// change calls the function "apply", which must change the manifests of the clusters. After that,
// it waits until all agents have read the changed manifests, and until HAProxy uses the agents' new
// answers.
func change(ctx context.Context, agents []agent, apply func() error) error {
	before := make([]int, len(agents))
	for i, a := range agents {
		before[i] = a.states()
	}
	if err := apply(); err != nil {
		return err
	}
	err := await(ctx, "not every agent follows the change of manifests", func() bool {
		for i, a := range agents {
			if a.states() == before[i] {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return awaitChecks(ctx, agents)
}

func byNode(visits []visit) map[string]int {
	counts := map[string]int{}
	for _, v := range visits {
		counts[v.node]++
	}
	return counts
}

// difference returns the elements of a that b does not contain.
func difference(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// changedServers returns how many servers of a service a new configuration removes, and how many it
// adds. If several backends contain servers of the service, "removed" is the largest number that one
// backend loses, and "added" is the largest number that one backend gains.
func changedServers(diff deploy.Diff, service string) (removed, added int) {
	prefix := strings.ReplaceAll(service, "/", ".") + "."
	for _, b := range diff.Backends {
		if strings.HasPrefix(b.Name, prefix) {
			removed = max(removed, len(b.ServersRemoved))
			added = max(added, len(b.ServersAdded))
		}
	}
	return removed, added
}
