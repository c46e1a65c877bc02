package cli

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// newTool returns a Program. When one of its commands runs, the command appends its command line to
// the second result.
func newTool() (Program, *[]string) {
	var ran []string
	run := func(command string) Run {
		return func(_ context.Context, inv Invocation) int {
			fs := NewFlagSet(command)
			fs.Int("a", 1, "text of a")
			fs.Bool("b", false, "text of b")
			if strings.HasSuffix(command, "show") {
				fs.String("only-show", "", "`file` to show")
			}
			if code, done := inv.Parse(fs); done {
				return code
			}
			ran = append(ran, command+" "+strings.Join(inv.Args, " "))
			return ExitOK
		}
	}
	return Program{
		Name: "tool", Summary: "Makes things.",
		Readme: "# tool\n\n| purpose | flags |\n|---|---|\n| output | `-b`, `-gone`; not with `-c` |\n| input | `-a`, `-b` |\n\n| `-x` | y |\n",
		Commands: []Command{
			{Example: "tool -a 3", Run: run("tool")},
			{Name: "show", Args: "THING", Summary: "Shows things.", Example: "tool show x", Exits: map[int]string{ExitDiffer: "no thing"}, Run: run("tool show")},
		},
	}, &ran
}

func call(p Program, line string, environ ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = p.Run(context.Background(), Invocation{
		Args: strings.Fields(line), Stdout: &out, Stderr: &errs, Environ: environ,
		LookupEnv: func(name string) (string, bool) { return "70", name == "COLUMNS" },
	})
	return code, out.String(), errs.String()
}

func TestProgramRunsCommands(t *testing.T) {
	p, ran := newTool()
	for line, want := range map[string]string{"": "tool ", "-a 3": "tool -a 3", "show -b": "tool show -b"} {
		code, stdout, stderr := call(p, line)
		require.Equal(t, ExitOK, code, stderr)
		require.Empty(t, stdout+stderr)
		require.Equal(t, want, (*ran)[len(*ran)-1])
	}
}

func TestProgramErrorsAreShort(t *testing.T) {
	p, _ := newTool()
	needsCommand := p
	needsCommand.Commands = p.Commands[1:]
	noCommand := p
	noCommand.Commands = p.Commands[:1]
	for _, tt := range []struct {
		p          Program
		line, want string
	}{
		{p, "shwo -b", `tool: unknown command "shwo"; did you mean show? (-h shows the commands)`},
		{p, "other", `tool: unknown command "other" (-h shows the commands)`},
		{p, "-b show", `tool: the command "show" must be the first argument (-h shows the flags)`},
		{p, "show -only-shwo x", "tool show: unknown flag -only-shwo; did you mean -only-show? (-h shows the flags)"},
		{p, "show -a", "tool show: flag needs an argument: -a (-h shows the flags)"},
		{needsCommand, "", "tool: the first argument must be a command (-h shows the commands)"},
		{needsCommand, "-a 3", "tool: unknown flag -a (-h shows the flags)"},
		{p, "help shwo", `tool: unknown command "shwo"; did you mean show? (-h shows the commands)`},
		{noCommand, "other", `tool: unexpected argument "other" (-h shows the flags)`},
	} {
		code, stdout, stderr := call(tt.p, tt.line)
		require.Equal(t, ExitUsage, code, tt.line)
		require.Empty(t, stdout)
		require.Equal(t, tt.want+"\n", stderr)
	}
}

// An empty argument, such as that of an unset variable of a shell, is no command.
func TestProgramRefusesEmptyArgument(t *testing.T) {
	p, ran := newTool()
	var stderr bytes.Buffer
	code := p.Run(context.Background(), Invocation{Args: []string{"", "-b"}, Stderr: &stderr})
	require.Equal(t, ExitUsage, code)
	require.Equal(t, "tool: unexpected argument \"\" (-h shows the flags)\n", stderr.String())
	require.Empty(t, *ran)
}

// A variable is not mistyped if it sets a flag of another command of the program.
func TestProgramWarnsOfMistypedVariables(t *testing.T) {
	p, _ := newTool()
	p.Commands[0].Run = func(_ context.Context, inv Invocation) int {
		fs := NewFlagSet("tool")
		fs.Bool("only-shows", false, "")
		code, _ := inv.Parse(fs)
		return code
	}
	code, _, stderr := call(p, "", "HEADGATE_ONLY_SHOW=x", "HEADGATE_ONLY_SHOWX=x")
	require.Equal(t, ExitOK, code)
	require.Equal(t, "tool: warning: no flag has the variable HEADGATE_ONLY_SHOWX; did you mean HEADGATE_ONLY_SHOWS?\n", stderr)
}

