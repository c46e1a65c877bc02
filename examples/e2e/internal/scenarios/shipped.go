//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/manifests"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// shipped is the scenario that checks all kustomizations of the examples on a real API server.
var shipped = scenario.Scenario[*Env]{
	Name:  "manifests",
	About: "the API server accepts every kustomization with each of its components, and admits the pods to their namespaces",
	Run:   runShipped,
}

// frontProxyNamespace is the namespace in the kustomization of the front proxy. It is also the
// namespace of the service behind the front proxy. Other scenarios may run pods in this namespace,
// so this scenario applies the kustomization to ownNamespace instead.
const (
	frontProxyNamespace = "media"
	ownNamespace        = "manifests"
)

func runShipped(ctx context.Context, env *Env, report *scenario.Report) error {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	c := clusters[0]
	if err := c.Apply(ctx, filepath.Join(c.Bin(), "..", "testdata", "servicemonitors.yaml")); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, "the API server has ServiceMonitors", time.Minute, func(context.Context) error {
		resources, err := c.Client.Discovery().ServerResourcesForGroupVersion("monitoring.coreos.com/v1")
		if err == nil && len(resources.APIResources) == 0 {
			err = errors.New("no resources")
		}
		return err
	}); err != nil {
		return err
	}
	own := &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: ownNamespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}},
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(own)
	if err != nil {
		return err
	}
	if err := applyAccounts(ctx, c, []*unstructured.Unstructured{{Object: content}}); err != nil {
		return err
	}
	bases, err := manifests.Find(filepath.Join(c.Bin(), "..", ".."))
	if err != nil {
		return err
	}
	if len(bases) == 0 {
		return errors.New("there are no kustomizations")
	}
	// Create the accounts and namespaces of all kustomizations first. They must exist before the
	// API server checks the other objects, and several kustomizations can share a namespace.
	for _, b := range bases {
		objects, err := b.Render()
		if err != nil {
			return err
		}
		if err := applyAccounts(ctx, c, objects); err != nil {
			return err
		}
	}
	for _, b := range bases {
		variants := [][]string{nil}
		for _, component := range b.Components {
			variants = append(variants, []string{component})
		}
		for _, components := range append(variants, b.Components) {
			name, err := filepath.Rel(filepath.Join(c.Bin(), "..", ".."), b.Dir)
			if err != nil {
				return err
			}
			for _, component := range components {
				name += " + " + filepath.Base(component)
			}
			pods, err := checkShipped(ctx, c, b, components)
			report.Add(scenario.Row{What: fmt.Sprintf("%s: accepted, pods admitted: %d", name, pods), Err: err})
			if len(b.Components) < 2 && len(components) == len(b.Components) {
				break // all components are the same as this one
			}
		}
	}
	return nil
}

// applyAccounts creates the Namespaces and the ServiceAccounts among the objects. The API server
// cannot check objects in a missing namespace, nor pods with a missing account.
func applyAccounts(ctx context.Context, c *lab.Cluster, objects []*unstructured.Unstructured) error {
	for _, kind := range []string{"Namespace", "ServiceAccount"} {
		for _, o := range objects {
			if o.GetKind() != kind {
				continue
			}
			if err := c.ApplyObjects(ctx, []*unstructured.Unstructured{moved(o)}, false); err != nil {
				return err
			}
			if kind == "Namespace" {
				if err := c.EnsureNamespace(ctx, o.GetName()); err != nil { // it also creates the account "default"
					return err
				}
			}
		}
	}
	return nil
}

// moved returns the object with the namespace of this scenario in place of the namespace of the
// front proxy. An object in another namespace stays the same.
func moved(o *unstructured.Unstructured) *unstructured.Unstructured {
	if o.GetNamespace() == frontProxyNamespace {
		o = o.DeepCopy()
		o.SetNamespace(ownNamespace)
	}
	return o
}

// checkShipped lets the API server check the objects of a kustomization, and the pods of its
// Deployments and DaemonSets. It returns the number of pods.
func checkShipped(ctx context.Context, c *lab.Cluster, b manifests.Base, components []string) (pods int, err error) {
	objects, err := b.Render(components...)
	if err != nil {
		return 0, err
	}
	for i, o := range objects {
		objects[i] = moved(o)
	}
	if err := c.ApplyObjects(ctx, objects, true); err != nil {
		return 0, err
	}
	for _, o := range objects {
		pod, err := shippedPod(o)
		if pod == nil && err == nil {
			continue
		}
		if err == nil {
			err = admit(ctx, c, pod)
		}
		if err != nil {
			return pods, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
		pods++
	}
	return pods, nil
}

// shippedPod returns a pod of a Deployment or DaemonSet. For other kinds it returns nil and no
// error.
func shippedPod(o *unstructured.Unstructured) (*corev1.Pod, error) {
	var template corev1.PodTemplateSpec
	switch o.GetKind() {
	case "Deployment":
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &d); err != nil {
			return nil, err
		}
		template = d.Spec.Template
	case "DaemonSet":
		var d appsv1.DaemonSet
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &d); err != nil {
			return nil, err
		}
		template = d.Spec.Template
	default:
		return nil, nil
	}
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Namespace, pod.GenerateName = o.GetNamespace(), o.GetName()+"-"
	return pod, nil
}

// admit returns an error if the API server refuses the pod in the pod's own namespace.
//
// A pod that can run at the level "restricted" of the Pod Security Standards must have a namespace
// with this level. So admit also returns an error if the API server admits the pod in a restricted
// namespace, but the pod's own namespace has another level.
func admit(ctx context.Context, c *lab.Cluster, pod *corev1.Pod) error {
	options := metav1.CreateOptions{DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict}
	if _, err := c.Client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, options); err != nil {
		return err
	}
	namespace, err := c.Client.CoreV1().Namespaces().Get(ctx, pod.Namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	level := namespace.Labels["pod-security.kubernetes.io/enforce"]
	if level == "restricted" {
		return nil
	}
	if !slices.Contains([]string{"privileged", "baseline"}, level) {
		return fmt.Errorf("the namespace has the level %q", level)
	}
	pod = pod.DeepCopy()
	pod.Namespace, pod.Spec.ServiceAccountName = ownNamespace, ""
	_, err = c.Client.CoreV1().Pods(ownNamespace).Create(ctx, pod, options)
	switch {
	case err == nil:
		return fmt.Errorf("the namespace %s has the level %s, but a restricted namespace admits the pod", namespace.Name, level)
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity"):
		return nil
	}
	return err
}
