package endpoints_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// confirmAfter is how long missing endpoints stay.
const confirmAfter = 5 * time.Minute

type objects = []*discoveryv1.EndpointSlice

// The function "of" makes an EndpointSlice of another service in the namespace ns.
func of(service string, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	return s
}

// pods returns n endpoints. Their addresses are consecutive and begin with 10.0.0.FIRST, where
// FIRST is the argument "first".
func pods(first, n int) []discoveryv1.Endpoint {
	var list []discoveryv1.Endpoint
	for i := first; i < first+n; i++ {
		list = append(list, pod(fmt.Sprint("p", i), fmt.Sprint("10.0.0.", i)))
	}
	return list
}

func has(t *testing.T, tracker *endpoints.Tracker, service string, n int) {
	t.Helper()
	pods, _ := tracker.Services().Pods(nodeselect.Ref{Namespace: "ns", Service: service, Port: "http"})
	require.Len(t, pods, n, "pods of %s", service)
}

func TestTracker(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	tracker := endpoints.NewTracker(nodeselect.AddressPolicy{})
	require.Empty(t, tracker.Changed())
	tracker.Replace(objects{slice("x", "1", pods(1, 2)...), of("u", slice("u", "1", pods(8, 1)...))}, now)
	require.Equal(t, []string{"ns/s", "ns/u"}, tracker.Changed())
	before := tracker.Services()

	tracker.Set(slice("x", "1", pods(1, 2)...), now)
	tracker.Replace(objects{slice("x", "1", pods(1, 2)...), of("u", slice("u", "1", pods(8, 1)...))}, now)
	require.Empty(t, tracker.Changed(), "the same again")
	require.Same(t, before["ns/s"], tracker.Services()["ns/s"])

	tracker.Set(slice("y", "2", pods(3, 1)...), now)
	require.Equal(t, []string{"ns/s"}, tracker.Changed())
	has(t, tracker, "s", 3)
	require.Len(t, before["ns/s"].Ports(), 1)
	old, _ := before.Pods(nodeselect.Ref{Namespace: "ns", Service: "s", Port: "http"})
	require.Len(t, old, 2, "a change must not show in earlier Services")

	tracker.Set(of("u", slice("y", "3", pods(3, 1)...)), now)
	require.Equal(t, []string{"ns/s", "ns/u"}, tracker.Changed(), "a slice changes its service")
	has(t, tracker, "s", 2)
	has(t, tracker, "u", 2)

	tracker.Delete("ns", "x")
	tracker.Delete("ns", "unknown")
	require.Equal(t, []string{"ns/s"}, tracker.Changed(), "the watch reports deletions")
	require.NotContains(t, tracker.Services(), "ns/s")

	unlabelled := slice("y", "4", pods(3, 1)...)
	unlabelled.Labels = nil
	tracker.Set(unlabelled, now)
	require.Equal(t, []string{"ns/u"}, tracker.Changed())
	has(t, tracker, "u", 1)
	require.NoError(t, tracker.Err())
}

func TestTrackerDoubts(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	full := func() objects {
		return objects{slice("x", "1", pods(1, 5)...), slice("y", "1", pods(6, 4)...), of("u", slice("u", "1", pods(20, 20)...))}
	}
	u := of("u", slice("u", "1", pods(20, 20)...))
	own := slice("kubernetes", "1", pods(99, 1)...)
	own.Namespace = "default"
	tests := []struct {
		name  string
		after func(t *testing.T, tracker *endpoints.Tracker)
	}{
		{"a service shrinks by more than half", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(1, 4)...), u}, start)
			require.Equal(t, []string{"ns/s"}, tracker.Changed(), "the version of the slice x has changed")
			has(t, tracker, "s", 9)
			require.EqualError(t, tracker.Err(), "endpoints of ns/s: a list lacks 5 of 9; they are kept until 1970-01-01T00:05:00Z")
			require.Equal(t, start, tracker.Since())
			tracker.Confirm(start.Add(confirmAfter - 1))
			has(t, tracker, "s", 9)
			tracker.Replace(objects{slice("x", "2", pods(1, 4)...), u}, start.Add(time.Minute)) // this does not start the five minutes again
			tracker.Changed()
			tracker.Confirm(start.Add(confirmAfter))
			require.Equal(t, []string{"ns/s"}, tracker.Changed())
			has(t, tracker, "s", 4)
			require.NoError(t, tracker.Err())
			require.Zero(t, tracker.Since())
		}},
		{"a service shrinks by half", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(1, 5)...), u}, start)
			has(t, tracker, "s", 5)
			require.NoError(t, tracker.Err())
		}},
		{"a rollout replaced all pods", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(100, 9)...), u}, start)
			has(t, tracker, "s", 9)
			require.NoError(t, tracker.Err())
		}},
		{"a service is gone", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{u}, start)
			has(t, tracker, "s", 9)
			tracker.Confirm(start.Add(confirmAfter))
			require.NotContains(t, tracker.Services(), "ns/s")
			require.Equal(t, []string{"ns/s"}, tracker.Changed())
		}},
		{"all services together shrink by more than half", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(1, 5)...), of("u", slice("u", "2", pods(20, 5)...))}, start)
			has(t, tracker, "s", 9)
			has(t, tracker, "u", 20)
			require.EqualError(t, tracker.Err(), "endpoints of ns/s: a list lacks 4 of 9; they are kept until 1970-01-01T00:05:00Z; the same for 1 other service")
			tracker.Replace(full(), start)
			require.NoError(t, tracker.Err())
			require.Zero(t, tracker.Since())
		}},
		{"an empty list removes nothing", func(t *testing.T, tracker *endpoints.Tracker) {
			for _, list := range []objects{nil, {own}} {
				tracker.Replace(list, start)
				tracker.Answered(start.Add(time.Hour))
				tracker.Set(own, start.Add(time.Hour))
				tracker.Confirm(start.Add(2 * time.Hour))
				has(t, tracker, "s", 9)
				require.ErrorContains(t, tracker.Err(), "endpoints of ns/s: a list lacks 9 of 9; they are kept while the API server has no objects (since 1970-01-01T00:00:00Z)")
			}
			tracker.Set(slice("z", "3", pods(1, 1)...), start.Add(2*time.Hour))
			tracker.Confirm(start.Add(2*time.Hour + confirmAfter - 1))
			has(t, tracker, "s", 9)
			tracker.Confirm(start.Add(2*time.Hour + confirmAfter))
			has(t, tracker, "s", 1)
			has(t, tracker, "u", 0)
		}},
		{"the API server was away", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{u}, start)
			tracker.Answered(start.Add(time.Minute))
			tracker.Confirm(start.Add(confirmAfter))
			has(t, tracker, "s", 9)
			require.Equal(t, start, tracker.Since())
			tracker.Confirm(start.Add(confirmAfter + time.Minute))
			has(t, tracker, "s", 0)
		}},
		{"missing endpoints appear in other slices", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{u}, start)
			tracker.Set(slice("new", "5", append(pods(1, 8), pod("p9", "10.0.0.9", notReady))...), start)
			require.NoError(t, tracker.Err())
			got, _ := tracker.Services().Pods(nodeselect.Ref{Namespace: "ns", Service: "s", Port: "http"})
			require.Len(t, got, 9)
			require.False(t, got[8].Ready, "the new state counts")
		}},
		{"a change of a slice says nothing about missing endpoints", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(1, 4)...), u}, start)
			tracker.Set(slice("x", "3", pods(1, 3)...), start)
			has(t, tracker, "s", 8)
			require.Error(t, tracker.Err())
		}},
		{"a watch deletes a slice", func(t *testing.T, tracker *endpoints.Tracker) {
			tracker.Replace(objects{slice("x", "2", pods(1, 1)...), u}, start)
			tracker.Delete("ns", "x")
			has(t, tracker, "s", 4)
			tracker.Delete("ns", "y")
			require.NotContains(t, tracker.Services(), "ns/s")
			require.NoError(t, tracker.Err())
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tracker := endpoints.NewTracker(nodeselect.AddressPolicy{})
			tracker.Replace(full(), start)
			require.NoError(t, tracker.Err())
			tracker.Changed()
			test.after(t, tracker)
		})
	}
}

