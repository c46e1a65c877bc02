//go:build unix

package inputfile

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyRegularFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "hg") // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	fifo, socket, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket"), filepath.Join(dir, "link")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Symlink(fifo, link))
	for path, want := range map[string]string{
		fifo:        "a FIFO, not a regular file",
		link:        "a FIFO, not a regular file",
		socket:      "a socket, not a regular file",
		dir:         "a directory, not a regular file",
		"/dev/zero": "a device, not a regular file",
	} {
		_, err := Read(path, 1<<20)
		require.EqualError(t, err, "read "+path+": "+want)
		_, err = Equal(path, nil)
		require.EqualError(t, err, "read "+path+": "+want)
	}
	_, err = ReadDir(fifo)
	require.ErrorContains(t, err, "not a directory")
}

// The file may become a FIFO between stat and open. So open itself must not wait for a writer.
func TestOpenDoesNotWaitForAWriter(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	f, err := os.OpenFile(fifo, openFlags, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
