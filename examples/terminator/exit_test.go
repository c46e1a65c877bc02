package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
)

// With this variable, the test binary is terminator itself.
const mainVariable = "HEADGATE_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// The process ends with the exit codes that -h lists.
func TestExitCodesOfTheProcess(t *testing.T) {
	w := newWorld(t)
	inputs := []string{"-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1"), "-out", w.path("out"), "-http", "127.0.0.1:80"}
	terminator := func(args ...string) (code int, stdout, stderr string) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		cmd.Env = append(os.Environ(), mainVariable+"=1")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if _, isExit := errors.AsType[*exec.ExitError](err); !isExit {
			require.NoError(t, err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	with := func(args ...string) []string { return append(args, inputs...) }
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"success", []string{"-h"}, cli.ExitOK, ""},
		{"wrong flag", with("-onec"), cli.ExitUsage, "did you mean -once?"},
		{"wrong value", with("-log-format", "xml"), cli.ExitUsage, "want text or json"},
		{"unknown command", []string{"explian"}, cli.ExitUsage, "did you mean explain?"},
		{"missing file", append(with("-diff"), "-routes", w.path("none.yaml")), cli.ExitFailed, "none.yaml"},
		{"difference", with("-diff"), cli.ExitDiffer, ""},
		{"written", with("-once"), cli.ExitOK, ""},
		{"no difference", with("-diff"), cli.ExitOK, ""},
		{"no journal yet", []string{"journal", "-out", w.path("none")}, cli.ExitOK, ""},
	} {
		code, stdout, stderr := terminator(tt.args...)
		require.Equal(t, tt.code, code, "%s: %s%s", tt.name, stdout, stderr)
		require.Contains(t, stderr, tt.stderr, tt.name)
	}
	_, stdout, _ := terminator("explain", "-version")
	require.Regexp(t, `^terminator [^ ]+, commit `, stdout)
}
