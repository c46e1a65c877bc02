package main

import (
	"testing"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/examples/internal/controllermetrics"
)

func TestMetricsPage(t *testing.T) {
	m := controllermetrics.New(program, nil)
	m.Shifts(nil)
	m.Observe(nil, nil)
	clitest.MetricsPage(t, "terminator", m)
}
