package cli

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestMetricsPage(t *testing.T) {
	r := prometheus.NewRegistry()
	LimitConnections(&http.Server{}, 1, r, "admin")
	r.MustRegister(thisBuild().metric())
	clitest.MetricsPage(t, "All binaries", r)
}
