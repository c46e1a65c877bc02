package controller

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/endpoints"
)

func podsOf(zones map[string]int) (pods []endpoints.Pod) {
	for zone, n := range zones {
		for i := range n {
			pods = append(pods, endpoints.Pod{Name: fmt.Sprint(zone, i), Zone: zone, Ready: true, Serving: true})
		}
	}
	return pods
}

func TestExpected(t *testing.T) {
	type counts = map[string]int
	for name, steps := range map[string][]struct {
		minute float64
		pods   counts // nil means no update
		want   counts
	}{
		"grows at once, falls after the window": {
			{0, counts{"a": 3}, counts{"a": 3}},
			{1, counts{"a": 12, "b": 2}, counts{"a": 12, "b": 2}},
			{2, counts{"a": 6, "b": 2}, counts{"a": 12, "b": 2}},
			{3, counts{"a": 4, "b": 2}, counts{"a": 12, "b": 2}},
			{11.9, nil, counts{"a": 12, "b": 2}},
			{12, nil, counts{"a": 6, "b": 2}},
			{13, nil, counts{"a": 4, "b": 2}},
			{100, nil, counts{"a": 4, "b": 2}},
		},
		"a rollout one by one": {
			{0, counts{"a": 12}, counts{"a": 12}},
			{1, counts{"a": 11}, counts{"a": 12}},
			{2, counts{"a": 12}, counts{"a": 12}},
			{20, counts{"a": 12}, counts{"a": 12}},
		},
		"a zone is lost": {
			{0, counts{"a": 2, "b": 2}, counts{"a": 2, "b": 2}},
			{1, counts{"a": 2}, counts{"a": 2, "b": 2}},
			{11, nil, counts{"a": 2}},
		},
		"nothing": {{0, counts{}, counts{}}},
	} {
		t.Run(name, func(t *testing.T) {
			var e Expected
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for _, step := range steps {
				now := start.Add(time.Duration(step.minute * float64(time.Minute)))
				if step.pods != nil {
					e.Update(now, podsOf(step.pods))
				}
				require.Equal(t, step.want, e.Zones(now), "minute %v", step.minute)
			}
		})
	}
}

// TestExpectedAgreesWithAList compares Expected with a list of all numbers.
func TestExpectedAgreesWithAList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var e Expected
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var counts []int
	var times []time.Time
	for range 2000 {
		if next := e.Next(); !next.IsZero() && random.IntN(4) == 0 && next.After(now) {
			before := e.Zones(now)
			now = next
			require.NotEqual(t, before, e.Zones(now), "Next names the time of a change")
		}
		now = now.Add(time.Duration(random.IntN(120)) * time.Second)
		counts, times = append(counts, random.IntN(10)), append(times, now)
		e.Update(now, podsOf(map[string]int{"z": counts[len(counts)-1]}))
		want := 0
		for i := range counts {
			if i == len(counts)-1 || times[i+1].After(now.Add(-Window)) {
				want = max(want, counts[i])
			}
		}
		require.Equal(t, want, e.Zones(now)["z"])
	}
}

func TestExpectedIn(t *testing.T) {
	for _, tt := range []struct {
		what  string
		zones map[string]ZoneStatus
		zone  string
		want  int
	}{
		{"all pods", map[string]ZoneStatus{"a": {InService: 12, Expected: 12}, "b": {InService: 12, Expected: 12}}, "a", 12},
		{"the zone has lost pods", map[string]ZoneStatus{"a": {InService: 6, Expected: 12}, "b": {InService: 12, Expected: 12}}, "a", 12},
		{"both zones were scaled down", map[string]ZoneStatus{"a": {InService: 6, Expected: 12}, "b": {InService: 6, Expected: 12}}, "a", 6},
		{"the other zone is lost", map[string]ZoneStatus{"a": {InService: 6, Expected: 12}, "b": {Expected: 12}}, "a", 0},
		{"one of two other zones is lost", map[string]ZoneStatus{"a": {InService: 4, Expected: 12}, "b": {Expected: 12}, "c": {InService: 12, Expected: 12}}, "a", 6},
		{"only one zone", map[string]ZoneStatus{"a": {InService: 6, Expected: 12}}, "a", 12},
		{"the zone never had pods", map[string]ZoneStatus{"b": {InService: 12, Expected: 12}}, "a", 0},
		{"no zone", map[string]ZoneStatus{"a": {InService: 6, Expected: 12}, "b": {InService: 1, Expected: 2}}, "", 14},
	} {
		require.Equal(t, tt.want, expectedIn(tt.zones, tt.zone), tt.what)
	}
}
