package configmap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/fleet/configmap"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/kubeclient"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
)

var _ fleet.Store = (*configmap.Store)(nil)

func newStore(server *kubewatchtest.Server) *configmap.Store {
	return &configmap.Store{
		Config:    func() (*rest.Config, error) { return server.Config(), nil },
		Namespace: "headgate", Name: "orders",
	}
}

func closing(points int) fleet.State { return fleet.State{Shifts: shift.State{ClosePoints: points}} }

func object(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "headgate", Name: "orders", Labels: map[string]string{"team": "edge"}}, Data: data}
}

func TestReadAndWrite(t *testing.T) {
	server := kubewatchtest.New(t)
	a, b := newStore(server), newStore(server)
	now, err := a.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, fleet.Snapshot{}, now)

	first, err := a.Write(t.Context(), closing(1), "")
	require.NoError(t, err)
	require.NotEmpty(t, first.Version)
	_, err = b.Write(t.Context(), closing(2), "")
	require.ErrorIs(t, err, fleet.ErrConflict)
	now, err = b.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, first.Version, now.Version)
	require.Equal(t, 1, now.State.Shifts.ClosePoints)
	second, err := b.Write(t.Context(), closing(2), now.Version)
	require.NoError(t, err)
	require.NotEqual(t, first.Version, second.Version)
	_, err = a.Write(t.Context(), closing(3), first.Version)
	require.ErrorIs(t, err, fleet.ErrConflict)
}

// TestOtherContentStays: somebody else has labelled the ConfigMap, and has given it another key.
func TestOtherContentStays(t *testing.T) {
	server := kubewatchtest.New(t)
	server.Set(object(map[string]string{"note": "hello"}))
	s := newStore(server)
	now, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, fleet.Snapshot{}, now, "there is no state")
	now, err = s.Write(t.Context(), closing(1), "")
	require.NoError(t, err)
	client, err := kubeclient.NewConfigMaps(server.Config(), "headgate")
	require.NoError(t, err)
	stored, err := client.Get(t.Context(), "orders", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "hello", stored.Data["note"])
	require.Equal(t, "edge", stored.Labels["team"])

	server.Set(object(map[string]string{configmap.Key: "{}"}))
	empty, err := s.Read(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, now.Version, empty.Version)
	require.NotEmpty(t, empty.Version)
	require.True(t, empty.State.Shifts.Equal(shift.State{}))

	server.Set(object(map[string]string{configmap.Key: "{"}))
	_, err = s.Read(t.Context())
	require.ErrorContains(t, err, "configmap: headgate/orders: fleet.json: ")
	_, err = s.Write(t.Context(), fleet.State{Hold: &fleet.Hold{ID: "a", Applied: time.Now(), Since: time.Now(), Routes: []byte(strings.Repeat("x", 1<<20))}}, "")
	require.ErrorContains(t, err, "a ConfigMap has at most 1048576")
}

// result is what a Store has published.
type result struct {
	now fleet.Snapshot
	err error
}

// following runs Follow until the test ends.
func following(t *testing.T, s *configmap.Store) (until func(what string, is func(result) bool)) {
	ctx, stop := context.WithCancel(t.Context())
	results := make(chan result, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Follow(ctx, func(now fleet.Snapshot, err error) { results <- result{now, err} })
	}()
	t.Cleanup(func() { stop(); <-done })
	return func(what string, is func(result) bool) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case r := <-results:
				if is(r) {
					return
				}
			case <-deadline:
				t.Fatal("not published: " + what)
			}
		}
	}
}

func TestFollow(t *testing.T) {
	server := kubewatchtest.New(t)
	a, b := newStore(server), newStore(server)
	until := following(t, b)
	until("nothing", func(r result) bool { return r.err == nil && r.now.Version == "" })
	first, err := a.Write(t.Context(), closing(1), "")
	require.NoError(t, err)
	until("the first state", func(r result) bool { return r.now.Version == first.Version && r.now.State.Shifts.ClosePoints == 1 })

	// The Store publishes the state that it writes before Write returns. After that, it publishes
	// no older state.
	second, err := b.Write(t.Context(), closing(2), first.Version)
	require.NoError(t, err)
	until("the second state", func(r result) bool { return r.now.Version == second.Version })
	third, err := a.Write(t.Context(), closing(3), second.Version)
	require.NoError(t, err)
	until("the third state", func(r result) bool {
		require.NotEqual(t, first.Version, r.now.Version)
		return r.now.Version == third.Version
	})

	server.Down()
	until("an error", func(r result) bool { return r.err != nil })
	_, err = b.Write(t.Context(), closing(4), third.Version)
	require.ErrorContains(t, err, "configmap: headgate/orders: ")
	require.NotErrorIs(t, err, fleet.ErrConflict)
	server.Up()
	until("the state again", func(r result) bool { return r.err == nil && r.now.Version == third.Version })
	server.Delete(object(nil))
	until("no state", func(r result) bool { return r.err == nil && r.now.Version == "" })
}

