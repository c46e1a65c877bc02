package main

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

func TestMetricsPage(t *testing.T) {
	o := newObserver(&keeper.Keeper{}, slog.New(slog.DiscardHandler))
	cli.LimitConnections(&http.Server{}, 1, o.registry, program)
	clitest.MetricsPage(t, "nodegate", o.registry, newProtectMetrics().registry, cli.CertificateExpiry(program, nil))
}
