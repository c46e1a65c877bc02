//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// published is the scenario that checks kubeapp and its ValidatingAdmissionPolicy on a real API
// server.
var published = scenario.Scenario[*Env]{
	Name:  "kubeapp",
	About: "kubeapp applies an application, and neither kubeapp nor kubectl can drop its node port without an exception",
	Run:   runPublished,
}

const (
	publishedNamespace = "kubeapp"
	publishedName      = "tracks"
)

// publishedApp is the application of the scenario.
type publishedApp struct {
	c      *lab.Cluster
	flags  []string
	report *scenario.Report
}

func runPublished(ctx context.Context, env *Env, report *scenario.Report) (err error) {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	c := clusters[0]
	p := &publishedApp{c: c, report: report, flags: []string{
		"-name", publishedName, "-namespace", publishedNamespace, "-image", "tracks:1.4.2", "-port", "http=8080", "-port", "grpc=8081",
		"-port", "admin=9090,private", "-readiness", "admin/readyz", "-liveness", "grpc:grpc", "-ingress", "tracks.example.com/api", "-run-as-user", "65532",
		"-apply", "-cluster", c.Name + "=kubeconfig:" + env.Lab.Dir(c.Name, "admin.kubeconfig"),
	}}
	defer func() { err = errors.Join(err, p.cleanUp(context.WithoutCancel(ctx))) }()
	for _, step := range []func(context.Context) error{p.apply, p.conflict, p.policy, p.exceptions, p.controllers, p.deleteNamespace} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// kubeapp runs kubeapp with the flags of the application. It returns an error if the output lacks
// the text in the argument "want", or if the API server warns of an object.
func (p *publishedApp) kubeapp(ctx context.Context, want string, flags ...string) error {
	argv := slices.Concat([]string{"sh", "-c", `exec "$0" "$@" 2>&1`, filepath.Join(p.c.Bin(), "kubeapp")}, p.flags, flags)
	out, err := p.c.Control.Run(ctx, argv...)
	if !strings.Contains(out, want) || strings.Contains(out, "warning:") {
		return fmt.Errorf("kubeapp %q: want %q and no warning: %s: %w", flags, want, out, err)
	}
	return nil
}

func (p *publishedApp) service(ctx context.Context) (*corev1.Service, error) {
	return p.c.Client.CoreV1().Services(publishedNamespace).Get(ctx, publishedName, metav1.GetOptions{})
}

func (p *publishedApp) apply(ctx context.Context) error {
	const created, unchanged = "Ingress kubeapp/tracks: created", "Deployment kubeapp/tracks: unchanged"
	p.report.Add(scenario.Row{What: "the API server accepts all objects of kubeapp", Err: p.kubeapp(ctx, created, "-node-port", "auto")})
	p.report.Add(scenario.Row{What: "a second apply changes nothing", Err: p.kubeapp(ctx, unchanged, "-node-port", "auto")})
	p.report.Add(scenario.Row{What: "kubeapp does not make a published Service private", Err: p.kubeapp(ctx, "(type-changed)")})
	svc, err := p.service(ctx)
	if err != nil {
		return err
	}
	if svc.Spec.Type != corev1.ServiceTypeNodePort || svc.Spec.Ports[0].NodePort == 0 {
		return fmt.Errorf("the Service has type %s", svc.Spec.Type)
	}
	return nil
}

// The method "conflict" changes the number of replicas with another field manager, as another
// program does.
func (p *publishedApp) conflict(ctx context.Context) error {
	deployments := p.c.Client.AppsV1().Deployments(publishedNamespace)
	if _, err := deployments.Patch(ctx, publishedName, types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "kubectl-scale"}); err != nil {
		return err
	}
	err := p.kubeapp(ctx, `.spec.replicas belongs to "kubectl-scale"`, "-node-port", "auto")
	p.report.Add(scenario.Row{What: "a conflict names the other program", Err: err})
	err = p.kubeapp(ctx, "Deployment kubeapp/tracks: changed", "-node-port", "auto", "-force-conflicts")
	var d *appsv1.Deployment
	if err == nil {
		d, err = deployments.Get(ctx, publishedName, metav1.GetOptions{})
	}
	if err == nil && *d.Spec.Replicas != 2 {
		err = fmt.Errorf("%d replicas", *d.Spec.Replicas)
	}
	p.report.Add(scenario.Row{What: "-force-conflicts takes the field", Err: err})
	return nil
}

