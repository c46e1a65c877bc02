package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
)

// journal runs "terminator journal" and returns its lines.
func (w *world) journal(args ...string) (code int, lines []string) {
	w.t.Helper()
	var out bytes.Buffer
	code = run(w.t.Context(), cli.Invocation{Args: append([]string{"journal"}, args...), Stdout: &out, Stderr: &out})
	return code, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// TestJournal adds a route while a real HAProxy runs. The running terminator lists both changes,
// and explains what was in force between them. The commands that need no running terminator do the
// same.
func TestJournal(t *testing.T) {
	w := newShiftWorld(t)
	const target = "new.example.com/x"
	w.replace("routes.yaml", shiftRoutes+"- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	var online []string
	w.eventually("the change is in the journal", func() bool {
		var code int
		code, online = w.journal("-admin", w.admin)
		return code == cli.ExitOK && strings.Contains(online[0], " applied ") && strings.Contains(online[0], "Route new.example.com/: added")
	})
	// HAProxy did not run at the start, so the terminator could not apply its first change at once.
	require.Contains(t, online[len(online)-1], " failed ")
	code, offline := w.journal("-out", w.dir)
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, online, offline)

	code, text := w.journal("-json", "-admin", w.admin)
	require.Equal(t, cli.ExitOK, code)
	var list struct{ Entries []journal.Entry }
	require.NoError(t, json.Unmarshal([]byte(strings.Join(text, "\n")), &list))
	require.Len(t, list.Entries, len(online))
	require.Contains(t, list.Entries[0].Diff, "new.example.com")
	before := slices.IndexFunc(list.Entries[1:], func(e journal.Entry) bool { return e.Result == journal.Applied })
	require.NotEqual(t, -1, before)
	added, started := journal.FormatTime(list.Entries[0].Time), journal.FormatTime(list.Entries[1+before].Time)
	failed := journal.FormatTime(list.Entries[len(online)-1].Time)
	require.True(t, strings.HasPrefix(online[0], added+" "))

	// The status page shows the same change, and HAProxy's states of the servers.
	code, page := w.do("GET", "/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "Route new.example.com/: added")
	require.Contains(t, page, "<code>"+list.Entries[0].ID+"</code>")
	require.NotEmpty(t, list.Entries[0].Reload)
	code, page = w.do("GET", "/?host=new.example.com")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "eu-1/media/tracks:http")
	require.NotContains(t, page, "The states of the servers in HAProxy are unknown")

	for _, source := range [][]string{{"-admin", w.admin}, {"-out", w.dir}} {
		at := func(time string, more ...string) (code int, text string) {
			return w.explain(append(append([]string{target, "-at", time}, source...), more...)...)
		}
		code, text := at(added)
		require.Equal(t, cli.ExitOK, code, text)
		require.Contains(t, text, "route: new.example.com/, declared at "+w.path("routes.yaml")+":9, protocol http1\n  in force: yes, configuration "+list.Entries[0].ID)
		require.Contains(t, text, "service eu-1/media/tracks:http: declared weight 100, 100% of the requests, node port ")
		require.Contains(t, text, "n0 127.0.0.1")
		code, text = at(started)
		require.Equal(t, cli.ExitOK, code, text)
		require.Contains(t, text, "route: none. HAProxy answers 404: no route declares new.example.com")
		require.Contains(t, text, "note: this was in force at "+started+", after the change of "+started+", until the change of "+added)
		code, text = at(failed)
		require.Equal(t, cli.ExitFailed, code, text)
		require.Contains(t, text, "what was in force then is unknown")
		code, text = at("0s", "-json")
		require.Equal(t, cli.ExitOK, code, text)
		var e explain.Explanation
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		require.Equal(t, list.Entries[0].ID, e.Applied.ID)
	}
	w.waitMetric("headgate_terminator_journal_errors_total 0")
}

// TestJournalOfARefusal: the journal of a refused change says how to allow it.
func TestJournalOfARefusal(t *testing.T) {
	w := newWorld(t).watch()
	w.waitConfig("10.0.0.1:30080")
	w.substitute("eu-1/objects.yaml", "30080", "30090") // 2 of 6 servers
	var lines []string
	w.eventually("the refusal is in the journal", func() bool {
		_, lines = w.journal("-admin", w.admin)
		return len(lines) == 2
	})
	require.Contains(t, lines[0], "; eu-1: Service media/tracks: spec.ports: 33.3% of the servers would go or change")
	require.Contains(t, lines[0], "/force?id=")
	require.Contains(t, lines[1], "; started")
}

func TestJournalFailures(t *testing.T) {
	w := newWorld(t)
	code, lines := w.journal("-out", w.path("none"))
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, []string{""}, lines)
	require.NoDirExists(t, w.path("none"), "journal writes nothing")
	code, text := w.explain("-at", "1h", "-out", w.path("none"), "a.example")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, text, "there are no entries")
	for want, args := range map[string][]string{
		"want either -admin or -out": nil,
		"-admin: ":                   {"-admin", "unix:"},
		"unexpected argument":        {"-out", "out", "a.example"},
	} {
		code, lines := w.journal(args...)
		require.Equal(t, cli.ExitUsage, code, lines)
		require.Contains(t, strings.Join(lines, "\n"), want)
	}
	code, text = w.explain("-at", "noon", "-out", "out", "a.example")
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, text, "-at: ")
}
