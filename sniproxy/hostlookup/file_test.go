package hostlookup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// loads collects the calls of File.Loaded.
type loads []string

func (l *loads) loaded(hosts *Hosts, problems []Problem, err error) {
	switch {
	case err != nil:
		*l = append(*l, "error")
	default:
		*l = append(*l, fmt.Sprintf("%d hosts, %d problems", hosts.Len(), len(problems)))
	}
}

func (l *loads) take() []string {
	got := *l
	*l = nil
	return got
}

func hostsFile(addr string) string {
	return `[{"host": "a.com", "endpoint": "` + addr + `"}]`
}

func put(t *testing.T, path, data string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(data), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	var got loads
	f := &File{Path: path, Loaded: got.loaded}
	addr := func() string {
		ep, err := f.LookupHost(t.Context(), "a.com")
		require.NoError(t, err)
		return ep.Addr
	}
	_, err := f.LookupHost(t.Context(), "a.com")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, ErrNotFound)
	require.Error(t, f.Load())
	require.Nil(t, f.Hosts())
	require.Equal(t, []string{"error"}, got.take(), "once, though it was tried twice")

	put(t, path, hostsFile("10.0.0.1"))
	require.Equal(t, "10.0.0.1", addr())
	_, err = f.LookupHost(t.Context(), "b.com")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, f.Load())
	require.Equal(t, []string{"1 hosts, 0 problems"}, got.take())

	put(t, path, hostsFile("10.0.0.2"))
	require.Equal(t, "10.0.0.1", addr(), "lookups do not read")
	require.NoError(t, f.Load())
	require.Equal(t, "10.0.0.2", addr())
	require.Equal(t, []string{"1 hosts, 0 problems"}, got.take())

	// If the file is broken or missing, the hosts stay the same, and the File calls Loaded once.
	for _, broken := range []string{"[", "", "{}", hostsFile("10.0.0.3") + "x"} {
		put(t, path, broken)
		for range 2 {
			require.Error(t, f.Load())
			require.Equal(t, "10.0.0.2", addr())
		}
		require.Equal(t, []string{"error"}, got.take())
	}
	require.NoError(t, os.Remove(path))
	for range 2 {
		require.ErrorIs(t, f.Load(), os.ErrNotExist)
	}
	require.Equal(t, "10.0.0.2", addr())
	require.Equal(t, []string{"error"}, got.take())

	// After an error, the File calls Loaded even if the content is the same as before the error.
	put(t, path, hostsFile("10.0.0.2"))
	require.NoError(t, f.Load())
	require.Equal(t, []string{"1 hosts, 0 problems"}, got.take())

	// Load also finds a write in place just after the last reading, although the size and the
	// modification time are the same.
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(hostsFile("10.0.0.4")), 0o600))
	require.NoError(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
	require.NoError(t, f.Load())
	require.Equal(t, "10.0.0.4", addr())
	got.take()

	// A malformed entry is left out.
	put(t, path, `[{"host": "a.com", "endpoint": "10.0.0.5"}, {"host": "b.com"}]`)
	require.NoError(t, f.Load())
	require.Equal(t, "10.0.0.5", addr())
	require.Equal(t, []string{"1 hosts, 1 problems"}, got.take())
	require.Equal(t, 1, f.Hosts().Len())

	// Load does not read a file whose modification time is old and in which no change is visible.
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	require.NoError(t, f.Load())
	require.NoError(t, os.WriteFile(path, []byte(`[{"host": "a.com", "endpoint": "10.0.0.6"}, {"host": "b.com"}]`), 0o600))
	require.NoError(t, os.Chtimes(path, old, old))
	require.NoError(t, f.Load())
	require.Equal(t, "10.0.0.5", addr())
	require.Empty(t, got.take())
}

func TestFileTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	data := hostsFile("10.0.0.1")
	put(t, path, data)
	require.NoError(t, (&File{Path: path, MaxSize: int64(len(data))}).Load())
	require.ErrorContains(t, (&File{Path: path, MaxSize: int64(len(data)) - 1}).Load(), "are allowed")
}

// Kubernetes updates the files of a ConfigMap by moving a link.
func TestFileThroughLink(t *testing.T) {
	dir := t.TempDir()
	for i, addr := range []string{"10.0.0.1", "10.0.0.2"} {
		version := filepath.Join(dir, fmt.Sprint("..v", i))
		require.NoError(t, os.Mkdir(version, 0o700))
		put(t, filepath.Join(version, "hosts.json"), hostsFile(addr))
	}
	link := filepath.Join(dir, "..data")
	if err := os.Symlink("..v0", link); err != nil {
		t.Fatal(err)
	}
	f := &File{Path: filepath.Join(link, "hosts.json")}
	require.NoError(t, f.Load())
	require.NoError(t, os.Symlink("..v1", link+".new"))
	require.NoError(t, os.Rename(link+".new", link))
	require.NoError(t, f.Load())
	ep, err := f.LookupHost(t.Context(), "a.com")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.2", ep.Addr)
}

func TestFileWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	loaded := make(chan *Hosts)
	ctx, cancel := context.WithCancelCause(t.Context())
	f := &File{Path: path, Interval: time.Hour, Loaded: func(hosts *Hosts, _ []Problem, _ error) {
		select {
		case loaded <- hosts:
		case <-ctx.Done():
		}
	}}
	done := make(chan error)
	go func() { done <- f.Watch(ctx) }()
	require.Nil(t, <-loaded, "the file is missing")
	for i := range 5 {
		addr := fmt.Sprint("10.0.0.", i+1)
		put(t, path, hostsFile(addr))
		for { // the Watcher may read the same content twice
			if ep, err := (<-loaded).LookupHost(ctx, "a.com"); err == nil && ep.Addr == addr {
				break
			}
		}
		ep, err := f.LookupHost(ctx, "a.com")
		require.NoError(t, err)
		require.Equal(t, addr, ep.Addr)
	}
	stop := errors.New("stop")
	cancel(stop)
	require.ErrorIs(t, <-done, stop)
}
