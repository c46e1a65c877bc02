package inputfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func put(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestRead(t *testing.T) {
	path := put(t, "file", "12345")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	for _, name := range []string{path, link} {
		data, err := Read(name, 5)
		require.NoError(t, err)
		require.Equal(t, "12345", string(data))
	}
	data, err := ReadOptional(put(t, "empty", ""), 5)
	require.NoError(t, err)
	require.NotNil(t, data, "an empty file differs from a missing file")
	data, err = ReadOptional(path+".missing", 5)
	require.NoError(t, err)
	require.Nil(t, data)
	_, err = Read(path+".missing", 5)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSizeLimit(t *testing.T) {
	path := put(t, "file", "123456")
	_, err := Read(path, 5)
	require.EqualError(t, err, "read "+path+": 6 bytes, and at most 5 are allowed")

	// A sparse file of 1 TiB needs no space on the disk. Reading it would need much memory.
	require.NoError(t, os.Truncate(path, 1<<40))
	_, err = Read(path, 1<<30)
	require.ErrorContains(t, err, "and at most 1073741824 are allowed")
}

func TestDirectoryEntriesAreSorted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"c", "a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	entries, err := ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"a", "b", "c"}, names)
	_, err = ReadDir(put(t, "file", ""))
	require.ErrorContains(t, err, "not a directory")
	_, err = ReadDir(dir + ".missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestEqual(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 10_000) // several reads
	changed := bytes.Clone(long)
	changed[len(changed)-1] = 'x'
	file := put(t, "file", "")
	for _, tt := range []struct {
		name     string
		is, want []byte
		same     bool
	}{
		{"empty", nil, nil, true},
		{"same", long, long, true},
		{"last byte", long, changed, false},
		{"longer", long, long[:len(long)-1], false},
		{"shorter", long[:len(long)-1], long, false},
		{"empty file", nil, long, false},
		{"nothing wanted", long, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, tt.is, 0o600))
			same, err := Equal(file, tt.want)
			require.NoError(t, err)
			require.Equal(t, tt.same, same)
		})
	}
	same, err := Equal(file+"-none", nil)
	require.NoError(t, err)
	require.False(t, same, "a missing file is not an empty one")
	_, err = Equal(filepath.Dir(file), nil)
	require.ErrorContains(t, err, "a directory, not a regular file")
}

// A file that another process changes or removes during Equal is not equal. This is no error.
func TestEqualWhileTheFileChanges(t *testing.T) {
	file := put(t, "file", "1")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Truncate(file, 100)
			_ = os.Remove(file)
			_ = os.WriteFile(file, []byte("1"), 0o600)
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 5_000 {
		if _, err := Equal(file, []byte("1")); !errors.Is(err, ErrNoAnswer) { // the disk may be slow
			require.NoError(t, err)
		}
	}
}

// A call that hangs is given up after 3 s. Until it returns, further calls for the same path fail
// immediately, and calls for other paths work.
func TestFileSystemThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mounted := make(chan struct{})
		var calls atomic.Int64
		hang := func(*atomic.Int64) (string, error) { calls.Add(1); <-mounted; return "content", nil }
		other := func(*atomic.Int64) (string, error) { return "other", nil }

		begin := time.Now()
		_, err := answer("read", "/away/file", hang)
		require.ErrorIs(t, err, ErrNoAnswer)
		require.EqualError(t, err, "read /away/file: the file system does not answer")
		require.Equal(t, patience, time.Since(begin))

		_, err = answer("read", "/away/file", hang)
		require.ErrorIs(t, err, ErrNoAnswer)
		require.Equal(t, patience, time.Since(begin), "the second call does not wait")
		require.EqualValues(t, 1, calls.Load())
		text, err := answer("read", "/here/file", other)
		require.NoError(t, err)
		require.Equal(t, "other", text)

		close(mounted)
		synctest.Wait()
		text, err = answer("read", "/away/file", hang)
		require.NoError(t, err)
		require.Equal(t, "content", text)
	})
}

// If the outcome and the tick come at the same time, the outcome counts.
func TestOutcomeAtTheTick(t *testing.T) {
	for range 100 { // select chooses at random
		done, tick := make(chan outcome[string], 1), make(chan time.Time, 1)
		done <- outcome[string]{result: "content"}
		tick <- time.Now()
		o, ok := await(done, tick, new(atomic.Int64))
		require.True(t, ok)
		require.Equal(t, "content", o.result)
	}
}

// A slow file system that makes progress is not given up.
func TestSlowFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, err := answer("read", "/slow/file", func(progress *atomic.Int64) (string, error) {
			for range 10 {
				time.Sleep(patience - time.Second)
				progress.Add(1)
			}
			return "content", nil
		})
		require.NoError(t, err)
		require.Equal(t, "content", text)
	})
}