// After any changes without a doubtful list, a Tracker has the same Services as Group makes from
// all slices, and Changed names exactly the services that differ.
func TestTrackerEqualsGroup(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		tracker := endpoints.NewTracker(nodeselect.AddressPolicy{})
		now := map[string]*discoveryv1.EndpointSlice{}
		before := map[string]string{}
		for step := range 60 {
			name := fmt.Sprint("slice", r.IntN(6))
			switch s := of(fmt.Sprint("s", r.IntN(3)), slice(name, fmt.Sprint(step+1), pods(1+r.IntN(5), r.IntN(4))...)); r.IntN(4) {
			case 0:
				delete(now, name)
				tracker.Delete("ns", name)
			case 1:
				now["extra"] = s
				s.Name = "extra"
				tracker.Replace(slices.Collect(maps.Values(now)), time.Time{})
			default:
				now[name] = s
				tracker.Set(s, time.Time{})
			}
			if tracker.Err() != nil {
				tracker.Confirm(time.Unix(1<<40, 0))
			}
			want := describe(endpoints.Group(slices.Collect(maps.Values(now)), nodeselect.AddressPolicy{}))
			require.Equal(t, want, describe(tracker.Services()), "seed %d step %d", seed, step)
			changed := tracker.Changed()
			for key := range want {
				if before[key] != want[key] {
					require.Contains(t, changed, key)
				}
			}
			for key := range before {
				if _, found := want[key]; !found {
					require.Contains(t, changed, key)
				}
			}
			before = want
		}
	}
}

func describe(services endpoints.Services) map[string]string {
	texts := map[string]string{}
	for key, svc := range services {
		pods, problems := svc.Pods("http")
		texts[key] = fmt.Sprint(pods, problems)
	}
	return texts
}

// TrimSlice keeps everything that this package reads.
func TestTrimSlice(t *testing.T) {
	t.Parallel()
	full := slice("x", "7", pod("a", "10.0.0.1", func(e *discoveryv1.Endpoint) {
		e.Addresses = append(e.Addresses, "10.0.0.2")
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		e.TargetRef.UID = "1"
	}), pod("b", "10.0.0.3", notReady), pod("c", "10.0.0.4", func(e *discoveryv1.Endpoint) { e.NodeName, e.Zone, e.TargetRef = nil, nil, nil }))
	full.Annotations = map[string]string{"a": "b"}
	full.Labels["other"] = "label"
	full.ManagedFields = append(full.ManagedFields, full.ManagedFields...)
	trimmed := endpoints.TrimSlice(full)
	require.Equal(t, describe(endpoints.Group(objects{full}, nodeselect.AddressPolicy{})), describe(endpoints.Group(objects{trimmed}, nodeselect.AddressPolicy{})))
	require.Equal(t, "7", trimmed.ResourceVersion)
	require.Nil(t, trimmed.Annotations)
	require.Len(t, trimmed.Labels, 1)
	require.Len(t, trimmed.Endpoints[0].Addresses, 1)
	require.Nil(t, trimmed.Endpoints[0].Hints)
	require.Empty(t, trimmed.Endpoints[0].TargetRef.UID)
	full.Labels = nil
	require.Nil(t, endpoints.TrimSlice(full).Labels)
}
