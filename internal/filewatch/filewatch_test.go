package filewatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
)

// start runs w until the test ends. The channel receives the content of the file path after each
// change; "" if the file is missing.
func start(t *testing.T, w Watcher, path string) <-chan string {
	t.Helper()
	contents := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	last := "never called"
	go func() {
		defer close(done)
		w.Run(ctx, func() error {
			data, err := os.ReadFile(path)
			if string(data) == last {
				return nil
			}
			last = string(data)
			select {
			case contents <- last:
			case <-ctx.Done():
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return contents
}

func expect(t *testing.T, contents <-chan string, want string) {
	t.Helper()
	for {
		select {
		case got := <-contents:
			if got == want {
				return
			}
			// One step of a test may be several changes, and Run may call the function "read" in
			// between.
		case <-time.After(time.Minute):
			t.Fatalf("no call with content %q", want)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// The function "both" runs a test twice: with events and a recheck that comes too late, and with
// rechecks only.
func both(t *testing.T, test func(t *testing.T, w Watcher)) {
	t.Run("events", func(t *testing.T) {
		test(t, Watcher{Quiet: 10 * time.Millisecond, Recheck: time.Hour})
	})
	t.Run("rechecks", func(t *testing.T) {
		test(t, Watcher{Recheck: 10 * time.Millisecond, noEvents: true})
	})
}

func TestFile(t *testing.T) {
	both(t, func(t *testing.T, w Watcher) {
		path := filepath.Join(t.TempDir(), "file")
		w.Paths = []string{path}
		contents := start(t, w, path)
		expect(t, contents, "")
		put(t, path, "created")
		expect(t, contents, "created")
		put(t, path, "writteN") // the same size and perhaps the same modification time
		expect(t, contents, "writteN")
		put(t, path+".new", "renamed")
		require.NoError(t, os.Rename(path+".new", path))
		expect(t, contents, "renamed")
		require.NoError(t, os.Remove(path))
		expect(t, contents, "")
		put(t, path, "again")
		expect(t, contents, "again")
	})
}

// Kubernetes replaces the files of a ConfigMap by moving the link ..data.
func TestConfigMap(t *testing.T) {
	both(t, func(t *testing.T, w Watcher) {
		dir := t.TempDir()
		version := func(name, text string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			put(t, filepath.Join(dir, name, "file"), text)
			require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		version("..1", "first")
		path := filepath.Join(dir, "file")
		require.NoError(t, os.Symlink(filepath.Join("..data", "file"), path))
		w.Paths = []string{path}
		contents := start(t, w, path)
		expect(t, contents, "first")
		version("..2", "second")
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "..1")))
		expect(t, contents, "second")
		version("..3", "third")
		expect(t, contents, "third")
	})
}

func TestDirectory(t *testing.T) {
	both(t, func(t *testing.T, w Watcher) {
		dir := filepath.Join(t.TempDir(), "dir")
		path := filepath.Join(dir, "file")
		w.Paths = []string{dir + "/"}
		contents := start(t, w, path)
		expect(t, contents, "")
		require.NoError(t, os.Mkdir(dir, 0o700))
		put(t, path, "created")
		expect(t, contents, "created")
		put(t, path, "changed")
		expect(t, contents, "changed")
		require.NoError(t, os.Rename(dir, dir+".old"))
		expect(t, contents, "")
		require.NoError(t, os.Mkdir(dir, 0o700))
		put(t, path, "in another directory")
		expect(t, contents, "in another directory")
		put(t, path, "changed there")
		expect(t, contents, "changed there")
	})
}

// The directory that the link points to is not watched.
func TestLinkToAnotherDirectory(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	target, path := filepath.Join(far, "target"), filepath.Join(dir, "file")
	put(t, target, "first")
	require.NoError(t, os.Symlink(target, path))
	contents := start(t, Watcher{Paths: []string{path}, Recheck: 10 * time.Millisecond}, path)
	expect(t, contents, "first")
	put(t, target, "second")
	expect(t, contents, "second")
}

func TestChangesThatNeverEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	w := Watcher{Paths: []string{path}, Quiet: time.Hour, MaxWait: 50 * time.Millisecond, Recheck: time.Hour}
	contents := start(t, w, path)
	expect(t, contents, "")
	put(t, path, "changed")
	expect(t, contents, "changed")
}

// counted runs w until the number of calls has reached the argument "enough", at most for the time
// in the argument "within". It returns the number of calls.
func counted(t *testing.T, w Watcher, within time.Duration, enough int, during func(), err error) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	calls := 0
	w.Run(ctx, func() error {
		if calls++; calls == 1 {
			during()
		}
		if calls == enough {
			cancel()
		}
		return err
	})
	return calls
}

func TestCalls(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	put(t, path, "old")
	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(path, old, old))
	w := Watcher{Paths: []string{path}, Quiet: 10 * time.Millisecond, Recheck: 10 * time.Millisecond}
	failure := errors.New("failed")

	const short = time.Second / 2
	require.Equal(t, 1, counted(t, w, short, 2, func() {}, nil), "without a change")
	require.Equal(t, 1, counted(t, w, short, 2, func() { put(t, filepath.Join(dir, "other"), "x") }, nil),
		"after a change of another file in the directory")
	require.Equal(t, 4, counted(t, w, time.Minute, 4, func() {}, failure), "while read fails")
	w.Recheck = time.Hour
	require.Equal(t, 2, counted(t, w, time.Minute, 2, func() {
		put(t, path, "new")
		require.NoError(t, os.Chtimes(path, old, old)) // only an event shows this change
	}, nil), "after a change that leaves size and modification time as they were")
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := 0
	Watcher{}.Run(ctx, func() error { calls++; return nil })
	require.Equal(t, 1, calls)
}

func TestVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	missing := VersionOf(path)
	require.True(t, VersionOf(path).Same(missing))
	require.False(t, missing.IsDir())
	require.True(t, VersionOf(filepath.Dir(path)).IsDir())

	put(t, path, "old")
	fresh := VersionOf(path)
	require.False(t, fresh.Same(missing))
	require.False(t, missing.Same(fresh))
	require.False(t, VersionOf(path).Same(fresh), "the file may change within its modification time")

	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(path, old, old))
	before := VersionOf(path)
	require.True(t, VersionOf(path).Same(before))
	require.False(t, before.Same(fresh))
	require.NoError(t, os.Chmod(path, 0o400))
	require.False(t, VersionOf(path).Same(before), "mode")
	require.NoError(t, os.Chmod(path, 0o600))
	put(t, path, "longer")
	require.NoError(t, os.Chtimes(path, old, old))
	require.False(t, VersionOf(path).Same(before), "size")
	require.NoError(t, os.Rename(path, path+".old"))
	put(t, path, "old")
	require.NoError(t, os.Chtimes(path, old, old))
	require.False(t, VersionOf(path).Same(before), "inode")
}

