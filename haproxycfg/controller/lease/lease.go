// Package lease elects one of several Controllers through a Lease of Kubernetes.
//
//	terminator.Elector = &lease.Elector{Config: config, Namespace: "headgate", Name: "terminator"}
//
// All processes that name the same Lease take part, each with its own Controller. One of them
// writes; the others follow their sources and take over within 3 s of a clean stop, and within 17 s
// of a crash. A leader that cannot renew the Lease for 10 s stops writing, before another process
// may lead.
//
// The account needs permission to create, get and update leases of coordination.k8s.io.
//
// The package is separate from package controller, so that a terminator that writes alone compiles no
// election.
package lease

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg/controller"
)

// A leader that has not renewed the Lease for renewDeadline stops writing. Other processes lead
// after leaseDuration at the earliest.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Elector implements controller.Elector with a Lease.
type Elector struct {
	// Config returns how to reach the API server that holds the Lease. It is called again after an
	// error. Required.
	Config func() (*rest.Config, error)
	// Namespace and Name name the Lease, which is created if it is missing. Required.
	Namespace, Name string
	// Identity names this process in the Lease, and must differ between processes. "" means the
	// host name and a random suffix.
	Identity string
	// Logger receives who leads, and errors. nil means no log.
	Logger *slog.Logger
}

// Run implements controller.Elector.
func (e *Elector) Run(ctx context.Context, begin func(controller.Term), leader func(name string, self bool)) {
	hostname, _ := os.Hostname()
	t := &elector{
		Elector: e, begin: begin, leader: leader,
		log:      cmp.Or(e.Logger, slog.New(slog.DiscardHandler)),
		identity: cmp.Or(e.Identity, hostname+"_"+string(uuid.NewUUID())),
	}
	leader("", false)
	for ctx.Err() == nil {
		if err := t.runOnce(ctx); err != nil {
			t.log.Error("the lease cannot be followed", "lease", e.Namespace+"/"+e.Name, "err", err)
		}
		select {
		case <-time.After(retryPeriod):
		case <-ctx.Done():
		}
	}
}

// elector is one run of an Elector.
type elector struct {
	*Elector
	begin    func(controller.Term)
	leader   func(name string, self bool)
	log      *slog.Logger
	identity string
}

// runOnce waits for leadership and returns when it is lost.
func (e *elector) runOnce(ctx context.Context) error {
	config, err := e.Config()
	if err != nil {
		return err
	}
	lease, err := newLeaseLock(config, e.Namespace, e.Name)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lock := newFencedLock(lease, e.identity, stop)
	defer lock.close()
	c := candidate{
		lock: lock, identity: e.identity, log: e.log.With("lease", e.Namespace+"/"+e.Name),
		leader: func(name string) {
			e.leader(name, name == e.identity)
			e.log.Info("leader", "is", name, "self", name == e.identity)
		},
	}
	c.run(ctx, func(term context.Context) { e.begin(controller.Term{Guard: lock.guard, Done: term.Done()}) })
	e.leader("", false)
	e.log.Warn("this terminator does not lead")
	return nil
}
