// Package leases stores the grants of package gate. A grant is a permission to take a node away.
// The package stores it in a Lease of Kubernetes, one Lease for each granted node. It also keeps
// two processes from deciding at the same time.
//
//	client, err := leases.NewClient(config, "headgate")
//	…
//	store := leases.Store{Client: client, Cluster: "eu-1"}
//	err = store.Decide(ctx, func(grants []gate.Grant) (leases.Changes, error) {
//		…
//		answer, taken = g.Take("kured", time.Hour, "worker-7")
//		return leases.Changes{Taken: taken}, nil
//	})
//
// # Two processes at the same time
//
// Each cluster has one more Lease, the decision Lease. Every decision that makes a grant writes it.
// Decide reads the decision Lease, and then the grants. It makes a Lease with the mark "pending"
// for each new grant. Then it writes the decision Lease with the resource version that it has read.
//
// If another process has decided in between, the API server refuses this write, and Decide removes
// its pending Leases and starts again. Otherwise Decide removes the mark "pending" from its Leases.
//
// Pending Leases count as grants. Other processes remove the pending Leases of a dead process after
// PendingTimeout.
//
// So any number of processes may decide, without an election and with different clocks: each
// decision considers the grants of all earlier decisions.
//
// The account of each process needs permission to get, list, create, update and delete leases of
// coordination.k8s.io in the namespace.
//
// # What it does not do
//
// A Store does not watch Leases: each Decide lists them. It does not decide which grants end; see
// [gate.Grant.Observe].
package leases

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubeclient"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

// These are the names of labels and annotations of the Leases.
const (
	clusterLabel      = "headgate.dev/grant-cluster" // on Leases of grants
	nodeAnnotation    = "headgate.dev/grant-node"
	wentAnnotation    = "headgate.dev/grant-went"
	backAnnotation    = "headgate.dev/grant-back"
	pendingAnnotation = "headgate.dev/grant-pending"
	manualAnnotation  = "headgate.dev/grant-manual"
	decidedAnnotation = "headgate.dev/decided-by" // on the decision Lease
)

// MaxTaken is the largest number of grants of one decision, and MaxHolder is the largest length of
// the name of a holder.
const (
	MaxTaken  = 500
	MaxHolder = 200
)

// PendingTimeout is the age at which a pending Lease counts as abandoned: the process that made it
// has probably ended, so any other process removes the Lease.
const PendingTimeout = 30 * time.Second

// pageSize is the number of Leases in one answer of the API server.
const pageSize = 500

// Client is a client of the Leases of one namespace, safe for concurrent use. NewClient returns a
// Client; a LeaseInterface of client-go's clientset is a Client too.
type Client interface {
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error)
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// NewClient returns a Client of the Leases of a namespace. NewClient does not connect to the API
// server, and does not change config.
func NewClient(config *rest.Config, namespace string) (Client, error) {
	return kubeclient.NewLeases(config, namespace)
}

// Store keeps the grants of one cluster. Any number of goroutines may use it.
type Store struct {
	// Client reads and writes the Leases in their namespace. Required.
	Client Client
	// Cluster is the name of the cluster of the nodes, a DNS label. Clusters whose Leases are in
	// the same namespace must have different names. Required.
	Cluster string
}

// Changes are the result of a decision about grants.
type Changes struct {
	Updated []gate.Grant // grants with another Went or Back
	Ended   []gate.Grant
	Taken   []gate.Grant // new grants
}

// ErrBusy means that Decide has given up, because other processes made decisions each time when
// Decide tried to make one.
var ErrBusy = errors.New("leases: other processes keep deciding")

// errAgain means that another process has changed a Lease, and that Decide must start again.
var errAgain = errors.New("changed by another process")

// maxTries is the largest number of tries of one Decide.
const maxTries = 50

// Decide calls the function "decide" with all grants, sorted by node, and stores its result. If
// another process changes a grant or makes a decision in between, Decide calls the function again.
// So the function must have no other effect than its result. After an error, the caller must not
// use the result, although a part of the changes may be stored.
func (s Store) Decide(ctx context.Context, decide func([]gate.Grant) (Changes, error)) error {
	for try := range maxTries {
		err := s.decideOnce(ctx, decide)
		if !errors.Is(err, errAgain) {
			return err
		}
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(10*time.Millisecond) * int64(try+1))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return ErrBusy
}

