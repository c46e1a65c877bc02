package controllermetrics

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// observed reads the counters of HAProxy at each scrape.
type observed struct {
	worker func(context.Context) (runtimeapi.Socket, error)
	log    *slog.Logger
	fails  atomic.Bool // whether the last scrape failed
}

func (o *observed) send(send cli.Send) {
	ctx := context.Background() // the socket has a time-out
	var answer string
	socket, err := o.worker(ctx)
	if err == nil {
		answer, err = socket.Do(ctx, haproxycfg.ObservedCommand)
	}
	var counts map[haproxycfg.Refusal]uint64
	if err == nil {
		counts, err = haproxycfg.ParseObserved(answer)
	}
	if failed := o.fails.Swap(err != nil); err != nil && !failed {
		o.log.Warn("no counters of -observe", "err", err)
	}
	for reason, n := range counts {
		send("observed_total", float64(n), string(reason))
	}
}
