package usage_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// A real interactive bash completes with the script.
func TestBashCompletion(t *testing.T) {
	dir := t.TempDir()
	script, err := filepath.Abs("testdata/TestCompletion/bash")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a file.txt"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a-directory"), 0o700))

	screen, terminal := clitest.Terminal(t)
	bash := exec.Command("bash", "--norc", "--noprofile", "-i")
	bash.Dir, bash.Env = dir, []string{"TERM=dumb", "PS1=ready%", "INPUTRC=/dev/null", "HISTFILE=", "PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	bash.Stdin, bash.Stdout, bash.Stderr = terminal, terminal, terminal
	bash.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, bash.Start())
	t.Cleanup(func() { _ = bash.Process.Kill(); _ = bash.Wait() })

	out := bufio.NewReader(screen)
	require.NoError(t, screen.SetDeadline(time.Now().Add(time.Minute)))
	keys := func(text string) {
		_, err := screen.WriteString(text)
		require.NoError(t, err)
	}
	shown := regexp.MustCompile(`<<(.*)>>`)
	line := func() string {
		for {
			text, err := out.ReadString('\n')
			require.NoError(t, err, text)
			if m := shown.FindStringSubmatch(text); m != nil {
				return m[1]
			}
		}
	}
	// Ctrl-T replaces the last word by all its completions, and Ctrl-G prints the command line.
	keys("source '" + script + "'; bind '\"\\C-t\": insert-completions'; bind 'set bell-style none'; bind 'set completion-query-items 0'\n")
	keys(`bind -x '"\C-g": printf "<<%s>""> \n" "$READLINE_LINE"'; printf '<<%s>''>\n' ready` + "\n")
	require.Equal(t, "ready", line())
	// Before its prompt, bash does not read single characters, and the kernel would obey Ctrl-U.
	_, err = out.ReadString('%')
	require.NoError(t, err)
	for _, tt := range []struct{ typed, want string }{
		{"the-tool ", "the-tool completion shift show "},
		{"the-tool sho", "the-tool show "},
		{"the-tool -", "the-tool -config -since -size -version "},
		{"the-tool --si", "the-tool -since -size "},
		{"the-tool show -", "the-tool show -json -only-show "},
		{"the-tool show -json -on", "the-tool show -json -only-show "},
		{"the-tool show ", "the-tool show "},
		{"the-tool -size ", "the-tool -size "},
		{"the-tool -size=", "the-tool -size="},
		{"the-tool -config a\\ ", "the-tool -config a\\ file.txt "},
		{"the-tool -config=a-", "the-tool -config=a-directory "},
		{"the-tool show --only-show a-", "the-tool show --only-show a-directory "},
		{"the-tool completion ", "the-tool completion bash fish zsh "},
		{"the-tool shift -", "the-tool shift -"},
	} {
		keys(tt.typed + "\x14\x07\x15")
		require.Equal(t, tt.want, line(), tt.typed)
	}
}
