//go:build unix && !aix && !illumos && !solaris

package deploy

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const lockDir = "HAPROXYCFG_TEST_LOCK_DIR"

// TestLockChild is the process that applies a configuration as another user.
func TestLockChild(t *testing.T) {
	dir := os.Getenv(lockDir)
	if dir == "" {
		return // this is not the child process
	}
	d := &Dir{Path: dir, Mode: 0o664}
	changed, err := d.Apply(t.Context(), testConfig("/run", 18080, 1, 2))
	require.NoError(t, err)
	require.True(t, changed)
}

// The lock file gets the mode and the group of the directory, so that the members of the group can
// apply a configuration too, whatever the umask of the first process was.
func TestLockOfAGroup(t *testing.T) {
	umask := syscall.Umask(0o077)
	defer syscall.Umask(umask)
	path := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.Mkdir(path, 0o700))
	d := &Dir{Path: path, Mode: 0o664}
	apply := func(want os.FileMode) {
		t.Helper()
		_, err := d.Apply(t.Context(), testConfig("/run", 18080, 1))
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join(path, lockName))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), "mode %v", info.Mode())
	}
	apply(0o600)
	for dir, lock := range map[os.FileMode]os.FileMode{0o755: 0o644, 0o750: 0o640, 0o770: 0o660, 0o775: 0o664} {
		require.NoError(t, os.Chmod(path, dir))
		apply(lock)
	}
	if os.Getuid() != 0 {
		return // only root can become another user
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	require.NoError(t, err)
	const group = 12345
	for dir := path; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	asNobody := func() {
		t.Helper()
		self := filepath.Join(t.TempDir(), "test") // the directory of os.Args[0] is private
		data, err := os.ReadFile(os.Args[0])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(self, data, 0o700))
		for dir := self; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
		child := exec.Command(self, "-test.run=^TestLockChild$")
		child.Env, child.Dir = append(os.Environ(), lockDir+"="+path), "/"
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: group}}
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	// A member of the directory's group.
	for name, mode := range map[string]os.FileMode{path: 0o770, filepath.Join(path, mapsDir): 0o770} {
		require.NoError(t, os.Chmod(name, mode))
		require.NoError(t, os.Chown(name, -1, group))
	}
	apply(0o660)
	asNobody()
	// The new owner of the directory may not write to root's lock file, but may lock it.
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.Chmod(path, 0o755))
	apply(0o644)
	for _, name := range []string{path, filepath.Join(path, mapsDir)} {
		require.NoError(t, os.Chmod(name, 0o755))
		require.NoError(t, os.Chown(name, int(uid), -1))
	}
	asNobody()
}

// A lock file that another open file has locked makes Apply wait until its context ends.
func TestLockIsExclusive(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	unlock, err := lockFile(t.Context(), d.file(lockName))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lockFile(ctx, d.file(lockName))
	require.ErrorIs(t, err, context.Canceled)
	unlock()
	unlock, err = lockFile(t.Context(), d.file(lockName))
	require.NoError(t, err)
	unlock()
}
