// Package kubeclient reads and writes the Nodes, the Pods, the Leases and the ConfigMaps of a
// cluster.
//
//	leases, err := kubeclient.NewLeases(config, "headgate")
//	…
//	lease, err := leases.Get(ctx, "terminator", metav1.GetOptions{})
//
// The clients have the same methods as the typed clients of client-go, so one interface fits both
// kinds of clients. The clients of this package make a program smaller. A program that imports the
// clients of client-go also compiles the objects of all API groups, which are about 340 packages.
// They take minutes with the race detector and add tens of megabytes.
//
// # What it does not do
//
// Package kubeclient does not watch objects; see package kubewatch.
package kubeclient

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// ConfigMapClient is a client of the ConfigMaps of a namespace.
type ConfigMapClient = Client[*corev1.ConfigMap, *corev1.ConfigMapList]

// LeaseClient is a client of the Leases of a namespace.
type LeaseClient = Client[*coordinationv1.Lease, *coordinationv1.LeaseList]

// NodeClient is a client of the Nodes of a cluster.
type NodeClient = Client[*corev1.Node, *corev1.NodeList]

// PodClient is a client of the Pods of a namespace.
type PodClient = Client[*corev1.Pod, *corev1.PodList]

// NewLeases returns a client of the Leases of a namespace. NewLeases does not connect to the API
// server, and does not change config. The client sends JSON and not protobuf, because Leases are
// small.
func NewLeases(config *rest.Config, namespace string) (*LeaseClient, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, ""
	client, err := connect(config, "/apis", coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &LeaseClient{
		client: client, resource: "leases", namespace: namespace,
		newObject: func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		newList:   func() *coordinationv1.LeaseList { return &coordinationv1.LeaseList{} },
	}, nil
}

// NewNodes returns a client of the Nodes of a cluster. NewNodes does not connect to the API server,
// and does not change config.
func NewNodes(config *rest.Config) (*NodeClient, error) {
	client, err := connect(rest.CopyConfig(config), "/api", corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &NodeClient{
		client: client, resource: "nodes",
		newObject: func() *corev1.Node { return &corev1.Node{} },
		newList:   func() *corev1.NodeList { return &corev1.NodeList{} },
	}, nil
}

// NewPods returns a client of the Pods of a namespace. NewPods does not connect to the API server,
// and does not change config.
func NewPods(config *rest.Config, namespace string) (*PodClient, error) {
	client, err := connect(rest.CopyConfig(config), "/api", corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &PodClient{
		client: client, resource: "pods", namespace: namespace,
		newObject: func() *corev1.Pod { return &corev1.Pod{} },
		newList:   func() *corev1.PodList { return &corev1.PodList{} },
	}, nil
}

// NewConfigMaps returns a client of the ConfigMaps of a namespace. NewConfigMaps does not connect to
// the API server, and does not change config. The client sends JSON.
func NewConfigMaps(config *rest.Config, namespace string) (*ConfigMapClient, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, ""
	client, err := connect(config, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &ConfigMapClient{
		client: client, resource: "configmaps", namespace: namespace,
		newObject: func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		newList:   func() *corev1.ConfigMapList { return &corev1.ConfigMapList{} },
	}, nil
}

// connect returns a client for an API group. The argument "add" is a function that adds the types
// of the objects to a scheme. connect changes config, so pass a copy.
func connect(config *rest.Config, apiPath string, group schema.GroupVersion, add func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // the errors of an API server
	if err := add(scheme); err != nil {
		return nil, fmt.Errorf("kubeclient: %w", err)
	}
	config.APIPath, config.GroupVersion = apiPath, &group
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeclient: %w", err)
	}
	return client, nil
}

type object interface {
	runtime.Object
	metav1.Object
}

// Client reads and writes objects of type T; L is the type of a list of them. It is safe for
// concurrent use. The functions of apimachinery's package errors, such as IsNotFound, recognise an
// error of the API server.
type Client[T object, L runtime.Object] struct {
	client    rest.Interface
	resource  string
	namespace string // "" if the objects have no namespace
	newObject func() T
	newList   func() L
}

// Get returns an object.
func (c *Client[T, L]) Get(ctx context.Context, name string, o metav1.GetOptions) (T, error) {
	return c.do(ctx, c.request(c.client.Get()).Name(name).VersionedParams(&o, metav1.ParameterCodec))
}

// List returns the objects that the selectors in o select. With a limit in o, it returns one page
// of them.
func (c *Client[T, L]) List(ctx context.Context, o metav1.ListOptions) (L, error) {
	list := c.newList()
	err := c.request(c.client.Get()).VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(list)
	return list, err
}

// Create creates an object, and returns it with the fields that the API server has set.
func (c *Client[T, L]) Create(ctx context.Context, object T, o metav1.CreateOptions) (T, error) {
	return c.do(ctx, c.request(c.client.Post()).VersionedParams(&o, metav1.ParameterCodec).Body(object))
}

// Update replaces an object. If the object has a resource version, and this is not the present
// version, the API server answers with a conflict.
func (c *Client[T, L]) Update(ctx context.Context, object T, o metav1.UpdateOptions) (T, error) {
	return c.do(ctx, c.request(c.client.Put()).Name(object.GetName()).VersionedParams(&o, metav1.ParameterCodec).Body(object))
}

// Patch changes an object, or one of its subresources.
func (c *Client[T, L]) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, o metav1.PatchOptions, subresources ...string) (T, error) {
	return c.do(ctx, c.request(c.client.Patch(kind)).Name(name).SubResource(subresources...).VersionedParams(&o, metav1.ParameterCodec).Body(patch))
}

// Delete deletes an object.
func (c *Client[T, L]) Delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	return c.request(c.client.Delete()).Name(name).Body(&o).Do(ctx).Error()
}

func (c *Client[T, L]) request(r *rest.Request) *rest.Request {
	return r.NamespaceIfScoped(c.namespace, c.namespace != "").Resource(c.resource)
}

func (c *Client[T, L]) do(ctx context.Context, r *rest.Request) (T, error) {
	object := c.newObject()
	err := r.Do(ctx).Into(object)
	return object, err
}
