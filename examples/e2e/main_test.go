//go:build linux

package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestFlagsPage(t *testing.T) { clitest.FlagsPage(t, commandLine.Describe()) }

// These command lines start no sandbox.
func TestCommandLines(t *testing.T) {
	for _, tt := range []struct {
		args        []string
		environ     []string
		code        int
		out, errors string // parts of the output
	}{
		{args: []string{"-list"}, out: "\nvanish "},
		{args: []string{"-version"}, out: "e2e "},
		{args: []string{"lab", "-h"}, out: "e2e lab eu-1 eu-2"},
		{args: []string{"-lits"}, code: cli.ExitUsage, errors: "did you mean -list?"},
		{args: []string{"lba"}, code: cli.ExitUsage, errors: "did you mean lab?"},
		{args: []string{"-only", "smoke", "-only", "nothing"}, code: cli.ExitUsage, errors: `no scenario "nothing"`},
		{args: []string{"lab", "-logs", "logs"}, code: cli.ExitUsage, errors: "want the name of a cluster"},
		{args: []string{"-list"}, environ: []string{"HEADGATE_LOSG=x"}, out: "\nvanish ", errors: "did you mean HEADGATE_LOGS?"},
	} {
		var out, errors bytes.Buffer
		code := commandLine.Run(t.Context(), cli.Invocation{Args: tt.args, Environ: tt.environ, Stdout: &out, Stderr: &errors})
		require.Equal(t, tt.code, code, "%q: %s", tt.args, &errors)
		require.Contains(t, out.String(), tt.out, tt.args)
		require.Contains(t, errors.String(), tt.errors, tt.args)
		require.Equal(t, tt.errors == "", errors.Len() == 0, "%q: %s", tt.args, &errors)
	}
}
