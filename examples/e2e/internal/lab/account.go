//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// AccountKubeconfig writes a kubeconfig for an existing ServiceAccount and returns its path. The
// API server issues the token, as it does for pods.
func (c *Cluster) AccountKubeconfig(ctx context.Context, namespace, account string) (string, error) {
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	granted, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("lab: token of %s/%s: %w", namespace, account, err)
	}
	b, err := Kubeconfig(c.Name, c.Server(), c.ca, account, granted.Status.Token)
	if err != nil {
		return "", err
	}
	return c.write(namespace+"-"+account+".kubeconfig", b)
}

// Apply applies manifests of any kind that the API server has, as `kubectl apply --server-side -f
// FILE…` does. It keeps the order of the files, and the order of the documents in each file.
func (c *Cluster) Apply(ctx context.Context, files ...string) error {
	return c.eachObject(files, func(resource dynamic.ResourceInterface, object *unstructured.Unstructured) error {
		_, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
		return err
	})
}

// Validate makes the API server check manifests, as `kubectl create --dry-run=server
// --validate=strict` does. The API server applies its defaults and admission plugins, refuses
// unknown and double fields, and creates nothing. The namespaces of the objects must exist.
func (c *Cluster) Validate(ctx context.Context, files ...string) error {
	return c.eachObject(files, func(resource dynamic.ResourceInterface, object *unstructured.Unstructured) error {
		_, err := resource.Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
		return err
	})
}

// ApplyObjects applies objects, as `kubectl apply --server-side --validate=strict` does. If dry is
// true, the API server only checks the objects, and their namespaces must exist.
func (c *Cluster) ApplyObjects(ctx context.Context, objects []*unstructured.Unstructured, dry bool) error {
	dyn, mapper, err := c.dynamic()
	if err != nil {
		return err
	}
	force := true
	options := metav1.PatchOptions{FieldManager: "e2e", Force: &force, FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	for _, o := range objects {
		resource, err := clientOf(o, dyn, mapper)
		if err == nil {
			var text []byte
			if text, err = o.MarshalJSON(); err == nil {
				_, err = resource.Patch(ctx, o.GetName(), types.ApplyPatchType, text, options)
			}
		}
		if err != nil {
			return fmt.Errorf("lab: %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// dynamic returns clients for objects of any kind.
func (c *Cluster) dynamic() (dynamic.Interface, meta.RESTMapper, error) {
	dyn, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("lab: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("lab: %w", err)
	}
	return dyn, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)), nil
}

// clientOf returns a client for all objects that have the kind and the namespace of the given object.
func clientOf(object *unstructured.Unstructured, dyn dynamic.Interface, mapper meta.RESTMapper) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return dyn.Resource(mapping.Resource).Namespace(cmp.Or(object.GetNamespace(), metav1.NamespaceDefault)), nil
	}
	return dyn.Resource(mapping.Resource), nil
}

// eachObject calls the function "do" with each object in the manifest files, and with a client for
// the objects of this kind and namespace.
func (c *Cluster) eachObject(files []string, do func(dynamic.ResourceInterface, *unstructured.Unstructured) error) error {
	dyn, mapper, err := c.dynamic()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := eachObjectOf(file, dyn, mapper, do); err != nil {
			return fmt.Errorf("lab: %s: %w", file, err)
		}
	}
	return nil
}

func eachObjectOf(file string, dyn dynamic.Interface, mapper meta.RESTMapper, do func(dynamic.ResourceInterface, *unstructured.Unstructured) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for documents := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		var object unstructured.Unstructured
		switch err := documents.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(object.Object) == 0:
			continue
		}
		resource, err := clientOf(&object, dyn, mapper)
		if err != nil {
			return err
		}
		if err := do(resource, &object); err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}
