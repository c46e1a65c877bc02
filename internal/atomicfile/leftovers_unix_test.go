//go:build unix && !aix && !illumos && !solaris

package atomicfile_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/atomicfile"
)

const childFile = "ATOMICFILE_TEST_CHILD_FILE"

// TestChild is the main function of the process that other tests kill. It makes a temporary
// directory beside the file. Then it writes the file, and prints a line just before the rename.
func TestChild(t *testing.T) {
	file := os.Getenv(childFile)
	if file == "" {
		return // this is not the child process
	}
	_, _, err := atomicfile.MkdirTemp(filepath.Dir(file), "check-")
	require.NoError(t, err)
	_ = atomicfile.Write(file, []byte("of the child"), 0o600, func() error {
		fmt.Println("written")
		select {}
	})
}

// startChild returns when the child process has written its temporary file.
func startChild(t *testing.T, file string) (kill func()) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestChild$")
	child.Env = append(os.Environ(), childFile+"="+file)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	kill = func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "written\n", line)
	return kill
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// While a process runs, its temporary files stay. After somebody has killed the process, the next
// write removes them.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "report.json")
	write := func() {
		require.NoError(t, atomicfile.Write(file, []byte("mine"), 0o600, nil))
		check, remove, err := atomicfile.MkdirTemp(dir, "check-")
		require.NoError(t, err)
		require.DirExists(t, check)
		remove()
		require.NoDirExists(t, check)
	}
	kill := startChild(t, file)
	require.Len(t, names(t, dir), 2)
	write()
	require.Len(t, names(t, dir), 3, "the child is alive: %v", names(t, dir))
	kill()
	write()
	require.Equal(t, []string{"report.json"}, names(t, dir))

	startChild(t, file)()
	changed, err := atomicfile.Update(file, []byte("mine"), 0o600)
	require.NoError(t, err)
	require.False(t, changed)
	require.Len(t, names(t, dir), 2, "only the directory is left")
}

// If one write waits before its rename, another write of the same file does not disturb it.
func TestTwoWritersOfOneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	err := atomicfile.Write(file, []byte("outer"), 0o600, func() error {
		return atomicfile.Write(file, []byte("inner"), 0o600, nil)
	})
	require.NoError(t, err)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "outer", string(data))
	require.Equal(t, []string{"report.json"}, names(t, filepath.Dir(file)))
}

// RemoveLeftovers keeps the files of the user: they have other names, or are not regular files.
func TestOnlyLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) { require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600)) }
	users := []string{
		".report.json", ".report.json.bak", ".report.json~1", ".report.json-1", ".report.json1x", ".report.json.1",
		".report.json20261129123000", "report.json1", ".report.jso1", ".other.json1", ".check-1", "check-", "check-1x", "check-12345678901",
	}
	for _, name := range users {
		put(name)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".report.json2"), 0o700))
	require.NoError(t, os.Symlink("report.json1", filepath.Join(dir, ".report.json3")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, ".report.json4"), 0o600))
	require.NoError(t, os.Symlink(".", filepath.Join(dir, "check-2")))
	put("check-3")
	kept := append(names(t, dir), "report.json")
	put(".report.json123456")
	put(".report.json5")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "check-4", "maps"), 0o700))

	file := filepath.Join(dir, "report.json")
	require.NoError(t, atomicfile.WriteKeepingLeftovers(file, nil, 0o600, nil))
	require.FileExists(t, filepath.Join(dir, ".report.json5"))
	require.NoError(t, atomicfile.Write(file, nil, 0o600, nil))
	_, remove, err := atomicfile.MkdirTemp(dir, "check-")
	require.NoError(t, err)
	remove()
	slices.Sort(kept)
	require.Equal(t, kept, names(t, dir))
}
