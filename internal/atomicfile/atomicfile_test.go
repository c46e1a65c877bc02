package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/atomicfile"
)

func TestUpdate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	changed, err := atomicfile.Update(file, []byte("one"), 0o640)
	require.NoError(t, err)
	require.True(t, changed)
	before, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o640, before.Mode().Perm())

	changed, err = atomicfile.Update(file, []byte("one"), 0o640)
	require.NoError(t, err)
	require.False(t, changed)
	same, err := os.Stat(file)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, same), "Update does not write the same content again")

	changed, err = atomicfile.Update(file, []byte("two"), 0o640)
	require.NoError(t, err)
	require.True(t, changed)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))

	_, err = atomicfile.Update(filepath.Join(file, "below"), nil, 0o640)
	require.Error(t, err, "the parent is a file")
}

func TestFailedWriteKeepsTheOldContent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, atomicfile.Write(file, []byte("old"), 0o644, nil))
	boom := errors.New("boom")
	require.ErrorIs(t, atomicfile.Write(file, []byte("new"), 0o644, func() error { return boom }), boom)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "old", string(data))
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "the temporary file is removed")
}

func TestStage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.map")
	content := func() string {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(data)
	}
	require.NoError(t, atomicfile.Write(file, []byte("old"), 0o644, nil))
	dropped, err := atomicfile.Stage(file, []byte("dropped"), 0o644)
	require.NoError(t, err)
	s, err := atomicfile.Stage(file, []byte("new"), 0o640)
	require.NoError(t, err)
	atomicfile.RemoveLeftovers(dir, func(string) bool { return true })
	dropped.Discard()
	require.Equal(t, "old", content())
	require.NoError(t, s.Commit(nil))
	s.Discard()
	require.Equal(t, "new", content())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o640, info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	_, err = atomicfile.Stage(filepath.Join(file, "below"), nil, 0o640)
	require.Error(t, err, "the parent is a file")
}

// TestErrorsNameTheFile requires errors that name the file, not the temporary one, so that the same
// failure has the same text each time.
func TestErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.MkdirAll(filepath.Join(taken, "below"), 0o755))
	for _, file := range []string{filepath.Join(dir, "none", "haproxy.cfg"), taken} {
		err := atomicfile.Write(file, []byte("new"), 0o644, nil)
		var path *fs.PathError
		require.ErrorAs(t, err, &path)
		require.Equal(t, file, path.Path)
		require.EqualError(t, atomicfile.Write(file, []byte("new"), 0o644, nil), err.Error())
	}
}
