package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

const newHost = `- host: new.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  check: {interval: 100ms}
`

// toEU2 sends all requests of the route to eu-2.
var toEU2 = strings.NewReplacer("port: http}", "port: http, weight: 0}", ", weight: 0}", "}").Replace(shiftRoutes)

// TestCanary runs two terminators of a fleet, each with a real HAProxy. Good routes come into force in
// both. Routes that make a probe fail are withdrawn, and only the first HAProxy has served them.
func TestCanary(t *testing.T) {
	var both []*shiftWorld
	fleet := ""
	for range 2 {
		s, w := prepareShiftWorld(t, shiftRoutes, "-canary", "-canary-for", "2s", "-probe", "http://api.example.com/tracks",
			"-fleet", "headgate-terminator/headgate-terminator")
		if fleet == "" {
			fleet = w.live("eu-3").config
		}
		s.flags = append(s.flags, "-cluster", "eu-3="+fleet)
		s.start(w)
		both = append(both, s)
	}
	a, b := both[0], both[1]
	for _, s := range both {
		s.waitMetric("headgate_terminator_canary_age_seconds 0")
	}
	a.replace("routes.yaml", shiftRoutes+newHost)
	a.eventually("the first HAProxy serves the new host", func() bool { return a.status("new.example.com") == 200 })
	b.replace("routes.yaml", shiftRoutes+newHost)
	b.eventually("the second HAProxy serves the new host", func() bool { return b.status("new.example.com") == 200 })
	require.Contains(t, a.log.String(), "the declared routes are approved")

	var before []string
	b.eventually("the change is in the journal", func() bool {
		_, before = b.journal("-admin", b.admin)
		return strings.Contains(before[0], "new.example.com/: added")
	})
	for _, s := range both {
		s.faulty.Store(true)
	}
	a.replace("routes.yaml", toEU2+newHost)
	a.eventually("the first HAProxy serves the bad route", func() bool { return a.status("api.example.com") == 500 })
	b.replace("routes.yaml", toEU2+newHost)
	a.eventually("the first HAProxy serves the old routes again", func() bool { return a.status("api.example.com") == 200 })
	cause := "the probe http://api.example.com/tracks=200 failed 3 times in a row: the status is 500"
	for _, s := range both {
		s.eventually("/readyz names the cause", func() bool {
			code, text := s.do("GET", "/readyz")
			return code == 200 && strings.Contains(text, "are withdrawn since ") && strings.Contains(text, cause)
		})
		s.waitMetric("headgate_terminator_canary_withdrawn 1")
		_, metrics := s.do("GET", "/metrics")
		clitest.Scrape(t, metrics)
		require.NotContains(t, metrics, "headgate_terminator_canary_age_seconds 0\n")
		_, page := s.do("GET", "/")
		require.Contains(t, page, "failed 3 times in a row")
		require.Equal(t, 200, s.status("new.example.com"), "the approved routes are in force")
	}
	_, lines := a.journal("-admin", a.admin)
	require.Contains(t, lines[0], cause, "the journal names the cause")
	_, after := b.journal("-admin", b.admin)
	require.Equal(t, before, after, "the second HAProxy has never served the bad routes")

	// A person with the token approves the routes in spite of the probe.
	require.Equal(t, http.StatusUnauthorized, b.postWithoutToken("/release"))
	code, text := b.order("release")
	require.Equal(t, cli.ExitOK, code, text)
	for _, s := range both {
		s.eventually("HAProxy serves the bad route", func() bool { return s.status("api.example.com") == 500 })
		s.waitMetric("headgate_terminator_canary_withdrawn 0")
	}
}

// TestCanaryOfOneTerminator: errors that HAProxy counts withdraw new routes. The trial and the
// withdrawal survive restarts of the terminator.
func TestCanaryOfOneTerminator(t *testing.T) {
	s := newShiftWorldOf(t, shiftRoutes, "-canary", "-canary-for", "1m")
	for range 100 {
		require.Equal(t, 200, s.status("api.example.com"))
	}
	s.eventually("the first routes are approved", func() bool { return strings.Contains(s.log.String(), "the declared routes are approved") })
	s.replace("routes.yaml", toEU2)
	s.waitLog("tries new routes since")
	s.stop()
	s.watcher = s.watchIn(s.dir, s.flags...)
	s.waitReady()
	s.eventually("the trial goes on", func() bool {
		_, text := s.do("GET", "/readyz")
		return strings.Contains(text, "tries new routes since")
	})
	s.faulty.Store(true)
	s.eventually("the new routes are withdrawn", func() bool {
		for range 20 {
			s.status("api.example.com")
		}
		_, text := s.do("GET", "/readyz")
		return strings.Contains(text, "are withdrawn since ") && strings.Contains(text, "all backends: ") && strings.Contains(text, "5xx responses")
	})
	s.eventually("HAProxy serves the old routes", func() bool { return s.status("api.example.com") == 200 })
	s.stop()
	s.watcher = s.watchIn(s.dir, s.flags...)
	s.waitReady()
	s.waitMetric("headgate_terminator_canary_withdrawn 1")
	require.Equal(t, 200, s.status("api.example.com"))
}

func TestCanaryFlags(t *testing.T) {
	w := newWorld(t)
	for want, args := range map[string][]string{
		"-probe needs -canary":                {"-probe", "http://a.example/"},
		"-canary cannot be used with -once":   {"-canary", "-once"},
		"-canary needs -reload":               {"-canary"},
		"-canary-for must be more than 0":     {"-canary", "-reload", "m.sock", "-canary-for", "0s"},
		"-probe: canary: \"a.example\": want": {"-canary", "-reload", "m.sock", "-probe", "a.example"},
		"-probe: there are more than 32":      append([]string{"-canary", "-reload", "m.sock"}, strings.Fields(strings.Repeat("-probe http://a.example/ ", 33))...),
	} {
		code, _, stderr := w.run(args...)
		require.Equal(t, cli.ExitUsage, code)
		require.Contains(t, stderr, want)
	}
}
