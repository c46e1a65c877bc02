package cli

import (
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/netserve"
)

// LimitConnections makes srv have at most maxConns connections. Pass to srv only listeners from the
// result. When there are too many connections, the client address that has the most makes room; see
// netserve.HTTPLimiter. The registry r gets a counter of the connections that were closed: it is
// the program's headgate_PROGRAM_limited_total.
func LimitConnections(srv *http.Server, maxConns int, r prometheus.Registerer, program string) func(net.Listener) net.Listener {
	limiter := netserve.NewHTTPLimiter(srv, maxConns)
	for reason, count := range map[string]func() int64{
		"idle": func() int64 { evicted, _ := limiter.Counts(); return evicted },
		"full": func() int64 { _, refused := limiter.Counts(); return refused },
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "headgate_" + program + "_limited_total", ConstLabels: prometheus.Labels{"reason": reason},
			Help: "Connections that were closed because of -max-connections, by reason (idle, full).",
		}, func() float64 { return float64(count()) }))
	}
	return limiter.Listener
}
