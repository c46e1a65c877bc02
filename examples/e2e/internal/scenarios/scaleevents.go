//go:build linux

package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect"
)

// nodeEvent is something that happens to a node, and what must come of it.
type nodeEvent struct {
	name string
	do   func(ctx context.Context, f *fleet, i int) error
	// enters and leaves are the addresses of which the configuration has servers
	// afterwards, and of which it has none; "" for neither.
	enters, leaves func(i int) string
}

// nodeEvents are what happens to one node after the other, in this order: at the end it
// is what it was at the beginning.
var nodeEvents = []nodeEvent{
	{name: "excluded", do: exclude("true"), leaves: manifesttest.NodeAddr},
	{name: "included", do: exclude(nil), enters: manifesttest.NodeAddr},
	{name: "readdressed", do: readdress(otherAddr), leaves: manifesttest.NodeAddr, enters: otherAddr},
	{name: "readdressed", do: readdress(manifesttest.NodeAddr), leaves: otherAddr, enters: manifesttest.NodeAddr},
	{name: "deleted", do: deleteNode, leaves: manifesttest.NodeAddr},
	{name: "created", do: func(ctx context.Context, f *fleet, i int) error { return f.createNode(ctx, f.node(i)) }, enters: manifesttest.NodeAddr},
	{name: "deleted", do: deleteNode, leaves: manifesttest.NodeAddr},
	{name: "not ready since long", do: createUnready},
	{name: "ready", do: ready, enters: manifesttest.NodeAddr},
}

// otherAddr is a second address of the node with index i, which no other node has.
func otherAddr(i int) string { return fmt.Sprintf("10.200.%d.%d", i>>8&0xff, i&0xff) }

// serversAt is what a configuration has of each server at an address: servers are named
// by address and port.
func serversAt(addr string) []byte { return []byte(" " + addr + ":") }

// holds tells whether the configuration is what it must be after the event.
func (e nodeEvent) holds(i int, config []byte) bool {
	return (e.enters == nil || bytes.Contains(config, serversAt(e.enters(i)))) &&
		(e.leaves == nil || !bytes.Contains(config, serversAt(e.leaves(i))))
}

func (f *fleet) patchNode(ctx context.Context, i int, patch any, subresources ...string) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	_, err = f.client.CoreV1().Nodes().Patch(ctx, f.nodes[i].Name, types.StrategicMergePatchType, b, metav1.PatchOptions{}, subresources...)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// exclude sets the label that keeps a node from balancers; nil removes it.
func exclude(value any) func(context.Context, *fleet, int) error {
	return func(ctx context.Context, f *fleet, i int) error {
		return f.patchNode(ctx, i, map[string]any{"metadata": map[string]any{"labels": map[string]any{nodeselect.ExcludeLabel: value}}})
	}
}

func readdress(addr func(i int) string) func(context.Context, *fleet, int) error {
	return func(ctx context.Context, f *fleet, i int) error {
		return f.patchNode(ctx, i, map[string]any{"status": map[string]any{"addresses": []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: addr(i)},
		}}}, "status")
	}
}

func deleteNode(ctx context.Context, f *fleet, i int) error {
	if err := f.client.CoreV1().Nodes().Delete(ctx, f.nodes[i].Name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// createUnready makes a node that is not ready, and has not been for longer than a node
// is waited for.
func createUnready(ctx context.Context, f *fleet, i int) error {
	n := f.node(i)
	for j := range n.Status.Conditions {
		if c := &n.Status.Conditions[j]; c.Type == corev1.NodeReady {
			c.Status, c.Reason = corev1.ConditionFalse, "KubeletNotReady"
			c.LastTransitionTime = metav1.NewTime(time.Now().Add(-2 * nodeselect.DefaultGrace))
		}
	}
	return f.createNode(ctx, n)
}

func ready(ctx context.Context, f *fleet, i int) error {
	return f.patchNode(ctx, i, map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastTransitionTime: metav1.Now(), LastHeartbeatTime: metav1.Now()},
	}}}, "status")
}

// eventTook is how long one event took to be in the configuration.
type eventTook struct {
	name string
	// request is the time of the API server alone, and is part of total.
	request, total time.Duration
}

// makeEvents makes all kinds of events, each when the one before is in the
// configuration, to one node after another, until there are n of them.
func makeEvents(ctx context.Context, f *fleet, config *fileWatch, n int) ([]eventTook, error) {
	const step = 37 // nodes of all zones and of no other order
	var took []eventTook
	for i := step; len(took) < n; i = (i + step) % len(f.nodes) {
		if i == 0 { // the node that the agent stands on
			continue
		}
		for _, e := range nodeEvents {
			config.forget()
			start := time.Now()
			if err := e.do(ctx, f, i); err != nil {
				return took, fmt.Errorf("%s: %w", e.name, err)
			}
			if e.enters == nil && e.leaves == nil {
				continue // nothing must come of it
			}
			request := time.Since(start)
			what := fmt.Sprintf("%s, which is %s,", f.nodes[i].Name, e.name)
			at, err := config.until(ctx, what, 10*time.Second, func(b []byte) bool { return e.holds(i, b) })
			if err != nil {
				return took, err
			}
			took = append(took, eventTook{e.name, request, at.Sub(start)})
		}
	}
	return took, nil
}
