package main

import (
	"net/http"
	"testing"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

func TestMetricsPage(t *testing.T) {
	m := newMetrics()
	m.watch(&httpapi.Handler{})
	m.watchAge(nil)
	cli.LimitConnections(&http.Server{}, 1, m, program)
	clitest.MetricsPage(t, "discovery", m, cli.CertificateExpiry(program, nil))
}
