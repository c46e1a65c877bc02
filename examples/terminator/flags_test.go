package main

import (
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestFlagsPage(t *testing.T) { clitest.FlagsPage(t, commandLine.Describe()) }

// The command in the help of terminator shift is complete.
func TestExampleOfShift(t *testing.T) {
	for _, command := range commandLine.Commands {
		if command.Name != "shift" {
			continue
		}
		var c shiftCommand
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		c.register(fs)
		var args []string
		c.route, args = cli.CutArgument(fs, strings.Fields(command.Example)[2:])
		require.NoError(t, fs.Parse(args))
		require.NoError(t, c.check())
		return
	}
	t.Error("there is no command shift")
}
