package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// screenOf returns a terminal, and a function that returns what somebody has written to the terminal
// since the last call.
func screenOf(t *testing.T) (terminal *os.File, read func() string) {
	t.Helper()
	screen, terminal := clitest.Terminal(t)
	require.NoError(t, screen.SetDeadline(time.Now().Add(time.Minute)))
	out := bufio.NewReader(screen)
	return terminal, func() string {
		_, err := terminal.WriteString("|")
		require.NoError(t, err)
		text, err := out.ReadString('|')
		require.NoError(t, err)
		return strings.TrimSuffix(text, "|")
	}
}

const erase = "\r\x1b[K"

func TestProgress(t *testing.T) {
	terminal, screen := screenOf(t)
	synctest.Test(t, func(t *testing.T) {
		after := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()
			return screen()
		}
		inv := cli.Invocation{Stdout: terminal, Stderr: terminal}
		p := inv.Progress("reading %d clusters", 2)
		require.Empty(t, after(2*time.Second-1), "nothing before two seconds")
		require.Equal(t, erase+"reading 2 clusters, 2s", after(1))
		p.Set("reading %s", "eu-1")
		require.Equal(t, erase+"reading eu-1, 3s", after(time.Second))

		fmt.Fprintln(inv.Stdout, "output")
		require.Equal(t, erase+"output\r\n", screen(), "output replaces the line")
		fmt.Fprintln(inv.Stderr, "a warning")
		require.Equal(t, "a warning\r\n", screen(), "there is no line to erase")
		require.Equal(t, erase+"reading eu-1, 4s", after(time.Second))
		fmt.Fprint(inv.Stdout, "half a line")
		require.Equal(t, erase+"half a line", screen())
		require.Empty(t, after(time.Second), "the line would overwrite half a line of output")
		fmt.Fprint(inv.Stdout, "\n")
		require.Equal(t, "\r\n", screen())

		p.Set("a\nb\x1b[2Jc")
		require.Equal(t, erase+"a b [2Jc, 6s", after(time.Second), "spaces replace control characters")
		p.Set("%s", strings.Repeat("é", 200))
		require.Equal(t, erase+strings.Repeat("é", 99), after(time.Second), "the line fits into 100 columns")

		p.Stop()
		p.Stop()
		require.Equal(t, erase, after(time.Minute), "Stop erases the line, and nothing follows")
		fmt.Fprintln(inv.Stdout, "the end")
		require.Equal(t, "the end\r\n", screen())
	})
}

func TestProgressOfShortWorkShowsNothing(t *testing.T) {
	terminal, screen := screenOf(t)
	synctest.Test(t, func(t *testing.T) {
		inv := cli.Invocation{Stdout: terminal, Stderr: terminal}
		p := inv.Progress("working")
		time.Sleep(time.Second)
		p.Stop()
		time.Sleep(time.Minute)
		require.Empty(t, screen())
	})
}

// A file or a pipe gets only the output of the command.
func TestProgressNeedsATerminal(t *testing.T) {
	terminal, screen := screenOf(t)
	file, err := os.Create(t.TempDir() + "/stderr")
	require.NoError(t, err)
	defer file.Close()
	dumb := func(string) (string, bool) { return "dumb", true }
	for _, inv := range []cli.Invocation{
		{Stdout: terminal, Stderr: new(bytes.Buffer)},
		{Stdout: terminal, Stderr: file},
		{Stdout: terminal, Stderr: terminal, LookupEnv: dumb},
	} {
		before := inv
		p := inv.Progress("working")
		require.Nil(t, p)
		p.Set("the methods of nil do nothing")
		p.Stop()
		require.Same(t, before.Stdout, inv.Stdout)
		require.Same(t, before.Stderr, inv.Stderr)
	}
	require.Empty(t, screen())
}

// Standard output may be a file while standard error is a terminal.
func TestProgressLeavesAFileAlone(t *testing.T) {
	terminal, screen := screenOf(t)
	var stdout bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		inv := cli.Invocation{Stdout: &stdout, Stderr: terminal}
		defer inv.Progress("working").Stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		fmt.Fprintln(inv.Stdout, "output")
		require.Equal(t, erase+"working, 2s", screen())
	})
	require.Equal(t, "output\n", stdout.String())
	require.Equal(t, erase, screen())
}
