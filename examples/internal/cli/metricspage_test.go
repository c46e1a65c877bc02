package cli_test

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestMetricsPage(t *testing.T) {
	r := prometheus.NewRegistry()
	cli.LimitConnections(&http.Server{}, 1, r, "admin")
	r.MustRegister(cli.ThisBuild().Metric())
	clitest.MetricsPage(t, "All binaries", r)
}