// -h prints the help to standard output. A flag belongs to the first row that names it. The help
// shows the default of each flag, even if an argument before -h sets another value.
func TestHelp(t *testing.T) {
	p, _ := newTool()
	const want = `Example:
  tool -a 3

Makes things.

Commands:
  show        Shows things.
  completion  Prints a script that completes commands and flags in a
              shell.
  tool COMMAND -h shows the flags of a command.

output:
  -b                              HEADGATE_B
      text of b (default false)

input:
  -a int                          HEADGATE_A
      text of a (default 1)

general:
  -config file                    HEADGATE_CONFIG
      YAML file of flag names and values; flags and environment
      override it
  -version
      print the version, and exit

Exit status:
  0  success, or a clean stop after SIGTERM
  1  the work or a check failed, or a file cannot be read
  2  a flag is wrong, or a program that the binary needs is missing
`
	for _, line := range []string{"-a 5 -h", "--help", "help"} {
		code, stdout, stderr := call(p, line)
		require.Equal(t, ExitOK, code)
		require.Empty(t, stderr)
		require.Equal(t, want, stdout)
	}
	_, stdout, _ := call(p, "show -h")
	_, same, _ := call(p, "help show")
	require.Equal(t, stdout, same)
	require.Contains(t, stdout, "Example:\n  tool show x\n\nShows things.\n\nUsage:\n  tool show [FLAG …] THING\n")
	require.Contains(t, stdout, "\nother:\n  -only-show file")
	require.Contains(t, stdout, "  3  no thing\n")
	p.Commands = p.Commands[1:]
	for _, line := range []string{"-h", "help"} {
		code, stdout, stderr := call(p, line)
		require.Equal(t, ExitOK, code, stderr)
		require.Contains(t, stdout, "Makes things.\n\nCommands:\n  show        Shows things.\n")
	}
	code, stdout, _ := call(p, "-version")
	require.Equal(t, ExitOK, code)
	require.True(t, strings.HasPrefix(stdout, "tool "), stdout)
}

func TestDescribe(t *testing.T) {
	p, ran := newTool()
	d := p.Describe()
	require.Empty(t, *ran)
	require.Len(t, d.Commands, 2)
	require.Equal(t, "show", d.Commands[1].Name)
	require.Len(t, d.Commands[1].Flags(), 5)
}

// All programs have the command "completion", whose script also completes this command.
func TestProgramCompletion(t *testing.T) {
	p, _ := newTool()
	noCommand := p
	noCommand.Commands = p.Commands[:1]
	for _, p := range []Program{p, noCommand} {
		for _, shell := range []string{"bash", "zsh", "fish"} {
			code, stdout, stderr := call(p, "completion "+shell)
			require.Equal(t, ExitOK, code, stderr)
			require.Contains(t, stdout, "completion")
			require.Contains(t, stdout, "version")
		}
		for line, want := range map[string]string{
			"completion":             "tool completion: want one of the shells bash, zsh, fish (-h shows the flags)\n",
			"completion ksh":         "tool completion: want one of the shells bash, zsh, fish (-h shows the flags)\n",
			"completion bash zsh":    "tool completion: unexpected argument \"zsh\" (-h shows the flags)\n",
			"completion bash -shell": "tool completion: unknown flag -shell (-h shows the flags)\n",
		} {
			code, stdout, stderr := call(p, line)
			require.Equal(t, ExitUsage, code, line)
			require.Empty(t, stdout)
			require.Equal(t, want, stderr)
		}
	}
	_, stdout, _ := call(p, "-h")
	require.Contains(t, stdout, "  completion  Prints a script")
	_, stdout, _ = call(p, "completion -h")
	require.Contains(t, stdout, "source <(tool completion bash)")
	require.Len(t, p.Commands, 2, "Run leaves the Program as it is")
}

// A command can end only with the exit codes that its help lists.
func TestProgramEndsWithListedCodes(t *testing.T) {
	for _, tt := range []struct {
		returned, want int
		exits          map[int]string
	}{
		{ExitOK, ExitOK, nil},
		{ExitFailed, ExitFailed, nil},
		{ExitUsage, ExitUsage, nil},
		{ExitDiffer, ExitDiffer, map[int]string{ExitDiffer: "a difference"}},
		{ExitDiffer, ExitFailed, nil},
		{-1, ExitFailed, nil},
	} {
		p := Program{Name: "tool", Commands: []Command{{Exits: tt.exits, Run: func(context.Context, Invocation) int { return tt.returned }}}}
		code, _, stderr := call(p, "")
		require.Equal(t, tt.want, code)
		if code != tt.returned {
			require.Equal(t, fmt.Sprintf("tool: fault in this program: the help does not list the exit code %d\n", tt.returned), stderr)
		}
	}
}

// Only Main ends the process, with the exit code that Program.Run returns.
func TestOnlyMainExits(t *testing.T) {
	exit := regexp.MustCompile(`\b(os|syscall|unix)\.Exit\(|\blog\.(Fatal|Panic)`)
	var found []string
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(path, "../../e2e/") || strings.Contains(path, "clitest") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, call := range exit.FindAllString(string(text), -1) {
			found = append(found, strings.TrimPrefix(path, "../../")+" "+strings.TrimSpace(call))
		}
		return err
	}))
	require.Equal(t, []string{"internal/cli/cli.go os.Exit("}, found)
}