// Refresh makes every Watcher call its read function, although no file changes and no recheck is
// due.
func TestRefresh(t *testing.T) {
	calls := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	path := filepath.Join(t.TempDir(), "file")
	for range 2 {
		w := Watcher{Paths: []string{path}, Recheck: time.Hour, noEvents: true}
		go func() {
			w.Run(ctx, func() error {
				select {
				case calls <- struct{}{}:
				case <-ctx.Done():
				}
				return nil
			})
			done <- struct{}{}
		}()
	}
	for range 3 {
		<-calls
		<-calls
		Refresh()
	}
	<-calls
	<-calls
	cancel()
	<-done
	<-done
}

// TestRenameIsReadAtOnce: a rename that replaces the only path does not wait for the end of a burst.
func TestRenameIsReadAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	require.NoError(t, os.WriteFile(path, []byte("first"), 0o600))
	contents := start(t, Watcher{Paths: []string{path}, Quiet: time.Hour, MaxWait: time.Hour, Recheck: time.Hour}, path)
	expect(t, contents, "first")
	// Run waits after its first call, so repeat the rename until Run does not wait.
	tick, deadline := time.Tick(20*time.Millisecond), time.After(time.Minute)
	for {
		select {
		case <-contents:
			return
		case <-tick:
			require.NoError(t, os.WriteFile(path+".new", []byte("second"), 0o600))
			require.NoError(t, os.Rename(path+".new", path))
		case <-deadline:
			t.Fatal("no call after a rename")
		}
	}
}

func TestReplacedBy(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.MkdirAll(at("..1"), 0o700))
	require.NoError(t, os.Symlink("..1", at("..data")))
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.WriteFile(at("..1/"+name), nil, 0o600))
		require.NoError(t, os.Symlink("..data/"+name, at(name)))
	}
	require.NoError(t, os.WriteFile(at("plain"), nil, 0o600))
	event := func(op fsnotify.Op, name string) fsnotify.Event { return fsnotify.Event{Name: at(name), Op: op} }
	for _, x := range []struct {
		what            string
		paths           []string
		previous, event fsnotify.Event
		want            bool
	}{
		{"a file", []string{"plain"}, event(fsnotify.Rename, "plain.new"), event(fsnotify.Create, "plain"), true},
		{"the files of a ConfigMap", []string{"a", "b"}, event(fsnotify.Rename, "..data_tmp"), event(fsnotify.Create, "..data"), true},
		{"written in place", []string{"plain"}, event(fsnotify.Create, "plain.new"), event(fsnotify.Write, "plain"), false},
		{"made after another event", []string{"plain"}, event(fsnotify.Write, "plain.new"), event(fsnotify.Create, "plain"), false},
		{"moved away and made again", []string{"plain"}, event(fsnotify.Rename, "plain"), event(fsnotify.Create, "plain"), false},
		{"from another directory", []string{"plain"}, event(fsnotify.Rename, "..1/plain"), event(fsnotify.Create, "plain"), false},
		{"another file", []string{"plain"}, event(fsnotify.Rename, "x.new"), event(fsnotify.Create, "x"), false},
		{"one of two files", []string{"plain", "other"}, event(fsnotify.Rename, "plain.new"), event(fsnotify.Create, "plain"), false},
		{"one of two paths is no link", []string{"a", "plain"}, event(fsnotify.Rename, "..data_tmp"), event(fsnotify.Create, "..data"), false},
		{"a directory", []string{"..1"}, event(fsnotify.Rename, "..2"), event(fsnotify.Create, "..1"), false},
	} {
		w := watch{state: map[string]Version{}, watched: map[string]os.FileInfo{}}
		for _, path := range x.paths {
			w.paths = append(w.paths, at(path))
		}
		w.changed()
		require.Equal(t, x.want, w.replacedBy(x.previous, x.event), x.what)
	}
}
