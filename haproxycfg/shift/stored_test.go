package shift_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/shift"
)

func TestStored(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := order(t)
	one := shift.Shift{Order: o, Status: shift.Moving, Step: 1, Since: now, Until: now.Add(time.Hour)}
	of := func(route string) shift.Shift {
		x := one
		x.Route, x.From = route, "old"
		return x
	}
	paused := of("c.example.com/")
	paused.Status, paused.Step, paused.Reason = shift.Paused, 0, "errors"
	state := shift.State{ClosePoints: 7}.With(one, of("b.example.com/"), of("z.example.com/"), paused)
	stored, err := state.Stored()
	require.NoError(t, err)
	require.Len(t, stored.Shifts, 1)
	require.Len(t, stored.Clusters, 2)
	require.Equal(t, []string{"b.example.com/", "z.example.com/"}, stored.Clusters[0].Routes)
	text, err := json.Marshal(stored)
	require.NoError(t, err)
	var again shift.Stored
	require.NoError(t, json.Unmarshal(text, &again))
	got, err := again.State()
	require.NoError(t, err)
	require.True(t, state.Equal(got))

	// An earlier version has stored each route of a cluster on its own.
	text, err = state.AppendJSON(nil)
	require.NoError(t, err)
	var old shift.Stored
	require.NoError(t, json.Unmarshal(text, &old))
	got, err = old.State()
	require.NoError(t, err)
	require.True(t, state.Equal(got))

	stored.Clusters[1].Routes = []string{"b.example.com/"}
	_, err = stored.State()
	require.ErrorContains(t, err, "one occurs twice")
}
