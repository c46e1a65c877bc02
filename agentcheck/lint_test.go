package agentcheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

type setup = agentcheck.Setup

const (
	allSettings = agentcheck.SettingState | agentcheck.SettingAdmin | agentcheck.SettingWeight | agentcheck.SettingMaxConn
	weightOnly  = agentcheck.SettingWeight
)

func TestLint(t *testing.T) {
	const full = "up ready 75%"
	for _, c := range []struct {
		answer string
		setup  agentcheck.Setup
		want   string // "trap word, trap word, …"
	}{
		// Complete answers without a finding.
		{full + "\n", setup{}, ""},
		{full + "\r\n", setup{}, ""},
		{full + " maxconn:30 # canary\n", setup{Owns: allSettings, Version: "2.4", Balance: "roundrobin", InitialWeight: absolute(100), Persistence: true}, ""},
		{"fail drain 0% # disk full\n", setup{}, ""},

		// Line ends and length.
		{full, setup{}, "no-line-end"},
		{"", setup{}, "no-line-end, open-setting, open-setting, open-setting"},
		{full + "\x00 down\n", setup{}, "no-line-end"},
		{"stopped#x ready 75%", setup{}, "no-line-end, glued-reason stopped#x, open-setting"},
		{strings.Repeat(" ", agentcheck.MaxLine) + "\n", setup{}, "too-long"},
		{strings.Repeat(" ", agentcheck.MaxLine-1-len(full)) + full + "\n", setup{Version: "3.0.11"}, ""},
		{strings.Repeat(" ", agentcheck.MaxLine-1-len(full)) + full + "\n", setup{Version: "3.2.26"}, "too-long"},
		{strings.Repeat(" ", agentcheck.MaxLine-1-len(full)) + full + "\n", setup{}, "too-long"},
		{strings.Repeat(" ", agentcheck.MaxLine-2-len(full)) + full + "\n", setup{}, ""},
		{"\n" + full + "\n", setup{}, "second-line, open-setting, open-setting, open-setting"},
		{full + "\ndown\n", setup{}, "second-line"},
		{full + "\n\n", setup{}, ""},

		// Words.
		{"stopped#foo up ready 75%\n", setup{}, "glued-reason stopped#foo"},
		{"up ready 75%#half\n", setup{}, "glued-reason 75%#half, open-setting"},
		{full + " maxconn:5#few\n", setup{}, "glued-reason maxconn:5#few"},
		{full + " nolb\n", setup{}, "unknown-word nolb"},
		{"up;ready 75%\n", setup{}, "unknown-word up;ready, open-setting, open-setting"},
		{"up ready 75\n", setup{}, "unknown-word 75, open-setting"},
		{"up ready 75 %\n", setup{}, "unknown-word 75, unknown-word %, open-setting"},
		{"up ready -75%\n", setup{}, "unknown-word -75%, open-setting"},
		{"up ready 7.5%\n", setup{}, "bad-number 7.5%, open-setting"},
		{full + " maxconn:x\n", setup{Owns: allSettings}, "bad-number maxconn:x, open-setting"},
		{"down up ready 75%\n", setup{}, "overridden down"},
		{"up ready ready 75%\n", setup{}, "overridden ready"},
		{"up drain ready maint 75%\n", setup{}, "overridden drain, overridden ready"},
		{"up ready 75% 50%x\n", setup{}, "overridden 75%, bad-number 50%x, open-setting"},
		{full + " maxconn:1 maxconn:2\n", setup{}, "overridden maxconn:1"},

		// Missing settings, and settings that the agent does not own.
		{"\n", setup{}, "open-setting, open-setting, open-setting"},
		{"up ready\n", setup{}, "open-setting"},
		{"up 75%\n", setup{}, "open-setting"},
		{"ready 75%\n", setup{}, "open-setting"},
		{full + "\n", setup{Owns: allSettings}, "open-setting"},
		{"75%\n", setup{Owns: weightOnly}, ""},
		{"up ready 75% maxconn:3\n", setup{Owns: weightOnly}, "foreign-setting, foreign-setting, foreign-setting"},
		{"up ready 75%\n", setup{Owns: agentcheck.SettingState | weightOnly}, "foreign-setting"},
		{"75%\n", setup{Owns: agentcheck.SettingMaxConn}, "foreign-setting, open-setting"},

		// Weights.
		{"up ready weight:50\n", setup{}, "needs-version weight:50"},
		{"up ready WEIGHT:50%\n", setup{Version: "2.6.12-1+deb12u4"}, "needs-version WEIGHT:50%"},
		{"up ready weight:50\n", setup{Version: "3.0.9"}, "needs-version weight:50"},
		{"up ready weight:50\n", setup{Version: "3.1.0"}, ""},
		{"up ready weight:50\n", setup{Version: "3.10"}, ""},
		{"up ready weight:50\n", setup{Version: "4.0-dev1"}, ""},
		{"up ready weight:500\n", setup{Version: "2.8"}, "needs-version weight:500, bad-number weight:500, open-setting"},
		{full + "\n", setup{Balance: "static-rr"}, "static-balance 75%"},
		{full + "\n", setup{Balance: "source"}, "static-balance 75%"},
		{full + "\n", setup{Balance: "URI depth 2", HashType: "map-based"}, "static-balance 75%"},
		{full + "\n", setup{Balance: "hdr(x-user)", HashType: "consistent sdbm"}, ""},
		{full + "\n", setup{Balance: "random(2)"}, ""},
		{"up ready 100%\n", setup{Balance: "static-rr"}, ""},
		{"up ready 0%\n", setup{Balance: "static-rr"}, ""},
		{"up ready weight:0\n", setup{Balance: "static-rr", Version: "3.2"}, ""},
		{"up ready weight:7\n", setup{Balance: "static-rr", Version: "3.2"}, "static-balance weight:7"},
		{"up ready weight:7\n", setup{Balance: "static-rr", Version: "3.2", InitialWeight: absolute(7)}, ""},
		{"up ready 50%\n", setup{InitialWeight: absolute(1)}, "weight-truncated 50%"},
		{"up ready 150%\n", setup{InitialWeight: absolute(1)}, "weight-truncated 150%"},
		{"up ready 200%\n", setup{InitialWeight: absolute(1)}, ""},
		{"up ready 0%\n", setup{InitialWeight: absolute(1)}, ""},
		{"up ready 75%\n", setup{InitialWeight: absolute(10)}, ""},
		{"up ready 75%\n", setup{InitialWeight: absolute(2)}, "weight-truncated 75%"},
		{"up ready 75%\n", setup{InitialWeight: absolute(0)}, "weight-truncated 75%"},
		{"up ready 0%\n", setup{InitialWeight: absolute(0)}, ""},
		{"up ready 256%\n", setup{InitialWeight: absolute(100)}, ""},
		{"up ready 257%\n", setup{InitialWeight: absolute(100)}, "weight-capped 257%"},
		{"up ready 129%\n", setup{InitialWeight: absolute(200)}, "weight-capped 129%"},
		{"up ready 256%\n", setup{}, ""},
		{"up ready 300%\n", setup{}, "weight-capped 300%"},
		{"up ready 99999999999%\n", setup{InitialWeight: absolute(1)}, ""},

		// Limits.
		{full + " maxconn:-5\n", setup{}, "maxconn-wrapped maxconn:-5"},
		{full + " maxconn:4294967296\n", setup{}, "maxconn-wrapped maxconn:4294967296"},
		{full + " maxconn:4294967295\n", setup{}, ""},
		{full + " MAXCONN:0\n", setup{}, "unlimited MAXCONN:0"},

		// Persistence.
		{"up maint 75%\n", setup{Persistence: true}, "persistence maint"},
		{"up drain 75%\n", setup{Persistence: true}, "persistence drain"},
		{"up ready 0%\n", setup{Persistence: true}, "persistence 0%"},
		{"down drain 0%\n", setup{Persistence: true}, ""},
		{"up drain 0%\n", setup{}, ""},

		// Reasons.
		{"ready 75% # why\n", setup{}, "open-setting, hidden-reason"},
		{full + " bogus # fine\n", setup{}, "unknown-word bogus, hidden-reason"},
		{"down ready 75% bogus # full\n", setup{}, "unknown-word bogus"},
		{"up ready 75% # " + strings.Repeat("x", 109) + "\n", setup{}, ""},
		{"up ready 75% # " + strings.Repeat("x", 113) + "\n", setup{}, "cut-reason"},
	} {
		t.Run(fmt.Sprintf("%.40q %+v", c.answer, c.setup), func(t *testing.T) {
			var got []string
			for _, f := range agentcheck.Lint([]byte(c.answer), c.setup) {
				got = append(got, strings.TrimSpace(string(f.Trap)+" "+f.Word))
				require.NotEmpty(t, f.Text)
				require.NotContains(t, f.Text, "%!", "a broken format")
				require.True(t, strings.HasPrefix(f.String(), string(f.Trap)+": "))
				require.Contains(t, f.String(), f.Text)
			}
			require.Equal(t, c.want, strings.Join(got, ", "))
		})
	}
}

// Lint finds nothing in a Reply that names all settings.
func TestLintIsCleanForCompleteReplies(t *testing.T) {
	for _, state := range []agentcheck.State{up, down, stopped, fail} {
		for _, admin := range []agentcheck.Admin{ready, drain, maint} {
			for _, weight := range []int{0, 1, 50, 100, 256} {
				r := reply{state, admin, percent(weight), limit(10), "a reason, with # and ;"}
				line, err := r.AppendLine(nil)
				require.NoError(t, err)
				require.Empty(t, agentcheck.Lint(line, setup{
					Owns: allSettings, Balance: "leastconn", InitialWeight: absolute(100), Version: "2.4.0",
				}), "%s", line)
			}
		}
	}
}
