// Package configmap stores the orders of operators in a ConfigMap of Kubernetes, for all
// terminators of a fleet.
//
//	terminator.Fleet = &configmap.Store{Config: config, Namespace: "headgate-terminator", Name: "headgate-terminator"}
//
// Each terminator watches the ConfigMap, and learns of a change within a few seconds. It also reads
// the ConfigMap every 30 s, and every 2 s after a failure.
//
// The account of each process needs permission to get, list, watch and update this ConfigMap, and
// to create ConfigMaps in its namespace.
//
// # The ConfigMap
//
// The key fleet.json contains a fleet.State as JSON. The Store keeps all other keys, labels and
// annotations. The API server accepts a ConfigMap of at most 1 MiB, and Write refuses a larger
// State. 10,000 held routes need about 0.1 MB; a shift of 10,000 routes needs about 0.4 MB.
//
// If the ConfigMap or the key is missing, a Controller keeps the last state that it has seen. To
// end all orders by hand, set the key to "{}".
package configmap

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/internal/kubeclient"
	"github.com/headgate/headgate/internal/kubewatch"
)

// Key is the key in the ConfigMap under which the Store keeps the fleet.State as JSON.
const Key = "fleet.json"

// maxBytes is the largest size of a ConfigMap that an API server accepts.
const maxBytes = 1 << 20

const (
	requestTimeout = 5 * time.Second
	interval       = 30 * time.Second // between two reads without an event
	retryInterval  = 2 * time.Second  // while the ConfigMap cannot be read or watched
)

// Store implements fleet.Store with a ConfigMap. Set the fields before the first call of a method, and
// do not change them later.
type Store struct {
	// Config returns the address and credentials of the API server. The Store calls Config again
	// after an error. Required.
	Config func() (*rest.Config, error)
	// Namespace and Name name the ConfigMap. Write creates it if it is missing. Required.
	Namespace, Name string

	mu      sync.Mutex // held during a request, and during the call of the function publish after the request
	client  client     // nil before the first request, and after an error
	publish func(fleet.Snapshot, error)
}

// client contains those methods of a client of ConfigMaps that a Store calls.
type client interface {
	Get(context.Context, string, metav1.GetOptions) (*corev1.ConfigMap, error)
	Create(context.Context, *corev1.ConfigMap, metav1.CreateOptions) (*corev1.ConfigMap, error)
	Update(context.Context, *corev1.ConfigMap, metav1.UpdateOptions) (*corev1.ConfigMap, error)
}

// Read implements fleet.Store.
func (s *Store) Read(ctx context.Context) (fleet.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, now, err := s.get(ctx)
	if err == nil {
		s.tell(now, nil)
	}
	return now, err
}

