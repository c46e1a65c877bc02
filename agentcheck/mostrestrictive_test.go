package agentcheck_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

func TestMostRestrictive(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"up", "", "up"},
		{"up", "down", "down"},
		{"stopped", "down", "down"},
		{"down", "fail", "fail"},
		{"ready", "drain", "drain"},
		{"drain", "maint", "maint"},
		{"maint", "ready", "maint"},
		{"100%", "50%", "50%"},
		{"50%", "0%", "0%"},
		{"150%", "100%", "100%"},
		{"50%", "weight:40", "weight:40"},
		{"50%", "weight:50", "50%"},
		{"50%", "weight:60", "50%"},
		{"maxconn:30", "maxconn:20", "maxconn:20"},
		{"maxconn:0", "maxconn:20", "maxconn:20"},
		{"maxconn:0", "", "maxconn:0"},
		{"maxconn:0", "maxconn:4294967295", "maxconn:4294967295"},
		{"up ready 100%", "up ready 50% maxconn:7", "up ready 50% maxconn:7"},
		{"up drain 100%", "down ready 50%", "down drain 50%"},

		// Reasons.
		{"up drain 100% # cordoned", "up ready 50% # canary", "up drain 50% # cordoned"},
		{"up drain 100%", "up ready 50% # canary", "up drain 50%"},
		{"up ready 70% # a", "up ready 50% # b", "up ready 50% # b"},
		{"up maint # a", "fail ready # b", "fail maint # a"},
		{"fail # a", "drain # b", "fail drain # a"},
		{"down # a", "fail # b", "fail # a"}, // both take the server down
		{"maxconn:5 # a", "100% # b", "100% maxconn:5 # b"},
		{"maxconn:5 # a", "maxconn:6 # b", "maxconn:5 # a"},
		{"up ready # a", "# b", "up ready # a"},
		{"up ready", "up ready # b", "up ready # b"},
	} {
		t.Run(c.a+" and "+c.b, func(t *testing.T) {
			var a, b agentcheck.Reply
			require.NoError(t, a.UnmarshalText([]byte(c.a)))
			require.NoError(t, b.UnmarshalText([]byte(c.b)))
			require.Equal(t, c.want, a.MostRestrictive(b).String())
			if a.Reason == "" || b.Reason == "" || a.State.IsDown() != b.State.IsDown() {
				require.Equal(t, c.want, b.MostRestrictive(a).String(), "the other way round")
			}
		})
	}
}

// The random Replies have only a few different values, so two Replies often have the same value.
func TestMostRestrictiveLaws(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 0))
	draw := func() agentcheck.Reply {
		weights := []agentcheck.Weight{{}, percent(0), percent(50), percent(100), percent(300), absolute(0), absolute(50), absolute(100)}
		limits := []agentcheck.MaxConn{{}, limit(0), limit(1), limit(1<<32 - 1)}
		return reply{
			State:   agentcheck.State(random.IntN(5)),
			Admin:   agentcheck.Admin(random.IntN(4)),
			Weight:  weights[random.IntN(len(weights))],
			MaxConn: limits[random.IntN(len(limits))],
			Reason:  []string{"", "a", "b"}[random.IntN(3)],
		}
	}
	for range 20_000 {
		a, b, c := draw(), draw(), draw()
		for law, holds := range map[string]bool{
			"idempotent":  a.MostRestrictive(a) == a,
			"neutral":     a.MostRestrictive(reply{}) == a && reply{}.MostRestrictive(a) == a,
			"associative": a.MostRestrictive(b).MostRestrictive(c) == a.MostRestrictive(b.MostRestrictive(c)),
		} {
			if !holds {
				t.Fatalf("not %s: %q, %q, %q", law, a, b, c)
			}
		}
		ab, ba := a.MostRestrictive(b), b.MostRestrictive(a)
		if reasons := [2]string{ab.Reason, ba.Reason}; ab.Reason != ba.Reason &&
			reasons != [2]string{a.Reason, b.Reason} && reasons != [2]string{b.Reason, a.Reason} {
			t.Fatalf("%q and %q give %q", a, b, reasons)
		}
		ab.Reason, ba.Reason = "", ""
		if ab != ba {
			t.Fatalf("not commutative: %q, %q", a, b)
		}

		// The combination is at least as restrictive as each Reply.
		for _, one := range []agentcheck.Reply{a, b} {
			if ab.State < one.State || ab.Admin < one.Admin ||
				(!one.Weight.IsZero() && ab.Weight.Effective(100, -1) > one.Weight.Effective(100, -1)) {
				t.Fatalf("%q and %q give %q", a, b, ab)
			}
		}
	}
}
