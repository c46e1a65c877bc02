//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// App describes an application to deploy: a Service of type NodePort, and pods.
type App struct {
	Namespace, Name string
	// PortName is the name of the port of the service. Empty means "http".
	PortName string
	// NodePort is the node port of the Service. 0 means that the API server allocates one.
	NodePort int32
	// Annotations are set on the Service.
	Annotations map[string]string
	// Local means externalTrafficPolicy: Local.
	Local bool
	// Pods is the number of pods on each node in the list On. 0 means one pod, and a negative
	// number means no pods.
	Pods int
	// On are the nodes that run pods of the app. nil means all nodes of the cluster.
	On []*Node
}

// Deployed is a running App.
type Deployed struct {
	App     App
	Cluster *Cluster
	// NodePort is the port on which every node of the cluster answers.
	NodePort int32
	Pods     []*Pod
}

// Deploy creates the Service and the pods, and the namespace if it is missing. It returns when the
// endpoint slices list every pod. kube-proxy may need another second to use them.
func (c *Cluster) Deploy(ctx context.Context, app App) (*Deployed, error) {
	if err := c.EnsureNamespace(ctx, app.Namespace); err != nil {
		return nil, err
	}
	svc, err := c.CreateService(ctx, app)
	if err != nil {
		return nil, err
	}
	d := &Deployed{App: app, Cluster: c, NodePort: svc.Spec.Ports[0].NodePort}
	nodes, each := app.On, app.Pods
	if nodes == nil {
		nodes = c.Nodes()
	}
	if each == 0 {
		each = 1
	}
	d.Pods = make([]*Pod, len(nodes)*max(0, each))
	g, gctx := errgroup.WithContext(ctx)
	for i := range d.Pods {
		g.Go(func() (err error) {
			d.Pods[i], err = nodes[i%len(nodes)].RunPod(gctx, app.Namespace, app.Name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	_, err = Until(ctx, fmt.Sprintf("%d endpoints of %s", len(d.Pods), app.Name), 30*time.Second, func(ctx context.Context) error {
		ready, err := c.ReadyEndpoints(ctx, app.Namespace, app.Name)
		if err == nil && ready != len(d.Pods) {
			err = fmt.Errorf("%d are ready", ready)
		}
		return err
	}, c.Controllers)
	return d, err
}

// CreateService creates only the Service of an App.
func (c *Cluster) CreateService(ctx context.Context, app App) (*corev1.Service, error) {
	name := app.PortName
	if name == "" {
		name = "http"
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: app.Name, Annotations: maps.Clone(app.Annotations)},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeNodePort,
			Selector: map[string]string{AppLabel: app.Name},
			Ports:    []corev1.ServicePort{{Name: name, Port: 80, TargetPort: intstr.FromInt32(PodPort), NodePort: app.NodePort}},
		},
	}
	if app.Local {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	made, err := c.Client.CoreV1().Services(app.Namespace).Create(ctx, svc, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return made, nil
}

// DeleteService deletes a Service and its endpoint slices, as the garbage collector would.
func (c *Cluster) DeleteService(ctx context.Context, namespace, name string) error {
	if err := c.Client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	err := c.Client.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// AnnotateService sets an annotation of a Service; an empty value removes it.
func (c *Cluster) AnnotateService(ctx context.Context, namespace, name, key, value string) error {
	patch, err := json.Marshal(metadataPatch("annotations", key, value))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if _, err := c.Client.CoreV1().Services(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// ReadyEndpoints returns how many endpoints are ready in the endpoint slices of a service.
func (c *Cluster) ReadyEndpoints(ctx context.Context, namespace, service string) (int, error) {
	list, err := c.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	ready := 0
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				ready++
			}
		}
	}
	return ready, nil
}

// EnsureNamespace creates a namespace if it is missing. In the namespace it creates the
// ServiceAccount "default", which every pod needs. In other clusters a controller creates this
// account.
func (c *Cluster) EnsureNamespace(ctx context.Context, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("lab: %w", err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: name}}
	if _, err := c.Client.CoreV1().ServiceAccounts(name).Create(ctx, sa, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}
