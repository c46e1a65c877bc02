package main

import (
	"net/http"
	"testing"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

func TestMetricsPage(t *testing.T) {
	m := newMetrics()
	m.watch(&httpapi.Handler{})
	cli.LimitConnections(&http.Server{}, 1, m, program)
	clitest.MetricsPage(t, "hostapi", m, cli.CertificateExpiry(program, nil))
}
