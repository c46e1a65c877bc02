// Package leasestest simulates a namespace of Leases for tests, without an API server.
//
//	fake := leasestest.New()
//	store := leases.Store{Client: fake, Cluster: "eu-1"}
package leasestest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Leases simulates a namespace of Leases, with the resource versions and preconditions of an API
// server. It has the verbs get, list, create, update and delete. Any number of goroutines may call
// its methods.
type Leases struct {
	// Fail, if not nil, decides whether a request fails. If its first result is not nil, the
	// request has no effect and returns this error. If its second result is not nil, the request
	// has its effect and then returns this error. Set Fail while no request is running.
	Fail func(verb, name string) (before, after error)

	mu      sync.Mutex
	version int
	leases  map[string]*coordinationv1.Lease
}

// New returns an empty namespace.
func New() *Leases { return &Leases{leases: map[string]*coordinationv1.Lease{}} }

// Len returns the number of Leases.
func (f *Leases) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.leases)
}

var resource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// do makes one request by calling the function "run" under the lock. If the first result of Fail is
// an error, do returns it instead. If the second result is an error, do returns it after a
// successful call: the request has taken effect, but its answer is lost.
func (f *Leases) do(verb, name string, run func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var before, after error
	if f.Fail != nil {
		before, after = f.Fail(verb, name)
	}
	if before != nil {
		return before
	}
	if err := run(); err != nil {
		return err
	}
	return after
}

func (f *Leases) put(l *coordinationv1.Lease) *coordinationv1.Lease {
	f.version++
	l = l.DeepCopy()
	l.ResourceVersion = strconv.Itoa(f.version)
	f.leases[l.Name] = l
	return l.DeepCopy()
}

// Get returns a copy of a Lease.
func (f *Leases) Get(_ context.Context, name string, _ metav1.GetOptions) (l *coordinationv1.Lease, err error) {
	err = f.do("get", name, func() error {
		if f.leases[name] == nil {
			return apierrors.NewNotFound(resource, name)
		}
		l = f.leases[name].DeepCopy()
		return nil
	})
	return l, err
}

// List returns copies of the Leases that match the label selector.
func (f *Leases) List(_ context.Context, o metav1.ListOptions) (list *coordinationv1.LeaseList, err error) {
	selector, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return nil, err
	}
	list = &coordinationv1.LeaseList{}
	err = f.do("list", "", func() error {
		for _, l := range f.leases {
			if selector.Matches(labels.Set(l.Labels)) {
				list.Items = append(list.Items, *l.DeepCopy())
			}
		}
		return nil
	})
	return list, err
}

// Create stores a Lease.
func (f *Leases) Create(_ context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (created *coordinationv1.Lease, err error) {
	err = f.do("create", l.Name, func() error {
		if f.leases[l.Name] != nil {
			return apierrors.NewAlreadyExists(resource, l.Name)
		}
		l = l.DeepCopy()
		l.UID = types.UID(fmt.Sprint("uid-", f.version))
		l.CreationTimestamp = metav1.Now()
		created = f.put(l)
		return nil
	})
	return created, err
}

// Update replaces a Lease. It returns a conflict if the resource version of l is not the present
// one.
func (f *Leases) Update(_ context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (updated *coordinationv1.Lease, err error) {
	err = f.do("update", l.Name, func() error {
		old := f.leases[l.Name]
		if old == nil {
			return apierrors.NewNotFound(resource, l.Name)
		}
		if old.ResourceVersion != l.ResourceVersion {
			return apierrors.NewConflict(resource, l.Name, errors.New("changed"))
		}
		updated = f.put(l)
		return nil
	})
	return updated, err
}

// Delete removes a Lease. It returns an error if the Lease does not meet the preconditions in o.
func (f *Leases) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	return f.do("delete", name, func() error {
		old := f.leases[name]
		if old == nil {
			return apierrors.NewNotFound(resource, name)
		}
		if p := o.Preconditions; p != nil && (*p.UID != old.UID || *p.ResourceVersion != old.ResourceVersion) {
			return apierrors.NewConflict(resource, name, errors.New("changed"))
		}
		delete(f.leases, name)
		return nil
	})
}