// TestFollowWithoutAWatch: an account that may read but not watch still gets each change.
func TestFollowWithoutAWatch(t *testing.T) {
	server := kubewatchtest.New(t)
	server.Refuse("watch", 403)
	server.Refuse("list", 403)
	a, b := newStore(server), newStore(server)
	until := following(t, b)
	first, err := a.Write(t.Context(), closing(1), "")
	require.NoError(t, err)
	until("the first state", func(r result) bool { return r.now.Version == first.Version })
	second, err := a.Write(t.Context(), closing(2), first.Version)
	require.NoError(t, err)
	until("the second state", func(r result) bool { return r.now.Version == second.Version })
}

func TestFollowWithoutAConfig(t *testing.T) {
	s := &configmap.Store{Config: func() (*rest.Config, error) { return nil, errors.New("no kubeconfig") }, Namespace: "headgate", Name: "orders"}
	following(t, s)("the error", func(r result) bool { return r.err != nil && strings.Contains(r.err.Error(), "no kubeconfig") })
	server := kubewatchtest.New(t)
	server.Forbid("configmaps", true)
	_, err := newStore(server).Read(t.Context())
	require.ErrorContains(t, err, "get is refused")
}

// control stores the shifts of a shift.Runner in a Store.
type control struct {
	t     *testing.T
	store *configmap.Store
}

func (c control) Shifts() (shift.State, error) {
	now, err := c.store.Read(c.t.Context())
	return now.State.Shifts, err
}

func (c control) SetShifts(ctx context.Context, _, next shift.State) error {
	now, err := c.store.Read(ctx)
	if err == nil {
		_, err = c.store.Write(ctx, fleet.State{Hold: now.State.Hold, Shifts: next}, now.Version)
	}
	return err
}

func (c control) CheckShift(string, string) error { return nil }

// The order for a whole cluster of 3,000 routes fits in a ConfigMap, also after a pause. A larger
// order changes nothing.
func TestShiftOfALargeCluster(t *testing.T) {
	server := kubewatchtest.New(t)
	store := newStore(server)
	var names []string
	failing := ""
	requests := uint64(0)
	r := &shift.Runner{
		Control: control{t, store},
		Routes:  func(string, string) ([]string, []shift.Left, error) { return names, nil, nil },
		Counters: func(_ context.Context, route, _ string) (target, rest shift.Counters, err error) {
			if route == failing {
				requests += 1000
				target = shift.Counters{Requests: requests, Errors: requests}
			}
			return target, rest, nil
		},
	}
	route := func(i int) string { return fmt.Sprintf("service-%05d.example.com/api", i) }
	for i := range 3000 {
		names = append(names, route(i))
	}
	order, err := shift.ParseOrder("", "eu-2:100")
	require.Error(t, err, "an order of a cluster has no route")
	order.From, order.For, order.Hold = "eu-1", shift.Duration(time.Hour), shift.Duration(time.Minute)
	left, err := r.StartCluster(t.Context(), order)
	require.NoError(t, err)
	require.Empty(t, left)
	state, err := control{t, store}.Shifts()
	require.NoError(t, err)
	require.Len(t, state.Of("eu-1"), 3000)

	now := time.Now()
	require.NoError(t, r.Tick(t.Context(), now))
	failing = route(77)
	require.NoError(t, r.Tick(t.Context(), now.Add(time.Second)))
	require.NoError(t, r.Tick(t.Context(), now.Add(2*time.Second)))
	client, err := kubeclient.NewConfigMaps(server.Config(), "headgate")
	require.NoError(t, err)
	text := func() string {
		stored, err := client.Get(t.Context(), "orders", metav1.GetOptions{})
		require.NoError(t, err)
		return stored.Data[configmap.Key]
	}
	require.Equal(t, 2, strings.Count(text(), `"from": "eu-1"`), "the paused route, and all others")
	require.Equal(t, 1, strings.Count(text(), `"status": "paused"`))
	state, err = control{t, store}.Shifts()
	require.NoError(t, err)
	paused, _ := state.Find(failing)
	require.Equal(t, shift.Paused, paused.Status)
	require.Len(t, state.Of("eu-1"), 3000)
	require.NoError(t, r.UndoCluster(t.Context(), "eu-1"))
	require.NotContains(t, text(), "eu-1")

	before := text()
	for i := range 600 { // long names instead of more routes: the race detector makes many routes slow
		names = append(names, route(3000+i)+strings.Repeat("x", 1900))
	}
	_, err = r.StartCluster(t.Context(), order)
	require.ErrorContains(t, err, "nothing is stored: the state with 0 bytes of held and approved routes and the shifts of 3600 routes has ")
	require.Equal(t, before, text())
}
