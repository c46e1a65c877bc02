//go:build linux

package scenarios

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/manifesttest"
)

// fleet creates and changes the objects of a large cluster.
type fleet struct {
	client kubernetes.Interface
	nodes  []*corev1.Node // made by package manifesttest
}

// atOnce is the number of concurrent requests. It is large enough to keep an API server busy, and
// less than the number of HTTP/2 streams that one connection may have.
const atOnce = 16

// newFleet returns a fleet of nodes. Its client sends and receives protobuf, which is smaller than
// JSON, so the client itself costs the API server little.
func newFleet(config *rest.Config, nodes int) (*fleet, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return &fleet{client: client, nodes: manifesttest.Nodes(nodes)}, nil
}

// The function "each" calls f for the indices from first to end-1. Up to atOnce calls of f run at
// the same time.
func each(ctx context.Context, first, end int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := first; i < end && ctx.Err() == nil; i++ {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// node returns node i as its kubelet registers it. With the fields that the API server adds, the
// node is as large as a real node, about 15 kB.
func (f *fleet) node(i int) *corev1.Node {
	n := f.nodes[i].DeepCopy()
	clearServerFields(&n.ObjectMeta)
	// A kubelet reports up to 50 images.
	for j := range 30 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{
				fmt.Sprintf("registry.example.com/team-%02d/some-service@sha256:%064x", j, (i+1)*(j+1)),
				fmt.Sprintf("registry.example.com/team-%02d/some-service:v1.%d.%d", j, j, i%50),
			},
			SizeBytes: int64(50_000_000 + i*j),
		})
	}
	return n
}

// clearServerFields removes the fields that the API server sets.
func clearServerFields(m *metav1.ObjectMeta) {
	m.UID, m.ResourceVersion, m.CreationTimestamp, m.ManagedFields = "", "", metav1.Time{}, nil
}

func (f *fleet) createNode(ctx context.Context, n *corev1.Node) error {
	_, err := f.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{FieldManager: "kubelet"})
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// createNodes creates the nodes with the indices from first to end-1.
func (f *fleet) createNodes(ctx context.Context, first, end int) error {
	return each(ctx, first, end, func(ctx context.Context, i int) error { return f.createNode(ctx, f.node(i)) })
}

// nodeSize returns the size of node 0 as JSON in bytes.
func (f *fleet) nodeSize(ctx context.Context) (int, error) {
	b, err := f.client.CoreV1().RESTClient().Get().Resource("nodes").Name(f.nodes[0].Name).SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("fleet: %w", err)
	}
	return len(b), nil
}

// createServices creates n services and their namespaces.
func (f *fleet) createServices(ctx context.Context, n int) error {
	services := manifesttest.Services(n)
	var namespaces []string
	for _, s := range services {
		if k := len(namespaces); k == 0 || namespaces[k-1] != s.Namespace {
			namespaces = append(namespaces, s.Namespace)
		}
	}
	if err := each(ctx, 0, len(namespaces), func(ctx context.Context, i int) error {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaces[i]}}
		_, err := f.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	if err := each(ctx, 0, n, func(ctx context.Context, i int) error {
		s := services[i]
		clearServerFields(&s.ObjectMeta)
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		_, err := f.client.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// fleetRoutes returns declarations for n services of a cluster, each with its own host.
func fleetRoutes(cluster string, n int) []byte {
	var b bytes.Buffer
	b.WriteString("routes:\n")
	for i := range n {
		namespace, name := manifesttest.ServiceName(i)
		fmt.Fprintf(&b, "- host: s%d.example.com\n  path: /api\n  backends:\n  - {cluster: %s, namespace: %s, service: %s, port: http}\n", i, cluster, namespace, name)
	}
	return b.Bytes()
}
