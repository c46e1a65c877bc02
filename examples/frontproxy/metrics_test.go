package main

import (
	"testing"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/frontproxy/controller"
)

func TestMetricsPage(t *testing.T) {
	m := newMetrics(&proxy{controller: &controller.Controller{}})
	clitest.MetricsPage(t, "frontproxy", m, cli.CertificateExpiry(program, nil))
}