// List returns the grants, sorted by node.
func (s Store) List(ctx context.Context) (grants []gate.Grant, err error) {
	err = s.Decide(ctx, func(all []gate.Grant) (Changes, error) { grants = all; return Changes{}, nil })
	return grants, err
}

// Release ends the grant for a node, whoever holds it. It returns false if the node has no grant.
// If holder is not "" and another holder has the grant, Release returns true and an error.
func (s Store) Release(ctx context.Context, node, holder string) (found bool, err error) {
	err = s.Decide(ctx, func(all []gate.Grant) (Changes, error) {
		found = false
		for _, g := range all {
			if g.Node != node {
				continue
			}
			found = true
			if holder != "" && g.Holder != holder {
				return Changes{}, fmt.Errorf("leases: %s holds the grant for %s, not %s", g.Holder, node, holder)
			}
			return Changes{Ended: []gate.Grant{g}}, nil
		}
		return Changes{}, nil
	})
	return found, err
}

func (s Store) decideOnce(ctx context.Context, decide func([]gate.Grant) (Changes, error)) error {
	if faults := validation.IsDNS1123Label(s.Cluster); faults != nil {
		return fmt.Errorf("leases: %q is no name of a cluster: %s", s.Cluster, faults[0])
	}
	decision, err := s.decisionLease(ctx)
	if err != nil {
		return err
	}
	stored, grants, err := s.list(ctx)
	if err != nil {
		return err
	}
	changes, err := decide(grants)
	if err != nil {
		return err
	}
	if err := check(changes.Taken); err != nil {
		return err
	}
	for _, g := range changes.Updated {
		if err := s.update(ctx, stored[g.Node], g); err != nil {
			return err
		}
	}
	for _, g := range changes.Ended {
		if err := s.end(ctx, stored[g.Node]); err != nil {
			return err
		}
	}
	if len(changes.Taken) == 0 {
		return nil
	}
	return s.take(ctx, decision, changes.Taken)
}

// take creates a pending Lease for each grant, writes the decision Lease, and removes the mark
// "pending". It fails if another process has made grants, and so has written the decision Lease, in
// the meantime.
func (s Store) take(ctx context.Context, decision *coordinationv1.Lease, grants []gate.Grant) (err error) {
	var made []*coordinationv1.Lease
	defer func() {
		if err == nil {
			return
		}
		// If the deletion fails, the pending Leases stay. Another process removes them when they
		// are older than PendingTimeout.
		for _, l := range made {
			_ = s.end(ctx, l)
		}
	}()
	for _, g := range grants {
		g.Pending = true
		l, err := s.Client.Create(ctx, s.lease(g), metav1.CreateOptions{})
		if err != nil {
			return again(err)
		}
		made = append(made, l)
	}
	decision.Annotations = map[string]string{decidedAnnotation: grants[0].Holder}
	taken := metav1.NewMicroTime(grants[0].Taken)
	decision.Spec.RenewTime = &taken
	if _, err := s.Client.Update(ctx, decision, metav1.UpdateOptions{}); err != nil {
		return again(err)
	}
	for i, g := range grants {
		annotate(made[i], g)
		// If this process took too long, another process has removed the Lease. Then the Update
		// fails, and Decide starts again.
		l, err := s.Client.Update(ctx, made[i], metav1.UpdateOptions{})
		if err != nil {
			return again(err)
		}
		made[i] = l
	}
	return nil
}

// check returns an error if Leases cannot store the grants: there are too many grants, or a field
// is too long or contains characters that a Lease must not contain.
func check(taken []gate.Grant) error {
	if len(taken) > MaxTaken {
		return fmt.Errorf("leases: %d grants in one decision; the largest number is %d", len(taken), MaxTaken)
	}
	for _, g := range taken {
		if g.Holder == "" || len(g.Holder) > MaxHolder || strings.ContainsFunc(g.Holder, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("leases: holder %.300q: want 1 to %d printable ASCII characters without spaces", g.Holder, MaxHolder)
		}
		if g.TTL < time.Second || g.TTL > math.MaxInt32*time.Second {
			return fmt.Errorf("leases: TTL %v: want 1s or more", g.TTL)
		}
	}
	return nil
}

// again returns errAgain if another process has changed the same Lease at the same time, and err
// otherwise. After errAgain, Decide starts again.
func again(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return errAgain
	}
	return err
}