// Write implements fleet.Store.
func (s *Store) Write(ctx context.Context, state fleet.State, version string) (fleet.Snapshot, error) {
	data, err := state.AppendJSON(nil)
	if err != nil {
		return fleet.Snapshot{}, err
	}
	if len(data) > maxBytes {
		held := 0
		if state.Hold != nil {
			held = len(state.Hold.Routes)
		}
		if state.Canary != nil {
			held += len(state.Canary.Routes)
		}
		return fleet.Snapshot{}, fmt.Errorf("configmap: nothing is stored: the state with %d bytes of held and approved routes and the shifts of %d routes has %d bytes, and a ConfigMap has at most %d",
			held, len(state.Shifts.Shifts), len(data), maxBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	object, now, err := s.get(ctx)
	if err != nil {
		return fleet.Snapshot{}, err
	}
	if now.Version != version {
		s.tell(now, nil)
		return fleet.Snapshot{}, fleet.ErrConflict
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if object == nil {
		object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}, Data: map[string]string{Key: string(data)}}
		object, err = s.client.Create(ctx, object, metav1.CreateOptions{})
	} else {
		if object.Data == nil {
			object.Data = map[string]string{}
		}
		object.Data[Key] = string(data)
		object, err = s.client.Update(ctx, object, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && version != "":
		return fleet.Snapshot{}, fmt.Errorf("%w: %w", fleet.ErrConflict, err)
	case err != nil:
		return fleet.Snapshot{}, s.failed(err)
	}
	now = fleet.Snapshot{State: state, Version: object.ResourceVersion}
	s.tell(now, nil)
	return now, nil
}

// get reads the ConfigMap. The object is nil if the ConfigMap is missing.
func (s *Store) get(ctx context.Context) (*corev1.ConfigMap, fleet.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if s.client == nil {
		config, err := s.Config()
		if err != nil {
			return nil, fleet.Snapshot{}, s.failed(err)
		}
		c, err := kubeclient.NewConfigMaps(config, s.Namespace)
		if err != nil {
			return nil, fleet.Snapshot{}, s.failed(err)
		}
		s.client = c
	}
	object, err := s.client.Get(ctx, s.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fleet.Snapshot{}, nil
	}
	if err != nil {
		return nil, fleet.Snapshot{}, s.failed(err)
	}
	text, ok := object.Data[Key]
	if !ok {
		// The ConfigMap exists, but contains no state. A write needs the version of the ConfigMap,
		// so return the object.
		return object, fleet.Snapshot{}, nil
	}
	state, err := fleet.Parse([]byte(text))
	if err != nil {
		return nil, fleet.Snapshot{}, fmt.Errorf("configmap: %s/%s: %s: %w", s.Namespace, s.Name, Key, err)
	}
	return object, fleet.Snapshot{State: state, Version: object.ResourceVersion}, nil
}

// failed returns the error of a request. The next request uses a new client, because the credentials
// may have expired.
func (s *Store) failed(err error) error {
	s.client = nil
	return fmt.Errorf("configmap: %s/%s: %w", s.Namespace, s.Name, err)
}

func (s *Store) tell(now fleet.Snapshot, err error) {
	if s.publish != nil {
		s.publish(now, err)
	}
}

// Follow implements fleet.Store. Only one Follow may run at a time.
func (s *Store) Follow(ctx context.Context, publish func(fleet.Snapshot, error)) {
	s.setPublish(publish)
	defer s.setPublish(nil)
	events := &events{arrived: make(chan struct{}, 1)}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { s.watch(ctx, events) })
	for {
		healthy := s.refresh(ctx) && events.healthy()
		pause := interval
		if !healthy {
			pause = retryInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-events.arrived:
		case <-time.After(pause):
		}
	}
}

func (s *Store) setPublish(publish func(fleet.Snapshot, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish = publish
}

// refresh reads the state, and publishes the state or the error. It returns true if there is no
// error.
func (s *Store) refresh(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, now, err := s.get(ctx)
	if ctx.Err() == nil {
		s.tell(now, err)
	}
	return err == nil
}

// watch watches the ConfigMap until ctx ends, and calls the methods of events.
func (s *Store) watch(ctx context.Context, to *events) {
	for ctx.Err() == nil {
		config, err := s.Config()
		var clients kubewatch.Clients
		if err == nil {
			clients, err = kubewatch.NewClients(config)
		}
		if err != nil {
			to.health(err)
			select {
			case <-ctx.Done():
			case <-time.After(retryInterval):
			}
			continue
		}
		kubewatch.Source[*corev1.ConfigMap]{
			Client: clients.Core, Resource: "configmaps", Namespace: s.Namespace, Fields: "metadata.name=" + s.Name,
			Transform: func(c *corev1.ConfigMap) (*corev1.ConfigMap, bool) {
				c.Data, c.BinaryData = nil, nil
				return c, true
			},
		}.Run(ctx, to, to.health)
	}
}

// events notes that the ConfigMap has changed. It is a kubewatch.Sink.
type events struct {
	arrived chan struct{} // has an element after an event

	mu  sync.Mutex
	err error
}

func (e *events) wake() {
	select {
	case e.arrived <- struct{}{}:
	default:
	}
}

// Replace implements kubewatch.Sink.
func (e *events) Replace([]*corev1.ConfigMap) { e.wake() }

// Set implements kubewatch.Sink.
func (e *events) Set(*corev1.ConfigMap) { e.wake() }

// Delete implements kubewatch.Sink.
func (e *events) Delete(_, _ string) { e.wake() }

func (e *events) health(err error) {
	e.mu.Lock()
	e.err = err
	e.mu.Unlock()
	e.wake()
}

func (e *events) healthy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err == nil
}
