package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// While a terminator does not answer, the command shows on a terminal that it waits. The answer
// replaces this line.
func TestProgressOnATerminal(t *testing.T) {
	socket, seen := clitest.SocketPath(t), make(chan struct{})
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-seen:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "the answer\n")
	}))
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close) // after the end of t.Context, which kills the command

	screen, terminal := clitest.Terminal(t)
	require.NoError(t, screen.SetDeadline(time.Now().Add(time.Minute)))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "explain", "api.example.com/tracks", "-admin", "unix:"+socket)
	// The command warns of the variables that make sets for the tests.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HEADGATE_") })
	cmd.Env = append(env, mainVariable+"=1", "TERM=xterm")
	cmd.Stdout, cmd.Stderr = terminal, terminal
	require.NoError(t, cmd.Start())

	out := bufio.NewReader(screen)
	line, err := out.ReadString(',')
	require.NoError(t, err)
	require.Regexp(t, `^\r\x1b\[Kexplaining api\.example\.com/tracks,$`, line)
	close(seen)
	require.NoError(t, cmd.Wait())
	answer, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `\r\x1b\[Kthe answer\r\n$`, answer)
}
