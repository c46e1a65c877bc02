//go:build unix && !aix && !illumos && !solaris

package filelock_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

const childFile = "FILELOCK_TEST_FILE"

// TestChild is the other process of TestFileThatThisUserMayNotOpen.
func TestChild(t *testing.T) {
	file := os.Getenv(childFile)
	if file == "" {
		return // this is not the child process
	}
	unlock, err := filelock.TryLock(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	unlock()
	fmt.Println("locked")
}

// TestFileThatThisUserMayNotOpen: the directory of a lock file of root gets another owner, and then
// the new owner locks the file. If this process does not run as root, it takes away its own
// permission to open the file instead.
func TestFileThatThisUserMayNotOpen(t *testing.T) {
	const uid, group = 65534, 12345
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o755))
	file := filepath.Join(dir, "lock")
	child := &syscall.SysProcAttr{}
	self, err := os.Executable()
	require.NoError(t, err)
	if os.Getuid() == 0 {
		child.Credential = &syscall.Credential{Uid: uid, Gid: group}
		data, err := os.ReadFile(self)
		require.NoError(t, err)
		self = filepath.Join(filepath.Dir(dir), "test") // other users may not read the directory of os.Executable
		require.NoError(t, os.WriteFile(self, data, 0o700))
		for path := self; path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
			require.NoError(t, os.Chmod(path, 0o755))
		}
	}
	inChild := func() string {
		cmd := exec.Command(self, "-test.run=^TestChild$")
		cmd.Env, cmd.Dir, cmd.SysProcAttr = append(os.Environ(), childFile+"="+file), "/", child
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}

	unlock, err := filelock.TryLock(file)
	require.NoError(t, err)
	if child.Credential == nil {
		require.NoError(t, os.Chmod(file, 0))
	} else {
		require.Equal(t, "open "+file+": permission denied", inChild())
		require.NoError(t, os.Chown(dir, 0, group))
	}
	require.NoError(t, os.Chmod(dir, 0o775))
	require.Equal(t, "lock "+file+": locked by another process", inChild(), "the file must stay while somebody holds its lock")
	unlock()
	require.Equal(t, "locked", inChild())
	after, err := os.Stat(file)
	require.NoError(t, err)
	if child.Credential != nil {
		require.EqualValues(t, uid, after.Sys().(*syscall.Stat_t).Uid, "the child has replaced the file")
	}
	require.Equal(t, os.FileMode(0o660), after.Mode().Perm())
	unlock, err = filelock.TryLock(file)
	require.NoError(t, err)
	require.Equal(t, "lock "+file+": locked by another process", inChild())
	unlock()
}

// TestLockedDirectory: another program keeps the directory locked. This does not keep anybody from
// locking the file.
func TestLockedDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	dir, err := os.Open(filepath.Dir(file))
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, filelock.File(dir))
	unlock, err := filelock.TryLock(file)
	require.NoError(t, err)
	unlock()
}