// dryRun makes the API server only check an update or a deletion. The API server then changes
// nothing.
var dryRun = []string{metav1.DryRunAll}

// update returns the answer of the API server to an update of the Service.
func (p *publishedApp) update(ctx context.Context, svc *corev1.Service) error {
	_, err := p.c.Client.CoreV1().Services(publishedNamespace).Update(ctx, svc, metav1.UpdateOptions{DryRun: dryRun})
	return err
}

func (p *publishedApp) remove(ctx context.Context, client kubernetes.Interface) error {
	return client.CoreV1().Services(publishedNamespace).Delete(ctx, publishedName, metav1.DeleteOptions{DryRun: dryRun})
}

// refused returns nil if err is the refusal of the policy, and an error otherwise.
func refused(err error) error {
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "set the annotation "+change.Annotation+`: "`) {
		return nil
	}
	if err == nil {
		return errors.New("the policy does not refuse it")
	}
	return fmt.Errorf("want a refusal by the policy: %w", err)
}

// publishedChanges are changes of a Service with the ports "http" and "grpc". The policy must
// refuse a change if package change finds it harmful (at least one Finding), and must permit every
// other change. For this comparison, package change gets no declarations of routes.
var publishedChanges = []struct {
	what   string
	change func(*corev1.Service)
}{
	{"a label", func(s *corev1.Service) { s.Labels["a"] = "b" }},
	{"open node ports", func(s *corev1.Service) { s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = 0, 0 }},
	{"another name and the same node port", func(s *corev1.Service) { s.Spec.Ports[0].Name = "www" }},
	{"another number and the same node port", func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 }},
	{"one more port", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: 9000, TargetPort: intstr.FromInt32(9000)})
	}},
	{"the type LoadBalancer", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }},
	{"the type ClusterIP", func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = 0, 0
	}},
	{"another node port", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 32760 }},
	{"one port less", func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] }},
	{"node ports that change places", func(s *corev1.Service) {
		p := s.Spec.Ports
		p[0].NodePort, p[1].NodePort = p[1].NodePort, p[0].NodePort
	}},
	{"a port that is replaced", func(s *corev1.Service) { s.Spec.Ports[0].Name, s.Spec.Ports[0].Port = "www", 80 }},
}

// The method "policy" installs the ValidatingAdmissionPolicy, and compares its answers with those
// of package change.
func (p *publishedApp) policy(ctx context.Context) error {
	if err := p.c.Apply(ctx, filepath.Join(p.c.Bin(), "..", "..", "kubeapp", "kubernetes", "policy.yaml")); err != nil {
		return err
	}
	_, err := lab.Until(ctx, "the policy to be in force", patience, func(ctx context.Context) error { return refused(p.remove(ctx, p.c.Client)) }, p.c.API)
	p.report.Add(scenario.Row{What: "the policy refuses to delete a published Service", Err: err})
	if err != nil {
		return err
	}
	// The typed client has no method for this request, which "kubectl delete --raw" can send.
	err = p.c.Client.CoreV1().RESTClient().Delete().Namespace(publishedNamespace).Resource("services").Body(&metav1.DeleteOptions{DryRun: dryRun}).Do(ctx).Error()
	p.report.Add(scenario.Row{What: "the policy refuses to delete all Services of the namespace", Err: refused(err)})
	var errs []error
	allowed := 0
	for _, x := range publishedChanges {
		old, err := p.service(ctx)
		if err != nil {
			return err
		}
		svc := old.DeepCopy()
		x.change(svc)
		findings := (&change.Change{Old: change.Objects{Services: []*corev1.Service{old}}, New: change.Objects{Services: []*corev1.Service{svc}}}).Check()
		err = p.update(ctx, svc)
		if len(findings) > 0 {
			err = refused(err)
		} else {
			allowed++
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, with %d findings: %w", x.what, len(findings), err))
		}
	}
	p.report.Add(scenario.Row{What: fmt.Sprintf("of %d changes, the policy refuses those that kubeapp check refuses, and allows %d", len(publishedChanges), allowed), Err: errors.Join(errs...)})
	p.report.Add(scenario.Row{What: "kubeapp applies a new version under the policy", Err: p.kubeapp(ctx, "Service kubeapp/tracks: unchanged", "-node-port", "auto", "-image", "tracks:1.4.3")})
	return nil
}

