// Package lease elects one of several Controllers through a Lease of Kubernetes.
//
//	terminator.Elector = &lease.Elector{Config: config, Namespace: "headgate", Name: "terminator"}
//
// All processes that name the same Lease take part in the election. Only one process, the leader,
// writes its configuration. Another process becomes the leader within 5 s after a clean stop of the
// leader, and within 20 s after a crash.
//
// A leader that cannot renew the Lease for 10 s stops writing. Another process leads 15 s after the
// last renewal at the earliest, so two processes never write at the same time.
//
// The account of each process needs permission to create, get and update leases of
// coordination.k8s.io.
//
// # The elector of client-go
//
// An Elector can take part in the same election as package leaderelection of client-go, because it
// writes the same fields by the same rules. It does not use package leaderelection, which compiles
// the client of every API group and has three faults:
//
//   - When a leader learns that another process holds the Lease, it still leads until its renew
//     deadline.
//   - After a suspension, a leader does not notice that its time is over.
//   - When a process stops, it releases the Lease even if another process may hold the Lease now.
package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"time"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/internal/kubeclient"
)

// If a leader has not renewed the Lease for renewDeadline, it stops writing. Another process may
// lead when leaseDuration has passed since the last renewal. An API server must answer a request
// within requestTimeout.
const (
	leaseDuration  = 15 * time.Second
	renewDeadline  = 10 * time.Second
	retryPeriod    = 2 * time.Second
	requestTimeout = renewDeadline / 2
)

// Elector implements controller.Elector with a Lease.
type Elector struct {
	// Config returns the address and credentials of the API server that holds the Lease. The
	// Elector calls Config again after an error. Required.
	Config func() (*rest.Config, error)
	// Namespace and Name name the Lease. The Elector creates the Lease if it is missing. Required.
	Namespace, Name string
	// Identity names this process in the Lease. No two processes may have the same Identity. ""
	// means the host name and a random suffix.
	Identity string
	// Logger gets a line for each new leader and for each error. nil means no log.
	Logger *slog.Logger
}

// Run implements controller.Elector.
func (e *Elector) Run(ctx context.Context, begin func(controller.Term), leader func(name string, self bool)) {
	hostname, _ := os.Hostname()
	run := &election{
		connect: e.connect, namespace: e.Namespace, name: e.Name,
		identity: cmp.Or(e.Identity, hostname+"_"+rand.Text()),
		begin:    begin, leader: leader,
		log: cmp.Or(e.Logger, slog.New(slog.DiscardHandler)),
	}
	run.run(ctx)
}

func (e *Elector) connect() (leaseClient, error) {
	config, err := e.Config()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.Timeout = requestTimeout
	return kubeclient.NewLeases(config, e.Namespace)
}
