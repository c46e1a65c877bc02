package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// order runs "terminator rollback" or "terminator release" for the running terminator.
func (s *shiftWorld) order(args ...string) (code int, output string) {
	s.t.Helper()
	var out bytes.Buffer
	args = append(args, "-admin", s.admin, "-admin-token-file", s.token)
	env := func(name string) (string, bool) { return "ada", name == "USER" }
	code = run(s.t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &out, LookupEnv: env})
	return code, out.String()
}

// status returns the status of the answer to a request for a host.
func (s *shiftWorld) status(host string) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url, http.NoBody)
	require.NoError(s.t, err)
	request.Host = host
	response, err := s.client.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(s.t, err)
	return response.StatusCode
}

// TestRollback adds a route while a real HAProxy runs, and rolls it back. The terminator holds the
// earlier routes over a restart, and applies the latest ones after the release.
func TestRollback(t *testing.T) {
	w := newShiftWorld(t)
	added := shiftRoutes + "- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n"
	w.replace("routes.yaml", added)
	w.eventually("HAProxy serves the new host", func() bool { return w.status("new.example.com") == 200 })
	w.eventually("the change is in the journal", func() bool {
		_, lines := w.journal("-admin", w.admin)
		return strings.Contains(lines[0], "new.example.com/: added")
	})
	w.waitMetric("headgate_terminator_hold_age_seconds 0")

	code, text := w.order("rollback", "-reason", "errors of new")
	require.Equal(t, cli.ExitOK, code, text)
	require.Equal(t, "in force\n", text)
	w.eventually("HAProxy does not serve the new host", func() bool { return w.status("new.example.com") == 404 })
	require.Equal(t, 200, w.status("api.example.com"))
	w.eventually("/readyz shows the hold", func() bool {
		code, text := w.do("GET", "/readyz")
		return code == 200 && strings.Contains(text, "by ada@") && strings.Contains(text, "(errors of new): the routes of ") &&
			strings.Contains(text, "newer declarations would change routes: 1 added (new.example.com/)")
	})
	_, metrics := w.do("GET", "/metrics")
	clitest.Scrape(t, metrics)
	require.NotContains(t, metrics, "headgate_terminator_hold_age_seconds 0\n")

	// A change of declarations is not applied, and a restart does not end the hold.
	w.replace("routes.yaml", added+"- host: third.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	w.eventually("the pending change is known", func() bool {
		_, text := w.do("GET", "/hold")
		return strings.Contains(text, "2 added (new.example.com/, third.example.com/)")
	})
	w.stop()
	w.watcher = w.watchIn(w.dir, w.flags...)
	w.waitReady()
	require.Equal(t, 404, w.status("third.example.com"))
	code, text = w.order("rollback", "none")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, text, "no applied change has the ID")

	code, text = w.order("release")
	require.Equal(t, cli.ExitOK, code, text)
	w.eventually("HAProxy serves the third host", func() bool { return w.status("third.example.com") == 200 })
	w.waitMetric("headgate_terminator_hold_age_seconds 0")
	code, text = w.order("release")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, text, "no routes are held")
}

func TestRollbackFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"-admin is needed":             {"rollback", "abc"},
		"terminator release: -admin: ": {"release", "-admin", "unix:"},
		"unknown flag -reason":         {"release", "-reason", "x"},
		"unexpected argument":          {"rollback", "-admin", "unix:a", "b", "c"},
	} {
		var out bytes.Buffer
		code := run(t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &out})
		require.Equal(t, cli.ExitUsage, code, out.String())
		require.Contains(t, out.String(), want)
	}
	require.NotEmpty(t, caller(cli.Invocation{}))
}
