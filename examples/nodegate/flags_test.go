package main

import (
	"testing"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestFlagsPage(t *testing.T) { clitest.FlagsPage(t, commandLine.Describe()) }
