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

// After a restart, the numbers are the same, without the numbers that are older than Window.
func TestExpectedAfterARestart(t *testing.T) {
	type counts = map[string]int
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minute float64) time.Time { return start.Add(time.Duration(minute * float64(time.Minute))) }
	var before Expected
	before.Update(at(0), podsOf(counts{"a": 12, "b": 3}))
	before.Update(at(2), podsOf(counts{"a": 6, "b": 3}))
	before.Update(at(3), podsOf(counts{"a": 4}))
	text := before.encode(at(4))
	require.JSONEq(t, `{"a":[{"pods":12,"until":"2026-01-01T00:02:00Z"},{"pods":6,"until":"2026-01-01T00:03:00Z"},{"pods":4,"until":"2026-01-01T00:04:00Z"}],
		"b":[{"pods":3,"until":"2026-01-01T00:03:00Z"}]}`, string(text))

	after, err := decodeExpected(text, at(5))
	require.NoError(t, err)
	require.Equal(t, counts{"a": 12, "b": 3}, after.Zones(at(5)))
	after.Update(at(5), podsOf(counts{"a": 1, "c": 1}))
	require.Equal(t, counts{"a": 12, "b": 3, "c": 1}, after.Zones(at(5)))
	require.Equal(t, at(12), after.Next())
	require.Equal(t, counts{"a": 6, "b": 3, "c": 1}, after.Zones(at(12)))
	require.Equal(t, counts{"a": 4, "c": 1}, after.Zones(at(13)))
	require.Equal(t, counts{"a": 1, "c": 1}, after.Zones(at(14)))

	old, err := decodeExpected(text, at(14))
	require.NoError(t, err)
	require.Empty(t, old.Zones(at(14)))
	future, err := decodeExpected(text, at(-60)) // the clock has gone back
	require.NoError(t, err)
	require.Equal(t, counts{"a": 12, "b": 3}, future.Zones(at(-60)))
	require.Empty(t, future.Zones(at(-50)))

	for text, want := range map[string]string{
		`{"a":[{"pods":0}]}`:            "0 pods",
		`{"a":[{"pods":1000001}]}`:      "1000001 pods",
		`{"a":[{"pods":3},{"pods":3}]}`: "do not fall",
		`{"a":[{"pods":3,"until":"2026-01-01T00:03:00Z"},{"pods":2,"until":"2026-01-01T00:02:00Z"}]}`: "do not fall",
		`{"a":[`: "unexpected end",
	} {
		_, err := decodeExpected([]byte(text), start)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzDecodeExpected(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeExpected(data, now)
		if err != nil {
			return
		}
		want := e.Zones(now)
		again, err := decodeExpected(e.encode(now), now)
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, want, again.Zones(now))
		e.Update(now, podsOf(map[string]int{"a": 3}))
		require.GreaterOrEqual(t, e.Zones(now)["a"], max(3, want["a"]))
	})
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
