//go:build unix && !aix && !illumos && !solaris

package filelock_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/filelock"
)

// A second lock of the same file fails or waits, until the first one ends.
func TestExclusive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := filelock.TryLock(file)
	require.NoError(t, err)
	_, err = filelock.TryLock(file)
	require.ErrorIs(t, err, filelock.ErrLocked)
	require.EqualError(t, err, "lock "+file+": locked by another process")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = filelock.Lock(ended, file)
	require.ErrorIs(t, err, context.Canceled)

	locked := make(chan func(), 1)
	go func() {
		unlock, err := filelock.Lock(context.Background(), file)
		if err != nil {
			t.Error(err)
			unlock = func() {}
		}
		locked <- unlock
	}()
	unlock()
	(<-locked)()
	unlock, err = filelock.TryLock(file)
	require.NoError(t, err)
	unlock()
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := filelock.TryLock(filepath.Join(dir, "none", "lock"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = filelock.Lock(t.Context(), dir)
	require.Error(t, err)
}
