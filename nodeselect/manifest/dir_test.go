package manifest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/filewatch"

	"github.com/headgate/headgate/nodeselect"
)

const nodeText = "apiVersion: v1\nkind: Node\nmetadata:\n  name: %s\n  labels: {rev: %q}\n"

func nodeYAML(names ...string) string {
	var docs []string
	for _, name := range names {
		docs = append(docs, fmt.Sprintf(nodeText, name, "1"))
	}
	return strings.Join(docs, "---\n")
}

// call is one call of WatchDir's function.
type call struct {
	nodes    string
	problems []nodeselect.Problem
}

// startWatch runs w until the test ends, and returns the calls.
func startWatch(t *testing.T, w dirWatch) <-chan call {
	t.Helper()
	calls := make(chan call)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.run(ctx, func(o nodeselect.Objects, problems []nodeselect.Problem) {
			var names []string
			for _, n := range o.Nodes {
				names = append(names, n.Name)
			}
			select {
			case calls <- call{strings.Join(names, " "), problems}:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return calls
}

// quickWatch has a short quiet time. Its rechecks are so rare that a test passes only with events.
func quickWatch(dir string) dirWatch {
	return dirWatch{dir: dir, watch: filewatch.Watcher{
		Quiet: 30 * time.Millisecond, MaxWait: time.Second, Recheck: time.Hour,
	}}
}

func next(t *testing.T, calls <-chan call) call {
	t.Helper()
	select {
	case c := <-calls:
		return c
	case <-time.After(time.Minute):
		t.Fatal("WatchDir does not call")
		return call{}
	}
}

// settled waits for the call with these nodes. WatchDir may read the directory between two steps of
// a change, so other calls may come first.
func settled(t *testing.T, calls <-chan call, nodes string) call {
	t.Helper()
	for {
		if c := next(t, calls); c.nodes == nodes {
			return c
		}
	}
}

// clean waits for the call with these nodes and no problems.
func clean(t *testing.T, calls <-chan call, nodes string) {
	t.Helper()
	for {
		if c := settled(t, calls, nodes); len(c.problems) == 0 {
			return
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestWatchDir(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	put(t, a, nodeYAML("a"))
	calls := startWatch(t, quickWatch(dir))
	require.Equal(t, call{"a", nil}, next(t, calls))

	put(t, b, nodeYAML("b"))
	settled(t, calls, "a b")
	put(t, b, nodeYAML("b")) // the same content, so no call
	put(t, filepath.Join(dir, "notes.txt"), "x")
	put(t, a, nodeYAML("a", "c"))
	require.Equal(t, "a b c", settled(t, calls, "a b c").nodes)

	// Many editors save a file by renaming a new one.
	put(t, filepath.Join(dir, ".a.swp"), nodeYAML("d"))
	require.NoError(t, os.Rename(filepath.Join(dir, ".a.swp"), a))
	clean(t, calls, "b d")

	require.NoError(t, os.Remove(a))
	clean(t, calls, "b")
}

func TestWatchDirKeepsObjectsOfABrokenFile(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a.yaml")
	put(t, a, nodeYAML("a", "b"))
	calls := startWatch(t, quickWatch(dir))
	require.Equal(t, "a b", next(t, calls).nodes)
	for _, broken := range []string{
		"", // a shell has created the file, and kubectl has not written yet
		"apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: a\n", // half of the file
		nodeYAML("a") + "---\nkind: [\n", // one document broken
		nodeYAML("a") + "---\n" + strings.Replace(nodeYAML("b"), "labels: {", "labels: {x: 1, ", 1), // b has a label of a wrong type
	} {
		put(t, a, broken)
		var c call
		for c = next(t, calls); len(c.problems) == 0 || c.problems[0].File != a; c = next(t, calls) {
		}
		require.Equal(t, "a b", c.nodes, "%q", broken)
		last := c.problems[len(c.problems)-1]
		require.True(t, last.Warning)
		require.Contains(t, last.Message, "kept as they were read before")
		put(t, a, nodeYAML("a", "b"))
		for c = next(t, calls); len(c.problems) > 0; c = next(t, calls) {
		}
		require.Equal(t, "a b", c.nodes)
	}
	// WatchDir uses a new object of a broken file at once, and keeps the old objects.
	put(t, a, nodeYAML("c")+"---\nkind: [\n")
	require.Len(t, settled(t, calls, "a b c").problems, 2)
	put(t, a, nodeYAML("c"))
	require.Empty(t, settled(t, calls, "c").problems)
}

// Kubernetes updates a mounted ConfigMap by replacing the symbolic link ..data.
func TestWatchDirFollowsConfigMaps(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		put(t, filepath.Join(dir, name, "nodes.yaml"), text)
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..2026_1", nodeYAML("a"))
	require.NoError(t, os.Symlink(filepath.Join("..data", "nodes.yaml"), filepath.Join(dir, "nodes.yaml")))
	calls := startWatch(t, quickWatch(dir))
	require.Equal(t, call{"a", nil}, next(t, calls))
	version("..2026_2", nodeYAML("b"))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
	clean(t, calls, "b")
	version("..2026_3", nodeYAML("c"))
	clean(t, calls, "c")
}

// While the directory is gone, WatchDir keeps its objects. If somebody makes a new directory with
// this name, WatchDir reads it.
func TestWatchDirComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	require.NoError(t, os.Mkdir(dir, 0o700))
	put(t, filepath.Join(dir, "a.yaml"), nodeYAML("a"))
	calls := startWatch(t, quickWatch(dir))
	require.Equal(t, call{"a", nil}, next(t, calls))

	require.NoError(t, os.Rename(dir, dir+".old"))
	gone := next(t, calls)
	require.Equal(t, "a", gone.nodes)
	require.Len(t, gone.problems, 1)
	require.Contains(t, gone.problems[0].Message, "its objects are kept")

	require.NoError(t, os.Mkdir(dir, 0o700))
	put(t, filepath.Join(dir, "b.yaml"), nodeYAML("b"))
	require.Empty(t, settled(t, calls, "b").problems)
	put(t, filepath.Join(dir, "c.yaml"), nodeYAML("c")) // an event of the new directory
	settled(t, calls, "b c")
}

// Without an event, WatchDir notices a change at the next recheck.
func TestWatchDirWithoutEvents(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	target := filepath.Join(far, "nodes.yaml")
	put(t, target, nodeYAML("a"))
	require.NoError(t, os.Symlink(target, filepath.Join(dir, "nodes.yaml")))
	w := quickWatch(dir)
	w.watch.Recheck = 20 * time.Millisecond
	calls := startWatch(t, w)
	require.Equal(t, call{"a", nil}, next(t, calls))
	put(t, target, nodeYAML("b")) // no event in dir
	settled(t, calls, "b")
}

func TestWatchDirReadsAfterTheLongestWait(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	put(t, path, nodeYAML("a"))
	w := dirWatch{dir: dir, watch: filewatch.Watcher{
		Quiet: time.Hour, MaxWait: 100 * time.Millisecond, Recheck: time.Hour,
	}}
	calls := startWatch(t, w)
	require.Equal(t, "a", next(t, calls).nodes)
	put(t, path, nodeYAML("b"))
	settled(t, calls, "b")
}

func TestWatchDirErrors(t *testing.T) {
	never := func(nodeselect.Objects, []nodeselect.Problem) { panic("called") }
	err := WatchDir(t.Context(), filepath.Join(t.TempDir(), "missing"), never)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "nodeselect/manifest: ")
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	require.Error(t, WatchDir(t.Context(), file, never))

	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	err = WatchDir(ctx, t.TempDir(), func(o nodeselect.Objects, problems []nodeselect.Problem) {
		calls++
		require.Empty(t, o.Nodes)
		require.Empty(t, problems)
		cancel(errors.New("enough"))
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, calls)
}

// If a file cannot be read, the method "read" reports a change once, and not at every reading.
func TestReadAgain(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.yaml"), nodeYAML("a"))
	w := quickWatch(dir)
	require.True(t, w.read())
	require.False(t, w.read())
	require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "a.yaml")))
	require.True(t, w.read())
	require.False(t, w.read())
	objects, problems := w.result()
	require.Len(t, objects.Nodes, 1)
	require.Len(t, problems, 2)
	require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
	put(t, filepath.Join(dir, "a.yaml"), nodeYAML("a"))
	require.True(t, w.read())
	_, problems = w.result()
	require.Empty(t, problems)
	require.NoError(t, os.RemoveAll(dir))
	require.True(t, w.read())
	require.False(t, w.read())
}