// decisionLease returns the decision Lease of the cluster. Every decision that makes a grant writes
// this Lease, so that two processes cannot decide at the same time. If the Lease is missing,
// decisionLease creates it.
func (s Store) decisionLease(ctx context.Context) (*coordinationv1.Lease, error) {
	name := "nodegate-decision." + s.Cluster
	lease, err := s.Client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease, err = s.Client.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			return nil, again(err)
		}
	}
	return lease, err
}

// list returns the Leases of all grants by the name of the node, and the grants, sorted by node. A
// Lease is pending until the process that made the decision has stored the whole decision. list
// removes each Lease that has been pending for longer than PendingTimeout, because that process has
// probably ended.
func (s Store) list(ctx context.Context) (map[string]*coordinationv1.Lease, []gate.Grant, error) {
	stored := map[string]*coordinationv1.Lease{}
	var grants []gate.Grant
	options := metav1.ListOptions{LabelSelector: clusterLabel + "=" + s.Cluster, Limit: pageSize}
	for {
		page, err := s.Client.List(ctx, options)
		if apierrors.IsResourceExpired(err) {
			return nil, nil, errAgain
		}
		if err != nil {
			return nil, nil, err
		}
		for i := range page.Items {
			g := s.grant(&page.Items[i])
			if g.Pending && time.Since(page.Items[i].CreationTimestamp.Time) > PendingTimeout {
				if err := s.end(ctx, &page.Items[i]); err != nil {
					return nil, nil, err
				}
				continue
			}
			stored[g.Node] = &page.Items[i]
			grants = append(grants, g)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			gate.SortGrants(grants)
			return stored, grants, nil
		}
	}
}

func (s Store) lease(g gate.Grant) *coordinationv1.Lease {
	seconds := int32(g.TTL / time.Second)
	taken := metav1.NewMicroTime(g.Taken)
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:        s.Cluster + "." + g.Node,
			Labels:      map[string]string{clusterLabel: s.Cluster},
			Annotations: map[string]string{nodeAnnotation: g.Node},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &g.Holder, AcquireTime: &taken, LeaseDurationSeconds: &seconds},
	}
	if g.Manual {
		l.Annotations[manualAnnotation] = "true"
	}
	annotate(l, g)
	return l
}

func annotate(l *coordinationv1.Lease, g gate.Grant) {
	if g.Pending {
		l.Annotations[pendingAnnotation] = "true"
	} else {
		delete(l.Annotations, pendingAnnotation)
	}
	for key, t := range map[string]time.Time{wentAnnotation: g.Went, backAnnotation: g.Back} {
		if t.IsZero() {
			delete(l.Annotations, key)
		} else {
			l.Annotations[key] = t.UTC().Format(time.RFC3339Nano)
		}
	}
}

// grant returns the grant in a Lease. If somebody has removed fields from the Lease, the node still
// counts as granted. Without the fields, the holder of the grant is "unknown", its time is the
// creation time of the Lease, and its TTL is 0. The grant then does not say when the node went away
// or returned.
func (s Store) grant(l *coordinationv1.Lease) gate.Grant {
	g := gate.Grant{Node: l.Annotations[nodeAnnotation], Holder: "unknown", Taken: l.CreationTimestamp.Time}
	if g.Node == "" {
		g.Node = strings.TrimPrefix(l.Name, s.Cluster+".")
	}
	if p := l.Spec.HolderIdentity; p != nil {
		g.Holder = *p
	}
	if p := l.Spec.AcquireTime; p != nil {
		g.Taken = p.Time
	}
	if p := l.Spec.LeaseDurationSeconds; p != nil {
		g.TTL = time.Duration(*p) * time.Second
	}
	_, g.Pending = l.Annotations[pendingAnnotation]
	_, g.Manual = l.Annotations[manualAnnotation]
	g.Went, _ = time.Parse(time.RFC3339Nano, l.Annotations[wentAnnotation])
	g.Back, _ = time.Parse(time.RFC3339Nano, l.Annotations[backAnnotation])
	return g
}

func (s Store) update(ctx context.Context, l *coordinationv1.Lease, g gate.Grant) error {
	if l == nil {
		return fmt.Errorf("leases: there is no grant for %s", g.Node)
	}
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	annotate(l, g)
	_, err := s.Client.Update(ctx, l, metav1.UpdateOptions{})
	return again(err)
}

func (s Store) end(ctx context.Context, l *coordinationv1.Lease) error {
	if l == nil {
		return errors.New("leases: there is no such grant")
	}
	return again(s.Client.Delete(ctx, l.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion}}))
}
