package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// earlierDir stands for the directory of -out in the files of earlier versions.
const earlierDir = "/var/lib/headgate"

// TestFilesOfEarlierVersions starts with the directory that an earlier version of the terminator has
// left: testdata/files/VERSION. The present version reads each file completely. With UPDATE_FILES,
// the test first adds the files of the present version.
func TestFilesOfEarlierVersions(t *testing.T) {
	if version := os.Getenv("UPDATE_FILES"); version != "" {
		t.Run("write", func(t *testing.T) { writeFiles(t, filepath.Join("testdata/files", version)) })
	}
	for _, dir := range clitest.EarlierVersions(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) { readFiles(t, dir) })
	}
}

// writeFiles runs a terminator with a real HAProxy, adds a route, rolls it back and begins a shift.
// Then it copies the directory of -out and the manifests to dir.
func writeFiles(t *testing.T, dir string) {
	w := newShiftWorld(t)
	w.replace("routes.yaml", shiftRoutes+"- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	w.eventually("HAProxy serves the new host", func() bool { return w.status("new.example.com") == 200 })
	w.eventually("the change is in the journal", func() bool {
		_, lines := w.journal("-admin", w.admin)
		return strings.Contains(lines[0], "new.example.com/: added")
	})
	code, text := w.order("rollback", "-reason", "errors of new")
	require.Equal(t, cli.ExitOK, code, text)
	code, text = w.shift("api.example.com/tracks", "-to", "eu-2:25", "-for", "2h", "-steps", "25", "-hold", "1h", "-detach")
	require.Equal(t, cli.ExitOK, code, text)
	w.eventually("the shift is in fleet.json", func() bool {
		data, err := os.ReadFile(filepath.Join(w.dir, "fleet.json"))
		return err == nil && bytes.Contains(data, []byte("eu-2"))
	})
	require.Equal(t, cli.ExitOK, w.stop())

	require.NoError(t, os.CopyFS(filepath.Join(dir, "manifests"), os.DirFS(w.path("eu-1"))))
	out := filepath.Join(dir, "out")
	for _, pattern := range []string{"haproxy.cfg*", "report.json", "fleet.json", "journal/*", "maps/*"} {
		names, err := filepath.Glob(filepath.Join(w.dir, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		for _, name := range names {
			to := filepath.Join(out, strings.TrimPrefix(name, w.dir))
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
			require.NoError(t, os.WriteFile(to, data, 0o644))
		}
	}
	clitest.ReplaceInFiles(t, out, w.dir, earlierDir)
}

// readFiles checks that the present version reads all files in a directory that writeFiles has made.
func readFiles(t *testing.T, dir string) {
	w := newWorld(t)
	require.NoError(t, os.CopyFS(w.dir, os.DirFS(dir)))
	clitest.ReplaceInFiles(t, w.path("out"), earlierDir, w.path("out"))

	// Each value of the JSON files survives.
	report := w.read("out/report.json")
	var r kube.Report
	clitest.ReadsAll(t, "report.json", []byte(report), &r)
	require.NotEmpty(t, r.Services)
	orders := w.read("out/fleet.json")
	state, err := fleet.Parse([]byte(orders))
	require.NoError(t, err)
	again, err := state.AppendJSON(nil)
	require.NoError(t, err)
	clitest.KeepsAll(t, "fleet.json", []byte(orders), again)
	require.NotNil(t, state.Hold)
	held, problems, err := state.Hold.Table()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, []string{"api.example.com"}, held.Hosts())

	entries, faults, err := (&journal.Dir{Path: w.path("out/journal")}).List()
	require.NoError(t, err)
	require.Empty(t, faults)
	files, err := os.ReadDir(w.path("out/journal"))
	require.NoError(t, err)
	require.Len(t, entries, len(files))
	hosts := map[string]bool{}
	for i, e := range entries {
		line, _, _ := strings.Cut(w.read("out/journal/"+files[len(files)-1-i].Name()), "\n")
		clitest.ReadsAll(t, "journal", []byte(line), &journal.Entry{})
		if e.Result != journal.Applied {
			continue
		}
		s, err := (&journal.Dir{Path: w.path("out/journal")}).State(e)
		require.NoError(t, err)
		require.NotEmpty(t, s.Report.Services)
		for _, r := range s.Routes {
			hosts[r.Host] = true
		}
	}
	require.Equal(t, map[string]bool{"api.example.com": true, "new.example.com": true}, hosts)

	// A terminator of the present version continues with these files: it keeps the servers of a
	// cluster that does not answer, the routes of the hold, and the share of the shift.
	w.write("eu-1/objects.yaml", w.read("manifests/objects.yaml"))
	w.write("away.kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: away, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: away, context: {cluster: away}}]
current-context: away
`)
	w.write("routes.yaml", shiftRoutes+"- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n")
	server := ""
	for _, s := range r.Services {
		if s.Ref.Cluster == "eu-2" {
			server = fmt.Sprintf("127.0.0.1:%d", s.NodePort)
		}
	}
	require.NotEmpty(t, server)
	require.Contains(t, w.read("out/haproxy.cfg"), server)
	once := func(out string) (stderr string) {
		code, _, stderr := w.runAlone("-out", out, "-http", ":8080", "-once", "-closable", "-start-timeout", "1s", "-node-health", "kube-proxy",
			"-cluster", "eu-2=kubeconfig:"+w.path("away.kubeconfig"))
		require.Equal(t, cli.ExitOK, code, stderr)
		return stderr
	}
	restored := restore(t, w.path("out"))
	stderr := once(w.path("out"))
	require.Contains(t, w.read("out/haproxy.cfg"), server, "a cluster that does not answer keeps its servers")
	text := ""
	maps, err := filepath.Glob(w.path("out/maps/*.map"))
	require.NoError(t, err)
	for _, m := range maps {
		data, err := os.ReadFile(m)
		require.NoError(t, err)
		if strings.Contains(w.read("out/haproxy.cfg"), m) {
			text += string(data)
		}
	}
	require.NotContains(t, text, "new.example.com", "the hold is in force")
	require.Regexp(t, ` 2500/eu-2(/[0-9]+)?\n`, text, "the terminator keeps the shift; HAProxy compares its end with the clock")
	require.NotContains(t, stderr, "problem")

	// From only the files of a backup, the terminator makes the same configuration.
	once(restored)
	again, err = os.ReadFile(filepath.Join(restored, "haproxy.cfg"))
	require.NoError(t, err)
	require.Equal(t, w.read("out/haproxy.cfg"), strings.ReplaceAll(string(again), restored, w.path("out")))
	entries, faults, err = (&journal.Dir{Path: filepath.Join(restored, "journal")}).List()
	require.NoError(t, err)
	require.Empty(t, faults)
	require.GreaterOrEqual(t, len(entries), len(files))
}

// restore copies files of a terminator into an empty directory: those for which OPERATIONS.md has
// "yes" in the column "back up".
func restore(t *testing.T, from string) (to string) {
	t.Helper()
	page, err := os.ReadFile("../OPERATIONS.md")
	require.NoError(t, err)
	to = filepath.Join(t.TempDir(), "restored")
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| `terminator` \\| `([^`]+)` \\| yes").FindAllStringSubmatch(string(page), -1) {
		names = append(names, row[1])
		file := filepath.Join(from, row[1])
		switch info, err := os.Stat(file); {
		case err != nil:
			require.Equal(t, "certs-in-use", row[1]) // these terminators have no certificates
		case info.IsDir():
			require.NoError(t, os.CopyFS(filepath.Join(to, row[1]), os.DirFS(file)))
		default:
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(to, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(to, row[1]), data, 0o600))
		}
	}
	require.Equal(t, []string{"report.json", "fleet.json", "journal", "certs-in-use"}, names)
	return to
}
