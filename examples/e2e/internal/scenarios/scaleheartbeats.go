//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// heartbeatInterval is the time between two writes of the status of a node. A kubelet writes the
// status of its node every ten seconds if the status changes all the time. If the status does not
// change, the kubelet writes it every five minutes, and renews a Lease in between.
const heartbeatInterval = 10 * time.Second

// heartbeats writes the status of each node once in every heartbeatInterval, until somebody calls
// its function "stop". The writes of all nodes are spread evenly over the interval.
type heartbeats struct {
	client rest.Interface
	start  time.Time
	sent   atomic.Int64
	stop   func() error // waits, and returns the error of a failed write
}

// beat starts to send heartbeats for the nodes with the indices from 0 to n-1. Each node sends one
// in each heartbeatInterval. The heartbeats of the nodes are evenly spread over the interval, in
// the order of the indices.
func (f *fleet) beat(ctx context.Context, n int) *heartbeats {
	ctx, cancel := context.WithCancel(ctx)
	h := &heartbeats{client: f.client.CoreV1().RESTClient(), start: time.Now()}
	due := make(chan string)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(due)
		for k := 0; ; k++ {
			at := h.start.Add(time.Duration(k) * heartbeatInterval / time.Duration(n))
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(at)):
			}
			select {
			case <-ctx.Done():
				return
			case due <- f.nodes[k%n].Name:
			}
		}
	})
	var failure atomic.Pointer[error]
	for range atOnce {
		all.Go(func() {
			for name := range due {
				// Finish a write that has begun.
				switch err := h.write(context.WithoutCancel(ctx), name); {
				case err == nil:
					h.sent.Add(1)
				case apierrors.IsNotFound(err): // an event has deleted the node
				default:
					err = fmt.Errorf("heartbeat of %s: %w", name, err)
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	h.stop = func() error {
		cancel()
		all.Wait()
		if err := failure.Load(); err != nil {
			return *err
		}
		return nil
	}
	return h
}

// write writes the status of a node, as a kubelet does.
func (h *heartbeats) write(ctx context.Context, name string) error {
	type condition struct {
		Type              corev1.NodeConditionType `json:"type"`
		LastHeartbeatTime metav1.Time              `json:"lastHeartbeatTime"`
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []condition{
		{corev1.NodeMemoryPressure, now}, {corev1.NodeDiskPressure, now}, {corev1.NodePIDPressure, now}, {corev1.NodeReady, now},
	}}})
	if err != nil {
		return err
	}
	_, err = h.client.Patch(types.StrategicMergePatchType).Resource("nodes").Name(name).SubResource("status").
		VersionedParams(&metav1.PatchOptions{FieldManager: "kubelet"}, metav1.ParameterCodec).
		// Ask for a small answer, because nothing reads it.
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").
		Body(patch).Do(ctx).StatusCode(new(int)).Raw()
	return err
}

// midway waits for the moment in the middle between two heartbeats of node 0. In the half interval
// after this moment, no heartbeat of node 0 can disturb a measurement.
func (h *heartbeats) midway(ctx context.Context) error {
	since := time.Since(h.start) % heartbeatInterval
	return pause(ctx, (heartbeatInterval/2-since+heartbeatInterval)%heartbeatInterval)
}

// pause waits for d, or until ctx ends. Measurements that must last for a fixed time call pause.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
