package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// newCanary returns a Canary whose approved routes have the ID "a".
func newCanary(t testing.TB) *Canary {
	t.Helper()
	packed, err := Pack(table(t).Routes())
	require.NoError(t, err)
	var none *Canary
	return none.Approve("a", packed, noon)
}

// TestNext tells for each state what a terminator with the name "edge-1" does.
func TestNext(t *testing.T) {
	const patience = 5 * time.Minute
	approved := newCanary(t)
	trial := func(by string) *Canary {
		return approved.Try(Trial{Declarations: "b", Terminator: by, Since: noon.Add(time.Hour)})
	}
	withdrawn := trial("edge-2").Withdraw("a probe failed", noon.Add(2*time.Hour))
	later := approved.Approve("b", approved.Routes, noon.Add(3*time.Hour))
	for _, tt := range []struct {
		name   string
		canary *Canary
		member Member
		want   Step
		serves bool // its declared routes
	}{
		{"no routes are approved yet", nil, Member{Declarations: "a"}, Approve, true},
		{"the approved routes are declared", approved, Member{Declarations: "a"}, Follow, true},
		{"new routes", approved, Member{Declarations: "b"}, Begin, false},
		{"its trial", trial("edge-1"), Member{Declarations: "b"}, Observe, true},
		{"newer routes during its trial", trial("edge-1"), Member{Declarations: "c"}, Begin, true},
		{"the approved routes again during its trial", trial("edge-1"), Member{Declarations: "a"}, End, true},
		{"trial of another terminator", trial("edge-2"), Member{Declarations: "b", Waited: patience - 1}, Wait, false},
		{"trial of another terminator, which has died", trial("edge-2"), Member{Declarations: "b", Waited: patience}, Begin, false},
		{"trial of other routes by another terminator", trial("edge-2"), Member{Declarations: "c"}, Wait, false},
		{"trial of another terminator, and old declarations", trial("edge-2"), Member{Declarations: "a", Waited: patience}, Follow, true},
		{"withdrawn", withdrawn, Member{Declarations: "b", Fresh: true}, Wait, false},
		{"other routes after a withdrawal", withdrawn, Member{Declarations: "c"}, Begin, false},
		{"the approved routes after a withdrawal", withdrawn, Member{Declarations: "a"}, Follow, true},
		{"old declarations", later, Member{Declarations: "a"}, Wait, false},
		{"a change back to old declarations", later, Member{Declarations: "a", Fresh: true}, Begin, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.member.Terminator = "edge-1"
			require.Equal(t, tt.want, tt.canary.Next(tt.member, patience))
			require.Equal(t, tt.serves, tt.canary.Serves("edge-1", tt.member.Declarations))
		})
	}
}

func TestCanaryKeepsEarlierRoutes(t *testing.T) {
	c := newCanary(t)
	require.Empty(t, c.Earlier)
	c = c.Try(Trial{Declarations: "b", Terminator: "edge-1", Since: noon}).Withdraw("bad", noon)
	c = c.Try(Trial{Declarations: "c", Terminator: "edge-1", Since: noon})
	require.Equal(t, []string{"b"}, c.Earlier)
	c = c.Approve("c", c.Routes, noon.Add(time.Hour))
	require.Equal(t, []string{"b", "a"}, c.Earlier)
	c = c.Approve("a", c.Routes, noon.Add(2*time.Hour))
	require.Equal(t, []string{"b", "c"}, c.Earlier, "without the approved routes")
	require.Nil(t, c.Trial)
	for i := range 20 {
		c = c.Approve(fmt.Sprint(i), c.Routes, noon)
		require.NoError(t, c.Check())
	}
	require.Len(t, c.Earlier, maxEarlier)
	require.Equal(t, "18", c.Earlier[maxEarlier-1])
}

func TestCanaryIs(t *testing.T) {
	var none *Canary
	a := newCanary(t)
	running := a.Try(Trial{Declarations: "b", Terminator: "edge-1", Since: noon})
	withdrawn := running.Withdraw("bad", noon)
	all := []*Canary{none, a, running, withdrawn, running.Approve("b", a.Routes, noon)}
	for i := range all {
		for j := range all {
			require.Equal(t, i == j, all[i].Is(all[j]), "%d %d", i, j)
			require.Equal(t, i == j, State{Canary: all[i]}.SameRoutes(State{Canary: all[j]}))
		}
	}
	require.True(t, running.End().Is(a))
	require.False(t, State{Hold: newHold(t)}.SameRoutes(State{}))
	require.Equal(t, "edge-1 tries new routes since 2026-05-01T12:00:00Z", running.Trial.String())
	require.Equal(t, "new routes, which edge-1 tried, are withdrawn since 2026-05-01T12:00:00Z: bad", withdrawn.Trial.String())
}

func TestCanaryInAState(t *testing.T) {
	c := newCanary(t).Try(Trial{Declarations: "b", Terminator: "edge-1", Since: noon, Failing: []string{"http://a/=200"}, Responses: 3, Errors: 2, ConnErrors: 1})
	c = c.Withdraw(strings.Repeat("é", 600)+"\nx", noon)
	require.Len(t, c.Trial.Cause, maxCause)
	c = c.Withdraw("two\nlines", noon)
	require.Equal(t, "two lines", c.Trial.Cause)
	text, err := State{Canary: c}.AppendJSON(nil)
	require.NoError(t, err)
	again, err := Parse(text)
	require.NoError(t, err)
	require.Equal(t, c, again.Canary)
	got, problems, err := again.Canary.Table()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, table(t), got)

	for want, change := range map[string]func(*Canary){
		"canary.declarations, ":       func(c *Canary) { c.Declarations = "" },
		`canary.declarations, earlie`: func(c *Canary) { c.Earlier = []string{"\n"} },
		"canary.earlier: ":            func(c *Canary) { c.Earlier = strings.Split("123456789", "") },
		"canary.approved: ":           func(c *Canary) { c.Approved = time.Time{} },
		"canary.routes: ":             func(c *Canary) { c.Routes = nil },
		"canary.trial.declarations: ": func(c *Canary) { c.Trial.Declarations = "" },
		"canary.trial.terminator: ":   func(c *Canary) { c.Trial.Terminator = "" },
		"canary.trial.since: ":        func(c *Canary) { c.Trial.Since = time.Time{} },
		"canary.trial.cause: ":        func(c *Canary) { c.Trial.Cause = "a\nb" },
		"canary.trial.failing: ":      func(c *Canary) { c.Trial.Failing = make([]string, 33) },
	} {
		k, trial := *c, *c.Trial
		k.Trial = &trial
		change(&k)
		_, err := State{Canary: &k}.AppendJSON(nil)
		require.ErrorContains(t, err, want)
	}
}
