package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// fakeRoutes is a RouteSource that does not change.
type fakeRoutes struct{ controller.Declarations }

func (f fakeRoutes) Read() (controller.Declarations, error) { return f.Declarations, nil }

func (f fakeRoutes) Follow(ctx context.Context, _ func(controller.Declarations)) error {
	<-ctx.Done()
	return ctx.Err()
}

// fakeCluster is a ClusterSource whose state a test sets. err, if not nil, is the result of the
// first call of Follow.
type fakeCluster struct {
	state chan controller.ClusterState
	refs  []nodeselect.Ref
	err   error
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{state: make(chan controller.ClusterState, 1)}
}

func (f *fakeCluster) SetRefs(refs []nodeselect.Ref) { f.refs = refs }

func (f *fakeCluster) Read(context.Context, controller.Start) (controller.ClusterState, error) {
	return <-f.state, nil
}

func (f *fakeCluster) Follow(ctx context.Context, _ controller.Start, publish func(controller.ClusterState)) error {
	if err := f.err; err != nil {
		f.err = nil
		return err
	}
	for {
		select {
		case s := <-f.state:
			publish(s)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set sets the state to nodes with these addresses, and to the service shop/web with a node port.
func (f *fakeCluster) set(t *testing.T, nodePort int, addrs ...string) {
	t.Helper()
	text := fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", nodePort)
	for _, addr := range addrs {
		text += fmt.Sprintf("---\n{apiVersion: v1, kind: Node, metadata: {name: n%s}, status: {addresses: [{type: InternalIP, address: %s}]}}\n", addr, addr)
	}
	objects, problems := manifest.Parse("test", []byte(text))
	require.Empty(t, problems)
	f.state <- controller.ClusterState{Synced: true, Objects: objects}
}

// newController returns a Controller with a route to the service shop/web of cluster eu-1.
func newController(t *testing.T, eu1 controller.ClusterSource) *controller.Controller {
	t.Helper()
	table, problems := routes.Parse("routes.yaml", []byte("routes:\n- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: shop, service: web, port: http}\n"))
	require.Empty(t, problems)
	return &controller.Controller{
		Routes:   fakeRoutes{controller.Declarations{Table: table}},
		Clusters: []controller.Cluster{{Name: "eu-1", Source: eu1}},
		Builder:  kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}},
		Dir:      &deploy.Dir{Path: t.TempDir()},
	}
}

func config(t *testing.T, c *controller.Controller) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Dir.Path, "haproxy.cfg"))
	require.NoError(t, err)
	return string(text)
}

func report(t *testing.T, c *controller.Controller) (r kube.Report) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Dir.Path, controller.ReportFile))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &r))
	return r
}

// follow runs a Controller in a bubble with its own time, until the function "test" returns.
func follow(t *testing.T, c *controller.Controller, test func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	test()
	stop()
	require.NoError(t, <-done)
}

func TestRunRefusesALargeChangeUntilItIsForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		var attempts []controller.Attempt
		c.Attempted = func(a controller.Attempt) { attempts = append(attempts, a) }
		wait := func() { time.Sleep(2 * time.Second); synctest.Wait() }
		follow(t, c, func() {
			eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			wait()
			require.Equal(t, []nodeselect.Ref{{Namespace: "shop", Service: "web", Port: "http"}}, eu1.refs)
			require.Len(t, attempts, 1)
			require.Equal(t, controller.Written, attempts[0].Outcome)
			require.Len(t, attempts[0].Change.Report.Services, 1)
			require.NoError(t, c.Status().Ready())
			require.Equal(t, 4, c.Status().Servers)
			require.Empty(t, c.Status().String())

			eu1.set(t, 30090, "10.0.0.1", "10.0.0.2")
			wait()
			require.Equal(t, controller.Refused, attempts[1].Outcome)
			require.ErrorContains(t, attempts[1].Err, "50.0% of the servers would go or change, and the limit is 30.0%; the largest losses are servers 2 of 4 (eu-1.shop.web.http) (change ")
			require.Contains(t, config(t, c), "10.0.0.1:30080")
			refused := report(t, c).Refused
			require.Equal(t, refused.ID, attempts[1].Change.ID())
			require.Equal(t, refused.ID, c.Status().Refused.ID)
			require.Equal(t, controller.Refused, c.Status().Outcome)

			attempt, err := c.Force(t.Context(), "")
			require.ErrorContains(t, err, "the limit is")
			require.Equal(t, controller.Refused, attempt.Outcome, "an empty ID permits nothing")
			_, err = c.Force(t.Context(), "another")
			require.ErrorContains(t, err, "the limit is")
			attempt, err = c.Force(t.Context(), refused.ID)
			require.NoError(t, err)
			require.Equal(t, controller.Written, attempt.Outcome)
			require.Contains(t, config(t, c), "10.0.0.1:30090")
			require.Nil(t, report(t, c).Refused)
			require.Nil(t, c.Status().Refused)
			for i, a := range []controller.Attempt{attempts[0], attempts[1], attempt} {
				require.NotEmpty(t, a.Change.Report.Changes.Causes, "attempt %d", i)
				require.Positive(t, a.Change.Report.Budget.Now.Total, "attempt %d", i)
			}
			require.Equal(t, attempt.Change.Report.Budget, report(t, c).Budget)
			require.Equal(t, attempt.Change.Report.Changes.Causes, report(t, c).Changes.Causes)

			eu1.state <- controller.ClusterState{Err: errors.New("no route to host")}
			wait()
			require.Contains(t, config(t, c), "10.0.0.1:30090")
			require.Contains(t, c.Status().String(), "cluster eu-1: last-known since ")
			require.Equal(t, kube.LastKnown, report(t, c).Clusters[0].Connectivity.State)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Force(ctx, "")
		require.ErrorIs(t, err, controller.ErrBusy, "it does not run any more")
	})
}

