package apply

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// manager returns the part of a message that names the manager: `conflict with "kubectl-scale"
// using apps/v1` → `"kubectl-scale" using apps/v1`.
func manager(message string) string { return strings.TrimPrefix(message, "conflict with ") }

// pageSize is the number of objects in one answer of the API server.
const pageSize = 500

// Read returns all Services of the cluster, and the Deployments of some namespaces. So it returns
// what Change.Old needs. The account needs the right to list Services in all namespaces, because a
// node port may belong to a Service of any namespace.
func (a *Applier) Read(ctx context.Context, namespaces ...string) (change.Objects, error) {
	services, err := list[corev1.Service](ctx, a.Client.Resource(resources["Service"]))
	if err != nil {
		return change.Objects{}, fmt.Errorf("apply: list Services: %w", err)
	}
	objects := change.Objects{Services: services}
	for _, n := range namespaces {
		deployments, err := list[appsv1.Deployment](ctx, a.Client.Resource(resources["Deployment"]).Namespace(n))
		if err != nil {
			return change.Objects{}, fmt.Errorf("apply: list Deployments of %s: %w", n, err)
		}
		objects.Deployments = append(objects.Deployments, deployments...)
	}
	return objects, nil
}

// list reads all pages of a list. If a page comes so late that the API server has forgotten the
// state of the first page, list begins again once.
func list[T any](ctx context.Context, client dynamic.ResourceInterface) ([]*T, error) {
	objects, err := pages[T](ctx, client)
	if apierrors.IsResourceExpired(err) {
		objects, err = pages[T](ctx, client)
	}
	return objects, err
}

func pages[T any](ctx context.Context, client dynamic.ResourceInterface) (objects []*T, err error) {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := client.List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			o := new(T)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(page.Items[i].Object, o); err != nil {
				return nil, fmt.Errorf("%s/%s: %w", page.Items[i].GetNamespace(), page.Items[i].GetName(), err)
			}
			objects = append(objects, o)
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return objects, nil
		}
	}
}
