package nodeagent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDrainFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "drain")
	var log bytes.Buffer
	w := Watcher{
		Files:  []string{file, filepath.Join(dir, "none"), filepath.Join(dir, "none", "below"), dir},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	reasons := func() (reasons []string) {
		for _, r := range w.ownRequests() {
			require.False(t, r.Since.IsZero())
			reasons = append(reasons, r.Reason)
		}
		return reasons
	}
	require.NoError(t, w.readFiles())
	require.Equal(t, []string{"file " + dir}, reasons(), "a directory is a file too")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, w.readFiles())
	require.Equal(t, []string{"file " + file, "file " + dir}, reasons())

	// If stat fails, the Watcher keeps the last state of the file, and logs one line with the
	// error.
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Symlink(file, file))
	for range 2 {
		require.Error(t, w.readFiles())
		require.Equal(t, []string{"file " + file, "file " + dir}, reasons())
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.NoError(t, os.Remove(file))
	require.NoError(t, w.readFiles())
	require.Equal(t, []string{"file " + dir}, reasons())

	w = Watcher{Files: []string{"a\x00b"}}
	require.Error(t, w.readFiles())
	require.Empty(t, w.ownRequests())
}
