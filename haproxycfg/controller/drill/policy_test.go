package drill_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller/drill"
)

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	p, err := drill.ParsePolicy("policy.yaml", []byte(`
drills:
  api-away: {max-reloads: 0}
  zone eu-1a: {min-servers: 25%, max-refusals: off}
all:
  min-servers: 60%
  max-below: 1m
`), drill.DefaultLimits)
	require.NoError(t, err)
	all := drill.Limits{MinServers: 0.6, MaxBelow: time.Minute, MaxRefusals: 0, MaxReloads: -1}
	require.Equal(t, all, p.Of("burst", "burst"))
	require.Equal(t, drill.Limits{MinServers: 0.6, MaxBelow: time.Minute}, p.Of("api-away", "api-away"))
	require.Equal(t, drill.Limits{MinServers: 0.25, MaxBelow: time.Minute, MaxRefusals: -1, MaxReloads: -1}, p.Of("zone", "zone eu-1a"))
	for _, empty := range []string{"", "# nothing\n", "all:\n"} {
		p, err = drill.ParsePolicy("policy.yaml", []byte(empty), drill.DefaultLimits)
		require.NoError(t, err)
		require.Equal(t, drill.DefaultLimits, p.Of("zone", "zone a"))
	}
}

func TestParsePolicyFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"all: {min-servers: 0.5}":           "p.yaml:1: all.min-servers: must be a percentage from 0% to 100%",
		"all: {min-servers: 101%}":          "p.yaml:1: all.min-servers: must be a percentage from 0% to 100%",
		"all:\n  max-below: 10":             "p.yaml:2: all.max-below: must be a time with a unit, such as 10s",
		"drills:\n  zone:\n    max: 1":      "p.yaml:3: drills.zone.max: no such field",
		"drills: {zone: {max-reloads: -1}}": "p.yaml:1: drills.zone.max-reloads: must be a whole number, or off for no limit",
		"all: 5":                            "p.yaml:1: all: must be fields with values",
		"al: {}":                            "p.yaml:1: al: no such field",
		"all: {}\nall: {}":                  "p.yaml:2: all: is set twice",
		"- a":                               "p.yaml:1: must be fields with values",
		"a: {":                              "p.yaml: line 1: ",
		"all: {}\n---\nall: {}":             "p.yaml: has a second document",
		"all: {max-below: [1s]}":            "p.yaml:1: all.max-below: must be a time with a unit, such as 10s",
	} {
		_, err := drill.ParsePolicy("p.yaml", []byte(text), drill.DefaultLimits)
		require.ErrorContains(t, err, want, text)
		var fault *drill.Error
		require.True(t, errors.As(err, &fault))
	}
	// All faults of a file are reported.
	_, err := drill.ParsePolicy("p.yaml", []byte("all: {min-servers: x, max-below: y}"), drill.DefaultLimits)
	require.Equal(t, 2, strings.Count(err.Error(), "p.yaml:1: "))
}

// FuzzParsePolicy: a policy without an error has limits in range, and an error names the file.
func FuzzParsePolicy(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		p, err := drill.ParsePolicy("p.yaml", []byte(text), drill.DefaultLimits)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "p.yaml"), err)
			return
		}
		all := []drill.Limits{p.All}
		for _, l := range p.Drills {
			all = append(all, l)
		}
		for _, l := range all {
			require.True(t, l.MinServers >= 0 && l.MinServers <= 1, l)
			require.GreaterOrEqual(t, l.MaxBelow, time.Duration(0))
			require.GreaterOrEqual(t, l.MaxRefusals, -1)
			require.GreaterOrEqual(t, l.MaxReloads, -1)
		}
	})
}
