package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/nodeselect/kubeapp"
)

// FieldManager is the default manager of the fields that Apply sets.
const FieldManager = "headgate-kubeapp"

// Applier applies objects to one cluster. Several goroutines may use an Applier at the same time.
type Applier struct {
	// Client is a client of the API server. Required; New sets it.
	Client dynamic.Interface
	// FieldManager is the manager of the fields that Apply sets. "" means the constant FieldManager.
	FieldManager string
	// Force means that Apply takes fields from other managers instead of failing with a conflict.
	Force bool
	// DryRun means that the API server checks the objects and changes nothing. If the Namespace does
	// not exist, the API server can check only the Namespace.
	DryRun bool
}

// New returns an Applier for a copy of config, and connects to no server. Warnings of the API
// server go to warn, in the goroutine that calls Apply; nil ignores them.
func New(config *rest.Config, warn func(text string)) (*Applier, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = warnings(warn)
	if config.QPS == 0 {
		config.QPS = -1 // a limit for controllers; here, one request follows the other
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	return &Applier{Client: client}, nil
}

type warnings func(text string)

// HandleWarningHeader implements rest.WarningHandler. 299 is the code of all warnings of Kubernetes.
func (w warnings) HandleWarningHeader(code int, _, text string) {
	if w != nil && code == 299 && text != "" {
		w(text)
	}
}

// Action is what Apply did to an object.
type Action string

// These are the values of Action. With Applier.DryRun, they say what Apply would do.
const (
	Created   Action = "created"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Unknown   Action = "unknown" // a dry run in a Namespace that does not exist
)

// Result is an object, and what Apply did to this object.
type Result struct {
	Object string // such as "Service media/tracks"
	Action Action
}

// Conflict is a field with another manager.
type Conflict struct {
	Field   string // such as ".spec.replicas"
	Manager string // what the API server says about the manager, such as `"kubectl-scale" using apps/v1`
}

// ConflictError means that other managers own fields of an object, and have set these fields to
// other values than Apply would set.
type ConflictError struct {
	Object    string // such as "Deployment media/tracks"
	Conflicts []Conflict
	err       error
}

// Error returns one line for the object, and one line for each field.
func (e *ConflictError) Error() string {
	text := "apply: " + e.Object + ": other programs have set fields to other values:"
	for _, c := range e.Conflicts {
		text += "\n  " + c.Field + " belongs to " + c.Manager
	}
	return text
}

// Unwrap returns the error of the API server.
func (e *ConflictError) Unwrap() error { return e.err }

// resources maps each kind of object that Apply accepts to its API resource.
var resources = map[string]schema.GroupVersionResource{
	"Namespace":           {Version: "v1", Resource: "namespaces"},
	"Service":             {Version: "v1", Resource: "services"},
	"PodDisruptionBudget": {Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
	"Deployment":          {Group: "apps", Version: "v1", Resource: "deployments"},
	"Ingress":             {Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
}

func (a *Applier) client(kind, namespace string) (dynamic.ResourceInterface, error) {
	resource, ok := resources[kind]
	if !ok {
		return nil, fmt.Errorf("apply: want a Namespace, Service, Deployment, PodDisruptionBudget or Ingress, not %q", kind)
	}
	if namespace == "" {
		return a.Client.Resource(resource), nil
	}
	return a.Client.Resource(resource).Namespace(namespace), nil
}

// item is an object during Apply.
type item struct {
	label  string
	object *unstructured.Unstructured
	client dynamic.ResourceInterface
	before *unstructured.Unstructured // nil if the object did not exist
}

// Apply applies objects in their order, after a dry run of all objects. If the API server refuses
// an object in the dry run, Apply changes nothing and returns the errors of all objects. There is
// one exception: Apply creates a missing Namespace before the dry run, because without it the API
// server cannot check the objects in this Namespace.
//
// If the API server refuses an object after the dry run, Apply returns the results of the objects
// before it, and an error.
func (a *Applier) Apply(ctx context.Context, objects ...kubeapp.Object) ([]Result, error) {
	items, err := a.items(ctx, objects)
	if err != nil {
		return nil, err
	}
	var results []Result
	for len(items) > 0 && items[0].object.GetKind() == "Namespace" && items[0].before == nil {
		r, err := a.apply(ctx, items[0], a.DryRun)
		if err != nil {
			return results, err
		}
		results, items = append(results, r), items[1:]
		if a.DryRun {
			for _, i := range items {
				results = append(results, Result{i.label, Unknown})
			}
			return results, nil
		}
	}
	var checked []Result
	var errs []error
	for _, i := range items {
		r, err := a.apply(ctx, i, true)
		checked, errs = append(checked, r), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || a.DryRun {
		if err != nil {
			checked = nil
		}
		return append(results, checked...), err
	}
	for _, i := range items {
		r, err := a.apply(ctx, i, false)
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (a *Applier) items(ctx context.Context, objects []kubeapp.Object) (items []item, err error) {
	for _, o := range objects {
		i := item{}
		if i.object, err = kubeapp.Unstructured(o); err != nil {
			return nil, err
		}
		i.label = i.object.GetKind() + " " + o.GetName()
		if o.GetNamespace() != "" {
			i.label = i.object.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		}
		if i.client, err = a.client(i.object.GetKind(), o.GetNamespace()); err != nil {
			return nil, err
		}
		switch present, err := i.client.Get(ctx, o.GetName(), metav1.GetOptions{}); {
		case err == nil:
			i.before = present
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("apply: %s: %w", i.label, err)
		}
		items = append(items, i)
	}
	return items, nil
}

func (a *Applier) apply(ctx context.Context, i item, dryRun bool) (Result, error) {
	options := metav1.ApplyOptions{FieldManager: cmp.Or(a.FieldManager, FieldManager), Force: a.Force}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	after, err := i.client.Apply(ctx, i.object.GetName(), i.object, options)
	if err != nil {
		return Result{}, wrap(i.label, err)
	}
	switch {
	case i.before == nil:
		return Result{i.label, Created}, nil
	case equality.Semantic.DeepEqual(content(i.before), content(after)):
		return Result{i.label, Unchanged}, nil
	}
	return Result{i.label, Changed}, nil
}

// content returns an object without the fields of its metadata that the API server maintains. Apply
// compares the content before and after a request: if only these fields have changed, the result is
// Unchanged.
func content(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	return o.Object
}

// wrap converts a conflict from the API server to a ConflictError. To any other error, wrap adds
// the name of the object.
func wrap(label string, err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsConflict(err) || status.Status().Details == nil {
		return fmt.Errorf("apply: %s: %w", label, err)
	}
	conflict := &ConflictError{Object: label, err: err}
	for _, c := range status.Status().Details.Causes {
		if c.Type == metav1.CauseTypeFieldManagerConflict {
			conflict.Conflicts = append(conflict.Conflicts, Conflict{Field: c.Field, Manager: manager(c.Message)})
		}
	}
	if len(conflict.Conflicts) == 0 {
		return fmt.Errorf("apply: %s: %w", label, err)
	}
	return conflict
}
