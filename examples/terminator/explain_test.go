package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
)

func (w *world) explain(args ...string) (code int, output string) {
	w.t.Helper()
	var out bytes.Buffer
	code = run(w.t.Context(), cli.Invocation{Args: append([]string{"explain"}, args...), Stdout: &out, Stderr: &out})
	return code, out.String()
}

// TestExplain: the running terminator, and the command without one, explain a route in the same
// way, with the states of the servers in a real HAProxy.
func TestExplain(t *testing.T) {
	w := newShiftWorld(t)
	const target = "http://API.example.com/tracks/7?x=1"
	var online string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(online)
		}
	})
	w.eventually("the servers are up", func() bool {
		var code int
		code, online = w.explain("-admin", w.admin, target)
		return code == cli.ExitOK && strings.Count(online, "; now UP, weight ") == 2 && strings.Contains(online, "check L4OK")
	})
	for _, part := range []string{
		"route: api.example.com/tracks, declared at " + w.path("routes.yaml") + ":2, protocol http1\n  in force: yes, configuration ",
		"service eu-1/media/tracks:http: declared weight 100, 100% of the requests, node port ",
		"n0 127.0.0.1: all eligible nodes are used",
		"service eu-2/media/tracks:http: declared weight 0, 0% of the requests",
	} {
		require.Contains(t, online, part)
	}
	code, text := w.explain("-json", target, "-admin", w.admin)
	require.Equal(t, cli.ExitOK, code, text)
	var e explain.Explanation
	require.NoError(t, json.Unmarshal([]byte(text), &e))
	require.Empty(t, e.HAProxy)
	require.Equal(t, "/tracks/7", e.Path)
	require.NotNil(t, e.Services[1].Nodes[0].Servers[0].Now)

	flags := slices.Concat([]string{"-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1"), "-out", w.dir}, w.flags)
	code, offline := w.explain(append(flags, target)...)
	require.Equal(t, cli.ExitOK, code, offline)
	require.Equal(t, withoutStates(online), withoutStates(offline))
	require.Contains(t, offline, "; now ")
}

// withoutStates removes what changes with time.
func withoutStates(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "; now ")
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}

func TestExplainFailures(t *testing.T) {
	w := newWorld(t)
	flags := []string{"-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1"), "-out", w.path("out"), "-http", ":8080"}
	code, text := w.explain(append(flags, "nowhere.example.com/x")...)
	require.Equal(t, cli.ExitOK, code, text)
	require.Contains(t, text, "route: none. HAProxy answers 404: no route declares nowhere.example.com\n  in force: no, HAProxy does not run this yet\n")
	require.NoDirExists(t, w.path("out"), "explain writes nothing")
	for want, args := range map[string][]string{
		"want HOST/PATH":      flags,
		"-admin: ":            {"-admin", "unix:", "a.example"},
		"-out are needed":     {"a.example"},
		"cannot be used here": append([]string{"-once", "a.example"}, flags...),
		"percent-encoding":    append([]string{"a.example/ü"}, flags...),
	} {
		code, text := w.explain(args...)
		require.Equal(t, cli.ExitUsage, code, text)
		require.Contains(t, text, want)
	}
	code, text = w.explain("-admin", "unix:"+w.path("none.sock"), "a.example")
	require.Equal(t, cli.ExitFailed, code, text)
	require.Contains(t, text, "none.sock")
}
