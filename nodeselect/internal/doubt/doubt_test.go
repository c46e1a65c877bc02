package doubt_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/internal/doubt"
)

func TestLossy(t *testing.T) {
	for _, test := range []struct {
		known, lacks, gains int
		want                bool
	}{
		{0, 0, 0, false},
		{1, 1, 0, true},
		{2, 1, 0, false},
		{9, 4, 0, false},
		{9, 5, 0, true},
		{9, 9, 9, false},
		{9, 9, 4, true},
		{9, 0, 20, false},
	} {
		require.Equal(t, test.want, doubt.Lossy(test.known, test.lacks, test.gains), "%+v", test)
	}
}

// The time of a doubt begins when the first doubtful list arrives. It begins again when an API
// server without objects has objects, and when an API server answers again after a failure.
func TestDoubt(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(0, 0).Add(time.Duration(minute) * time.Minute) }
	missing := func() map[string]bool { return map[string]bool{"a": true, "b": true} }
	var d doubt.Doubt[string]
	require.NoError(t, d.Err("nodes"))
	require.False(t, d.Clear())
	require.False(t, d.Seen("a"))
	require.False(t, d.Answered(at(0)))

	d.Begin(3, missing(), true, at(0))
	require.EqualError(t, d.Err("nodes"), "nodes: a list lacks 2 of 3; they are kept while the API server has no objects (since 1970-01-01T00:00:00Z)")
	require.False(t, d.Answered(at(60)))
	require.Nil(t, d.Confirmed(at(60)))
	require.True(t, d.Appeared(at(60)))
	require.False(t, d.Appeared(at(61)))
	require.Nil(t, d.Confirmed(at(64)))
	d.Begin(3, missing(), false, at(64)) // the time continues
	require.Equal(t, missing(), d.Confirmed(at(65)))
	require.True(t, d.Answered(at(65)))
	require.Nil(t, d.Confirmed(at(69)))
	require.EqualError(t, d.Err("nodes"), "nodes: a list lacks 2 of 3; they are kept until 1970-01-01T01:10:00Z")
	require.False(t, d.Seen("a"))
	require.True(t, d.Seen("b"))
	require.Nil(t, d.Missing())

	d.Begin(2, missing(), true, at(0))
	d.Begin(2, missing(), false, at(10)) // a list with objects starts the time
	require.Nil(t, d.Confirmed(at(14)))
	require.NotNil(t, d.Confirmed(at(15)))
	require.True(t, d.Clear())
}
