//go:build unix && !aix && !illumos && !solaris

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const lockDir = "HAPROXYCFG_TEST_LOCK_DIR"

// TestLockChild is the process that applies a configuration, possibly as another user.
func TestLockChild(t *testing.T) {
	dir := os.Getenv(lockDir)
	if dir == "" {
		return // this is not the child process
	}
	syscall.Umask(0o077)
	d := &Dir{Path: dir, Mode: 0o664}
	changed, err := d.Apply(t.Context(), testConfig("/run", 18080, 1, 2))
	require.NoError(t, err)
	require.True(t, changed)
}

// applyInChild runs TestLockChild for the directory path, with the umask 077. The child runs as the
// user in the argument. If the argument is nil, it runs as the user of this process.
func applyInChild(t *testing.T, path string, user *syscall.Credential) {
	t.Helper()
	self := filepath.Join(t.TempDir(), "test") // the directory of os.Args[0] is private, so the child needs a copy
	data, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(self, data, 0o700))
	openParents(t, self)
	child := exec.Command(self, "-test.run=^TestLockChild$")
	child.Env, child.Dir = append(os.Environ(), lockDir+"="+path), "/"
	child.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// openParents lets all users reach a path below the directory for temporary files.
func openParents(t *testing.T, path string) {
	t.Helper()
	for ; path != filepath.Clean(os.TempDir()) && path != "/"; path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755))
	}
}

func lockInfo(t *testing.T, path string) (mode os.FileMode, owner *syscall.Stat_t) {
	t.Helper()
	info, err := os.Stat(filepath.Join(path, lockName))
	require.NoError(t, err)
	return info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
}

// TestLockMode requires that exactly the users who may write to the directory may open the lock
// file. The umask of the first process does not matter.
func TestLockMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.Chmod(path, 0o770))
	applyInChild(t, path, nil)
	mode, _ := lockInfo(t, path)
	require.Equal(t, os.FileMode(0o660), mode)
	for dir, want := range map[os.FileMode]os.FileMode{
		0o700: 0o600, 0o755: 0o600, 0o750: 0o600, 0o770: 0o660, 0o775: 0o660, 0o777: 0o666,
	} {
		require.NoError(t, os.Chmod(path, dir))
		_, err := (&Dir{Path: path}).WriteAuxiliary(t.Context())
		require.NoError(t, err)
		mode, _ := lockInfo(t, path)
		require.Equal(t, want, mode, "the directory has the mode %o", dir)
	}
}

// TestLockOfOtherUsers requires that the owner of the directory and the members of its group can
// lock a file that root has created.
func TestLockOfOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	const uid, group = 65534, 12345
	apply := func(path string) {
		t.Helper()
		_, err := (&Dir{Path: path, Mode: 0o664}).Apply(t.Context(), testConfig("/run", 18080, 1))
		require.NoError(t, err)
	}
	newDir := func(uid, gid int, mode os.FileMode) (path string) {
		t.Helper()
		path = filepath.Join(t.TempDir(), "out")
		require.NoError(t, os.MkdirAll(filepath.Join(path, mapsDir), 0o755))
		openParents(t, path)
		for _, name := range []string{path, filepath.Join(path, mapsDir)} {
			require.NoError(t, os.Chown(name, uid, gid))
			require.NoError(t, os.Chmod(name, mode))
		}
		return path
	}
	t.Run("member of the group", func(t *testing.T) {
		path := newDir(0, group, 0o770)
		apply(path)
		mode, lock := lockInfo(t, path)
		require.Equal(t, os.FileMode(0o660), mode)
		require.EqualValues(t, group, lock.Gid)
		applyInChild(t, path, &syscall.Credential{Uid: uid, Gid: group})
	})
	t.Run("directory that gets its group later", func(t *testing.T) {
		path := newDir(0, 0, 0o755)
		apply(path)
		for _, name := range []string{path, filepath.Join(path, mapsDir)} {
			require.NoError(t, os.Chown(name, 0, group))
			require.NoError(t, os.Chmod(name, 0o775))
		}
		applyInChild(t, path, &syscall.Credential{Uid: uid, Gid: group})
		mode, lock := lockInfo(t, path)
		require.Equal(t, os.FileMode(0o660), mode)
		require.EqualValues(t, group, lock.Gid)
		apply(path)
	})
	t.Run("owner", func(t *testing.T) {
		path := newDir(uid, 0, 0o755)
		apply(path)
		mode, lock := lockInfo(t, path)
		require.Equal(t, os.FileMode(0o600), mode)
		require.EqualValues(t, uid, lock.Uid)
		applyInChild(t, path, &syscall.Credential{Uid: uid, Gid: group})
		require.NoError(t, os.Chmod(path, 0o775))
		apply(path)
		mode, _ = lockInfo(t, path)
		require.Equal(t, os.FileMode(0o660), mode, "root changes the file of the directory's owner")
	})
}

// TestLockChangesNoOtherFile: a user who may write to the directory has put another file in the
// place of the lock file. Apply does not change the mode of that file.
func TestLockChangesNoOtherFile(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	write := func(_, lock string) error { return os.WriteFile(lock, []byte("x"), 0o600) }
	for _, tt := range []struct {
		name  string
		place func(target, lock string) error
		to    string
		fails bool
	}{
		{"symbolic link", os.Symlink, other, true},
		{"symbolic link to nothing", os.Symlink, other + "-none", true},
		{"hard link", os.Link, other, false},
		{"file with content", write, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(other, nil, 0o600))
			d := &Dir{Path: t.TempDir()}
			require.NoError(t, os.Chmod(d.Path, 0o777))
			require.NoError(t, tt.place(tt.to, d.file(lockName)))
			_, err := d.WriteAuxiliary(t.Context())
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.NoFileExists(t, other+"-none")
			if !tt.fails {
				mode, _ := lockInfo(t, d.Path)
				require.Equal(t, os.FileMode(0o600), mode)
			}
			info, err := os.Stat(other)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		})
	}
}
