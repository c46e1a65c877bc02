package controller

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
)

// TestFilesOfEarlierVersions reads the files that an earlier version of a front proxy has left:
// testdata/files/VERSION. With UPDATE_FILES, the test first adds the files of the present version.
func TestFilesOfEarlierVersions(t *testing.T) {
	begin := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	end := begin.Add(2 * time.Minute)
	if version := os.Getenv("UPDATE_FILES"); version != "" {
		dir := filepath.Join("testdata/files", version)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		var e Expected
		e.Update(begin, podsOf(map[string]int{"a": 12, "b": 3}))
		e.Update(begin.Add(time.Minute), podsOf(map[string]int{"a": 9, "b": 3}))
		require.NoError(t, os.WriteFile(filepath.Join(dir, expectedFile), e.encode(end), 0o644))
		last := filepath.Join(dir, "policy.last-good")
		file := &PolicyFile{Path: filepath.Join(t.TempDir(), "policy.yaml"), Parse: policy.Parse, LastGood: last}
		require.NoError(t, os.WriteFile(file.Path, []byte("server: 5s\nretries: 1\nlimits: {source: {requests: 50}}\n"), 0o600))
		_, ok, err := file.Read()
		require.NoError(t, err)
		require.True(t, ok)
	}
	dirs, err := filepath.Glob("testdata/files/*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, expectedFile))
			require.NoError(t, err)
			e, err := decodeExpected(data, end)
			require.NoError(t, err)
			require.Equal(t, map[string]int{"a": 12, "b": 3}, e.Zones(end))

			// The policy file is faulty, and the front proxy uses the last good policy.
			good, err := os.ReadFile(filepath.Join(dir, "policy.last-good"))
			require.NoError(t, err)
			file := &PolicyFile{Path: filepath.Join(t.TempDir(), "policy.yaml"), Parse: policy.Parse, LastGood: filepath.Join(t.TempDir(), "last-good")}
			require.NoError(t, os.WriteFile(file.LastGood, good, 0o600))
			require.NoError(t, os.WriteFile(file.Path, []byte("server: fast\n"), 0o600))
			settings, ok, err := file.Read()
			require.Error(t, err)
			require.True(t, ok)
			require.Equal(t, 5*time.Second, settings.Server)
			require.Equal(t, 1, settings.Retries)
			require.Equal(t, 50, settings.Limits.Source.Requests)
		})
	}
}