// The method "exceptions" checks that the annotation permits the loss of the node ports that it
// lists, and of no other node ports.
func (p *publishedApp) exceptions(ctx context.Context) error {
	svc, err := p.service(ctx)
	if err != nil {
		return err
	}
	http, grpc := strconv.Itoa(int(svc.Spec.Ports[0].NodePort)), strconv.Itoa(int(svc.Spec.Ports[1].NodePort))
	private := func(words string) error {
		s := svc.DeepCopy()
		s.Annotations = map[string]string{change.Annotation: words}
		publishedChanges[6].change(s)
		return p.update(ctx, s)
	}
	p.report.Add(scenario.Row{What: "the annotation permits the change", Err: private("1, " + http + " ," + grpc)})
	err = refused(private(http))
	if err == nil && strings.Contains(private(http).Error(), "node port "+http) {
		err = errors.New("the message names a node port that may go")
	}
	p.report.Add(scenario.Row{What: "an annotation with one node port does not permit the other one", Err: err})
	if err := p.c.AnnotateService(ctx, publishedNamespace, publishedName, change.Annotation, http+","+grpc); err != nil {
		return err
	}
	p.report.Add(scenario.Row{What: "a Service with the annotation can be deleted", Err: p.remove(ctx, p.c.Client)})
	return p.c.AnnotateService(ctx, publishedNamespace, publishedName, change.Annotation, "0")
}

// The method "controllers" deletes the Service twice, with a dry run: as the user of the namespace
// controller, and as the user of the garbage collector. The policy must allow both deletions.
func (p *publishedApp) controllers(ctx context.Context) error {
	var errs []error
	for _, user := range []string{"system:serviceaccount:kube-system:namespace-controller", "system:serviceaccount:kube-system:generic-garbage-collector"} {
		config := rest.CopyConfig(p.c.Config)
		config.Impersonate.UserName = user
		client, err := kubernetes.NewForConfig(config)
		if err == nil {
			err = p.remove(ctx, client)
		}
		errs = append(errs, err)
	}
	p.report.Add(scenario.Row{What: "the namespace controller and the garbage collector may delete a published Service", Err: errors.Join(errs...)})
	return nil
}

func (p *publishedApp) deleteNamespace(ctx context.Context) (err error) {
	manager, err := p.c.StartControllers("-namespaces", "namespace-controller")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manager.Stop()) }()
	start := time.Now()
	namespaces := p.c.Client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, publishedNamespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	_, err = lab.Until(ctx, "the namespace to be gone", patience, func(ctx context.Context) error {
		switch _, err := namespaces.Get(ctx, publishedNamespace, metav1.GetOptions{}); {
		case err == nil:
			return errors.New("it is there")
		case !apierrors.IsNotFound(err):
			return err
		}
		return nil
	}, manager)
	p.report.Add(scenario.Row{What: "the deletion of a namespace with a published Service finishes", Took: time.Since(start), Err: err})
	return nil
}

// cleanUp removes the policy, and waits until the API server no longer obeys it: the next scenarios
// change node ports.
func (p *publishedApp) cleanUp(ctx context.Context) error {
	const policy = "headgate-node-ports"
	admission := p.c.Client.AdmissionregistrationV1()
	for _, err := range []error{
		admission.ValidatingAdmissionPolicyBindings().Delete(ctx, policy, metav1.DeleteOptions{}),
		admission.ValidatingAdmissionPolicies().Delete(ctx, policy, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	svc, err := p.c.CreateService(ctx, lab.App{Namespace: metav1.NamespaceDefault, Name: publishedName})
	if err != nil {
		return err
	}
	_, err = lab.Until(ctx, "the policy to be gone", patience, func(ctx context.Context) error {
		return p.c.Client.CoreV1().Services(svc.Namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{})
	}, p.c.API)
	return err
}
