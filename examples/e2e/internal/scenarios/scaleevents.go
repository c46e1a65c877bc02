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

// nodeEvent is a change of a node that the scenario makes, and the effect that the change must have
// on the configuration.
type nodeEvent struct {
	name string
	do   func(ctx context.Context, f *fleet, i int) error
	// enters and leaves return addresses. After the event of node i, the configuration must have
	// servers at enters(i), and no servers at leaves(i). A nil function means no condition; with
	// two nil functions, the event must not change the configuration.
	enters, leaves func(i int) string
}

// nodeEvents happen to each node in this order. After the last one, the node is in its original
// state.
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

// otherAddr returns a second address for node i. No other node has it.
func otherAddr(i int) string { return fmt.Sprintf("10.200.%d.%d", i>>8&0xff, i&0xff) }

// serversAt returns a text that occurs in the configuration once for each server at the address
// addr, and nowhere else: the name of a server begins with its address and port.
func serversAt(addr string) []byte { return []byte(" " + addr + ":") }

// holds reports whether the configuration shows the effect of the event.
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

// exclude sets the label that excludes a node from load balancers. nil removes the label.
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

// createUnready creates a node whose status says that it has been unready for twice
// nodeselect.DefaultGrace. So the terminator does not use the node.
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

// eventTook has the measured times of one event. The field "total" is the time from the beginning
// of the request to the API server until the event has its effect on the configuration.
type eventTook struct {
	name string
	// The field "request" is the duration of the request to the API server. The field "total"
	// includes this duration.
	request, total time.Duration
}

// makeEvents makes at least n measured events. For one node after another, it makes all events of
// nodeEvents, and waits for the effect of each event.
func makeEvents(ctx context.Context, f *fleet, config *fileWatch, n int) ([]eventTook, error) {
	const step = 37 // visits nodes of all zones
	var took []eventTook
	for i := step; len(took) < n; i = (i + step) % len(f.nodes) {
		if i == 0 { // the node of the agent
			continue
		}
		for _, e := range nodeEvents {
			config.forget()
			start := time.Now()
			if err := e.do(ctx, f, i); err != nil {
				return took, fmt.Errorf("%s: %w", e.name, err)
			}
			if e.enters == nil && e.leaves == nil {
				continue // the event must have no effect
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
