// Package lease elects one of several Controllers through a Lease of Kubernetes.
//
// terminator.Elector = &lease.Elector{Config: config, Namespace: "headgate", Name: "terminator"}
//
// All processes that name the same Lease take part, each with its own Controller. One process, the
// leader, writes. The other processes only follow their sources. Another process becomes the leader
// within 5 s after a clean stop of the leader, and within 20 s after a crash. If a leader has not
// renewed the Lease for 10 s, it stops writing. In this case, another process becomes the leader at
// least 15 s after the last renewal.
//
// The account needs permission to create, get and update leases of coordination.k8s.io.
//
// The package is separate from package controller, so that programs without an election do not
// compile client-go's leader election and typed client.
package lease

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/headgate/headgate/haproxycfg/controller"
)

// If a leader has not renewed the Lease for renewDeadline, it stops writing. Another process may
// lead when leaseDuration has passed since the last renewal.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
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
	t := &elector{
		Elector: e, begin: begin, leader: leader,
		log:      cmp.Or(e.Logger, slog.New(slog.DiscardHandler)),
		identity: cmp.Or(e.Identity, hostname+"_"+string(uuid.NewUUID())),
	}
	leader("", false)
	for ctx.Err() == nil {
		if err := t.runOnce(ctx); err != nil {
			t.log.Error("cannot take part in the election", "lease", e.Namespace+"/"+e.Name, "err", err)
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

// runOnce takes part in the election. It returns when this process has become the leader and has
// later lost the Lease.
func (e *elector) runOnce(ctx context.Context) error {
	config, err := e.Config()
	if err != nil {
		return err
	}
	config = rest.CopyConfig(config)
	config.Timeout = renewDeadline / 2
	config.ContentType = runtime.ContentTypeJSON // one small object
	client, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lock := newFencedLock(&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity},
	}, stop)
	defer lock.close()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Name:            e.Namespace + "/" + e.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) {
				e.begin(controller.Term{Guard: lock.guard, Done: term.Done()})
			},
			OnStoppedLeading: func() {
				e.leader("", false)
				e.log.Warn("this terminator does not lead any more")
			},
			OnNewLeader: func(name string) {
				e.leader(name, name == e.identity)
				e.log.Info("leader", "is", name, "self", name == e.identity)
			},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	return nil
}
