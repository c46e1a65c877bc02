package main

import (
	"context"
	"fmt"
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
)

// A leader that cannot renew its lease stops to write before another may begin.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
)

// election finds out for how long this process leads.
type election struct {
	lease  lease
	load   func(conn string) (*rest.Config, error)
	log    *slog.Logger
	terms  chan<- term
	leader func(leads bool, who string) // is told of each change
}

// run takes part until ctx ends, and gives the lease up then. Whoever calls it ends
// ctx when nothing is written any more.
func (e *election) run(ctx context.Context) {
	hostname, _ := os.Hostname()
	identity := hostname + "_" + string(uuid.NewUUID())
	e.leader(false, "")
	for ctx.Err() == nil {
		if err := e.runOnce(ctx, identity); err != nil {
			e.log.Error("the lease cannot be followed", "lease", e.lease.namespace+"/"+e.lease.name, "err", err)
		}
		sleep(ctx, leaseRetry)
	}
}

// runOnce returns when leadership is lost.
func (e *election) runOnce(ctx context.Context, identity string) error {
	config, err := e.load(e.lease.cluster.conn)
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
	outer := ctx
	ctx, stop := context.WithCancel(outer)
	defer stop()
	lock := newFence(&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.lease.namespace, Name: e.lease.name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}, stop)
	defer lock.close()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Name:            fmt.Sprintf("%s/%s", e.lease.namespace, e.lease.name),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) { e.send(term, lock.fenced(term)) },
			OnStoppedLeading: func() {
				e.leader(false, "")
				e.log.Warn("this terminator does not lead")
				e.send(outer, nil)
			},
			OnNewLeader: func(who string) {
				e.leader(who == identity, who)
				e.log.Info("leader", "is", who, "self", who == identity)
			},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	return nil
}

// send hands a term to the loop, which takes it when it is not applying; it ends with
// the term itself.
func (e *election) send(ctx, of context.Context) {
	select {
	case e.terms <- term{of}:
	case <-ctx.Done():
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
