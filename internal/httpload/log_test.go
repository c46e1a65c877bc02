package httpload

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// sample returns a Log whose requests ended in another order than they started.
func sample() *Log[answer] {
	l := &Log[answer]{}
	for _, r := range []struct {
		start, end int
		node       string
		err        error
	}{
		{10, 12, "a", nil},
		{30, 34, "b", nil},
		{20, 90, "a", nil},
		{40, 41, "", errors.New("no answer: EOF")},
		{50, 58, "a", nil},
		{60, 61, "", errors.New("status 503")},
		{70, 71, "", errors.New("status 503")},
		{80, 96, "b", nil},
	} {
		l.add(Request[answer]{Start: at(r.start), End: at(r.end), Answer: answer{Node: r.node}, Err: r.err})
	}
	return l
}

func onNode(name string) func(Request[answer]) bool {
	return func(r Request[answer]) bool { return r.Answer.Node == name }
}

func TestBetween(t *testing.T) {
	l := sample()
	for _, test := range []struct {
		from, to time.Time
		want     int
	}{
		{time.Time{}, time.Time{}, 8},
		{at(20), at(50), 3},
		{at(20), at(51), 4},
		{at(81), time.Time{}, 0},
		{time.Time{}, at(10), 0},
	} {
		got := l.Between(test.from, test.to)
		require.Len(t, got, test.want)
		require.Equal(t, test.want, l.Count(test.from, test.to))
		for i := 1; i < len(got); i++ {
			require.True(t, got[i-1].Start.Before(got[i].Start))
		}
	}
}

func TestFirstAndLast(t *testing.T) {
	l := sample()
	first, found := l.First(at(15), onNode("a"))
	require.True(t, found)
	require.Equal(t, at(20), first.Start)
	last, found := l.Last(at(15), onNode("a"))
	require.True(t, found)
	require.Equal(t, at(50), last.Start)
	_, found = l.Last(at(51), onNode("a"))
	require.False(t, found)
	_, found = l.First(at(51), onNode("a"))
	require.False(t, found)
	_, found = l.First(time.Time{}, onNode(""))
	require.False(t, found, "a failure has no answer")
}

func TestShares(t *testing.T) {
	node := func(r Request[answer]) string { return r.Answer.Node }
	require.Equal(t, map[string]int{"a": 3, "b": 2}, sample().Shares(time.Time{}, time.Time{}, node))
	require.Empty(t, (&Log[answer]{}).Shares(time.Time{}, time.Time{}, node))
}

func TestQuantile(t *testing.T) {
	l := sample() // 2, 4, 8, 16, 70 ms
	for q, ms := range map[float64]int{0: 2, 0.2: 4, 0.5: 8, 0.99: 70, 1: 70} {
		require.Equal(t, time.Duration(ms)*time.Millisecond, l.Quantile(time.Time{}, time.Time{}, q), fmt.Sprint(q))
	}
	require.Zero(t, l.Quantile(at(1000), time.Time{}, 0.5))
}

func TestErr(t *testing.T) {
	l := sample()
	require.NoError(t, l.Err(time.Time{}, at(40)))
	require.EqualError(t, l.Err(time.Time{}, time.Time{}),
		"httpload: 3 of 8 requests failed: 2 × status 503 (first at 12:00:00.060); 1 × no answer: EOF (first at 12:00:00.040)")
	require.Len(t, l.Failures(at(60), time.Time{}), 2)
	for i := range 10 {
		l.add(Request[answer]{Start: at(100 + i), Err: fmt.Errorf("reason %d", i)})
	}
	require.ErrorContains(t, l.Err(time.Time{}, time.Time{}), "; and 7 other reasons")
}

func TestRepeated(t *testing.T) {
	l := &Log[answer]{}
	for i, repeated := range []bool{true, false, true, true} {
		l.add(Request[answer]{Start: at(i), End: at(i + 1), Kept: true, Repeated: repeated})
	}
	require.Equal(t, 3, l.Repeated(time.Time{}, time.Time{}))
	require.Equal(t, 1, l.Repeated(at(1), at(3)))
}
