package protect_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func TestAsk(t *testing.T) {
	subjects := []protect.Subject{
		{Node: "recent", Protected: true, Ours: true, Since: ago(time.Minute), Wanted: ago(3 * time.Hour)},
		{Node: "old", Protected: true, Ours: true, Since: ago(time.Hour)},
		{Node: "never", Wanted: ago(time.Hour)},
		{Node: "foreign", Protected: true, Wanted: ago(time.Hour)},
		{Node: "gone", Taken: true, Wanted: ago(time.Hour)},
		{Node: "", Wanted: ago(time.Hour)},
	}
	require.Equal(t, []string{"never", "old", "recent"}, protect.Ask(subjects, protect.Settings{}), "protected longest comes first")
	require.Equal(t, []string{"recent", "never"}, protect.Ask(subjects, protect.Settings{OnDemand: true}), "waited longest comes first")
}

func TestNext(t *testing.T) {
	const (
		protectIt = "protect"
		free      = "free"
		release   = "release"
	)
	grant := func(change func(*gate.Grant)) *gate.Grant {
		g := &gate.Grant{Node: "n", Holder: "h", Taken: ago(time.Minute), TTL: time.Hour}
		if change != nil {
			change(g)
		}
		return g
	}
	old := func(g *gate.Grant) { g.Taken = ago(2*time.Hour + 2*time.Minute) }
	unprotected := protect.Subject{Node: "n"}
	protected := protect.Subject{Node: "n", Protected: true, Ours: true, Since: ago(3 * time.Hour)}
	foreign := protect.Subject{Node: "n", Protected: true}
	wanted := protected
	wanted.Wanted = ago(time.Hour)
	with := func(x protect.Subject, change func(*protect.Subject)) protect.Subject { change(&x); return x }
	for _, tt := range []struct {
		name     string
		x        protect.Subject
		may      bool
		grant    *gate.Grant
		onDemand bool
		want     []string
	}{
		{"not granted", unprotected, false, nil, false, []string{protectIt}},
		{"protected", protected, false, nil, false, nil},
		{"protected by somebody else", foreign, false, nil, false, nil},
		{"no terminator uses it", protected, true, nil, false, []string{free}},
		{"no terminator uses it, and somebody else protects it", foreign, true, nil, false, nil},
		{"granted", protected, true, grant(nil), false, []string{free}},
		{"granted and free", unprotected, true, grant(nil), false, nil},
		{"granted, but pending", protected, false, grant(func(g *gate.Grant) { g.Pending = true }), false, nil},
		{"free for too long", unprotected, true, grant(old), false, []string{protectIt}},
		{"protected after it was free, and not settled", with(protected, func(x *protect.Subject) { x.Since = ago(time.Minute) }), true, grant(old), false, nil},
		{"protected after it was free, and settled", with(protected, func(x *protect.Subject) { x.Since = ago(2 * time.Minute) }), true, grant(old), false, []string{release}},
		{"protected by somebody else after it was free", foreign, true, grant(old), false, []string{release}},
		{"gone", unprotected, true, grant(func(g *gate.Grant) { old(g); g.Went = ago(time.Hour) }), false, nil},
		{"back", unprotected, true, grant(func(g *gate.Grant) { old(g); g.Went, g.Back = ago(time.Hour), now }), false, []string{protectIt}},
		{"back and protected", protected, true, grant(func(g *gate.Grant) { old(g); g.Went, g.Back = ago(time.Hour), now }), false, nil},
		{"back for the hold-down", protected, true, grant(func(g *gate.Grant) { old(g); g.Went, g.Back = ago(time.Hour), ago(time.Minute) }), false, []string{release}},
		{"taken", with(unprotected, func(x *protect.Subject) { x.Taken = true }), false, nil, false, nil},
		{"not wanted", protected, true, nil, true, nil},
		{"wanted", wanted, false, nil, true, nil},
		{"wanted and granted", wanted, true, grant(nil), true, []string{free}},
		{"wanted, and no terminator uses it", wanted, true, nil, true, []string{free}},
		{"no longer wanted", with(unprotected, func(x *protect.Subject) { x.Protected = false }), true, grant(nil), true, []string{protectIt}},
		{"no longer wanted, and settled", protected, true, grant(nil), true, []string{release}},
		{"a new machine without a node", protect.Subject{}, false, nil, true, []string{protectIt}},
		{"a deleted machine without a node", protect.Subject{Protected: true, Ours: true, Wanted: now}, false, nil, true, []string{free}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var may []string
			var grants []gate.Grant
			if tt.may {
				may = []string{"n"}
			}
			if tt.grant != nil {
				grants = []gate.Grant{*tt.grant}
			}
			p := protect.Next([]protect.Subject{tt.x}, protect.Held{May: may, Grants: grants}, protect.Settings{OnDemand: tt.onDemand}, now)
			var got []string
			for range p.Protect {
				got = append(got, protectIt)
			}
			for range p.Release {
				got = append(got, release)
			}
			for range p.Free {
				got = append(got, free)
			}
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.name == "wanted", p.Waiting == 1)
		})
	}
}

func TestAll(t *testing.T) {
	p := protect.All([]protect.Subject{{Node: "a"}, {Node: "b", Protected: true, Wanted: now}, {Node: "c", Taken: true}})
	require.Equal(t, protect.Plan{Protect: []protect.Subject{{Node: "a"}}, Waiting: 1}, p)
}

func TestGrantsOfNodesThatNoLongerExist(t *testing.T) {
	grants := []gate.Grant{
		{Node: "used"},
		{Node: "unused"},
		{Node: "pending", Pending: true},
		{Node: "back", Went: ago(time.Hour), Back: ago(time.Minute)},
		{Node: "just-back", Went: ago(time.Hour), Back: now},
	}
	p := protect.Next(nil, protect.Held{Grants: grants, Unused: []string{"unused", "pending"}}, protect.Settings{}, now)
	require.Equal(t, protect.Plan{Release: []string{"unused", "back"}}, p)
}