// TestRunFollowsTheVersion upgrades and downgrades HAProxy while Run runs. No input changes, so the
// regular attempts find the new version.
func TestRunFollowsTheVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		type result struct {
			version haproxycfg.Version
			err     error
		}
		var next atomic.Pointer[result]
		set := func(major, minor int, err error) {
			next.Store(&result{haproxycfg.Version{Major: major, Minor: minor}, err})
		}
		c.Version = func(context.Context) (haproxycfg.Version, error) { r := next.Load(); return r.version, r.err }
		set(3, 0, nil)
		const since32 = "option http-drop-request-trailers"
		wait := func() { time.Sleep(31 * time.Second); synctest.Wait() }
		follow(t, c, func() {
			eu1.set(t, 30080, "10.0.0.1")
			wait()
			require.NotContains(t, config(t, c), since32)
			before := report(t, c).Changes.Time
			set(3, 1, nil)
			wait()
			require.Equal(t, before, report(t, c).Changes.Time, "3.1 reads the same configuration as 3.0")
			set(3, 2, nil)
			wait()
			require.Contains(t, config(t, c), since32)
			require.Equal(t, []kube.Cause{{What: "HAProxy is version 3.2"}}, report(t, c).Changes.Causes)
			set(0, 0, errors.New("its package is being replaced"))
			wait()
			require.Contains(t, config(t, c), since32, "the last known version counts")
			set(2, 6, nil)
			wait()
			require.NotContains(t, config(t, c), since32)
		})
	})
}

// TestForceThatTakesLong: the caller of Force stops waiting, and the attempt continues.
func TestForceThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		var slow atomic.Bool
		c.Dir.Check = func(context.Context, haproxycfg.Valid) error {
			if slow.Load() {
				time.Sleep(time.Minute)
			}
			return nil
		}
		follow(t, c, func() {
			eu1.set(t, 30080, "10.0.0.1")
			time.Sleep(2 * time.Second)
			eu1.set(t, 30090, "10.0.0.1")
			time.Sleep(2 * time.Second)
			slow.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Force(ctx, c.Status().Refused.ID)
			require.ErrorIs(t, err, controller.ErrUnderway)
			_, err = c.Force(ctx, "")
			require.ErrorIs(t, err, controller.ErrBusy)
			time.Sleep(2 * time.Minute)
			require.Contains(t, config(t, c), "10.0.0.1:30090")
		})
	})
}

// TestRunCallsFollowAgain: if Follow of a source returns an error, the Controller calls Follow
// again, and Status has the error.
func TestRunCallsFollowAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		eu1.err = errors.New("no kubeconfig")
		c := newController(t, eu1)
		follow(t, c, func() {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			require.ErrorContains(t, c.Status().Ready(), "waiting for eu-1")
			require.Contains(t, c.Status().String(), "cluster eu-1: not seen yet since 2000-01-01T00:00:00Z: no kubeconfig")
			eu1.set(t, 30080, "10.0.0.1")
			time.Sleep(time.Second)
			synctest.Wait()
			require.NoError(t, c.Status().Ready())
		})
	})
}

func TestPlanAndApply(t *testing.T) {
	eu1 := newFakeCluster()
	c := newController(t, eu1)
	plan := func(nodePort int) *controller.Change {
		eu1.set(t, nodePort, "10.0.0.1")
		ch, err := c.Plan(t.Context(), "a test")
		require.NoError(t, err)
		return ch
	}
	first := plan(30080)
	require.NoFileExists(t, filepath.Join(c.Dir.Path, "haproxy.cfg"), "Plan writes nothing")
	require.Equal(t, []kube.Cause{{What: "a test"}}, first.Report.Changes.Causes)
	outcome, err := c.Apply(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, controller.Written, outcome)
	same := plan(30080)
	require.True(t, same.Diff.Empty())
	require.Equal(t, first.ID(), same.ID())
	outcome, err = c.Apply(t.Context(), same)
	require.NoError(t, err)
	require.Equal(t, controller.Unchanged, outcome)

	other := plan(30090)
	outcome, err = c.Apply(t.Context(), other)
	require.ErrorContains(t, err, other.ID())
	require.Equal(t, controller.Refused, outcome)
	require.Nil(t, report(t, c).Refused)
	c.Limit = func(ch *controller.Change) error {
		if ch.Report.Services[0].NodePort != 30090 {
			return errors.New("another port")
		}
		return nil
	}
	outcome, err = c.Apply(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, controller.Written, outcome)
}

// TestPlanWithoutACluster: a cluster that does not answer keeps the servers that the report lists.
// If the report lists none, Plan fails.
func TestPlanWithoutACluster(t *testing.T) {
	eu1 := newFakeCluster()
	c := newController(t, eu1)
	away := controller.ClusterState{Err: errors.New("no route to host")}
	eu1.state <- away
	_, err := c.Plan(t.Context(), "a test")
	require.EqualError(t, err, "cluster eu-1: no route to host")
	eu1.set(t, 30080, "10.0.0.1")
	ch, err := c.Plan(t.Context(), "a test")
	require.NoError(t, err)
	_, err = c.Apply(t.Context(), ch)
	require.NoError(t, err)
	eu1.state <- away
	ch, err = c.Plan(t.Context(), "a test")
	require.NoError(t, err)
	require.True(t, ch.Diff.Empty())
	require.Contains(t, ch.Report.Problems[0].Message, "does not answer")
}

func TestFieldsThatAreRequired(t *testing.T) {
	require.ErrorContains(t, (&controller.Controller{}).Run(t.Context()), "must be set")
	_, err := (&controller.Controller{}).Plan(t.Context(), "")
	require.ErrorContains(t, err, "must be set")
}
