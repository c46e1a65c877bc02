package kubeapp

import (
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Object is a Kubernetes object with its kind and API version.
type Object interface {
	runtime.Object
	metav1.Object
}

// Objects are the objects of an App.
type Objects struct {
	Namespace           *corev1.Namespace // nil if the namespace exists already
	Service             *corev1.Service
	PodDisruptionBudget *policyv1.PodDisruptionBudget // nil for one replica
	Deployment          *appsv1.Deployment
	Ingress             *networkingv1.Ingress // nil without a host
}

// List returns the objects that are not nil, in the order in which to apply them.
func (o *Objects) List() []Object {
	var list []Object
	if o.Namespace != nil {
		list = append(list, o.Namespace)
	}
	list = append(list, o.Service)
	if o.PodDisruptionBudget != nil {
		list = append(list, o.PodDisruptionBudget)
	}
	list = append(list, o.Deployment)
	if o.Ingress != nil {
		list = append(list, o.Ingress)
	}
	return list
}

// Objects returns the objects of the App, or the error of Validate.
func (a *App) Objects() (Objects, error) {
	if err := a.Validate(); err != nil {
		return Objects{}, err
	}
	o := Objects{Service: a.service(), Deployment: a.deployment()}
	if !a.ExistingNamespace && a.Namespace != metav1.NamespaceDefault {
		o.Namespace = a.namespace()
	}
	if a.Autoscaled || a.replicas() > 1 {
		o.PodDisruptionBudget = a.disruptionBudget()
	}
	if a.Ingress != nil {
		o.Ingress = a.ingress()
	}
	return o, nil
}

const (
	labelName      = "app.kubernetes.io/name"
	labelVersion   = "app.kubernetes.io/version"
	labelManagedBy = "app.kubernetes.io/managed-by"
)

// selector returns the labels that select the pods of the App. It must never change: nobody can
// change the selector of a Deployment.
func (a *App) selector() map[string]string { return map[string]string{labelName: a.Name} }

// labels returns the labels of an object of the App.
func (a *App) labels() map[string]string {
	return map[string]string{labelName: a.Name, labelManagedBy: Manager}
}

// versioned returns the labels of an object that changes with each version of the image.
func (a *App) versioned() map[string]string {
	labels := a.labels()
	image, _, _ := strings.Cut(a.Image, "@")
	if _, tag := cutTag(image); tag != "" && len(validation.IsValidLabelValue(tag)) == 0 {
		labels[labelVersion] = tag
	}
	return labels
}

func (a *App) meta(labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: a.Name, Namespace: a.Namespace, Labels: labels}
}

// namespace returns the Namespace. None of its fields contains anything of the App except the name
// of the Namespace, because several Apps can share it.
func (a *App) namespace() *corev1.Namespace {
	labels := map[string]string{labelManagedBy: Manager}
	for _, mode := range []string{"enforce", "warn", "audit"} {
		labels["pod-security.kubernetes.io/"+mode] = "restricted"
	}
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: a.Namespace, Labels: labels},
	}
}

func (a *App) service() *corev1.Service {
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: a.meta(a.labels()),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: a.selector()},
	}
	s.Annotations = maps.Clone(a.ServiceAnnotations)
	for _, p := range a.Ports {
		if p.Private {
			continue
		}
		port := corev1.ServicePort{
			Name: p.Name, Port: p.Number, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(p.Name), NodePort: max(p.NodePort, 0),
		}
		if p.AppProtocol != "" {
			port.AppProtocol = &p.AppProtocol
		}
		if p.NodePort != 0 {
			s.Spec.Type = corev1.ServiceTypeNodePort
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	return s
}

func (a *App) disruptionBudget() *policyv1.PodDisruptionBudget {
	one := intstr.FromInt32(1)
	// Pods that are not ready serve nobody, and must not stop the drain of a node.
	always := policyv1.AlwaysAllow
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: a.meta(a.labels()),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &one, UnhealthyPodEvictionPolicy: &always,
			Selector: &metav1.LabelSelector{MatchLabels: a.selector()},
		},
	}
}

func (a *App) deployment() *appsv1.Deployment {
	none, quarter := intstr.FromInt32(0), intstr.FromString("25%")
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: a.meta(a.versioned()),
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: a.selector()},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &quarter},
			},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: a.versioned()}, Spec: a.pod()},
		},
	}
	if !a.Autoscaled {
		replicas := int32(a.replicas())
		d.Spec.Replicas = &replicas
	}
	return d
}

func (a *App) pod() corev1.PodSpec {
	yes, no := true, false
	grace := int64((a.drainDelay() + a.stopTime()) / time.Second)
	security := &corev1.PodSecurityContext{
		RunAsNonRoot:   &yes,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if a.RunAsUser != 0 {
		security.RunAsUser, security.RunAsGroup = &a.RunAsUser, &a.RunAsUser
	}
	pod := corev1.PodSpec{
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		TerminationGracePeriodSeconds: &grace,
		SecurityContext:               security,
		TopologySpreadConstraints:     []corev1.TopologySpreadConstraint{a.spread(corev1.LabelTopologyZone), a.spread(corev1.LabelHostname)},
		Containers:                    []corev1.Container{a.container()},
	}
	if !a.WritableRoot {
		pod.Volumes = []corev1.Volume{{Name: tmpVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	return pod
}

const tmpVolume = "tmp"

// spread returns a constraint that the scheduler may ignore, because a zone without room must not
// stop a rollout.
func (a *App) spread(key string) corev1.TopologySpreadConstraint {
	return corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: a.selector()},
		// Without MatchLabelKeys, the constraint would also count the pods of the old version
		// during a rollout. The scheduler would then put the new pods where few old pods are. After
		// the rollout, when the old pods are gone, the new pods would be spread unevenly.
		MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
	}
}

func (a *App) container() corev1.Container {
	no := false
	readOnly := !a.WritableRoot
	c := corev1.Container{
		Name: a.Name, Image: a.Image, Command: a.Command, Args: a.Args, Env: a.Env, EnvFrom: a.EnvFrom,
		Resources: a.Resources.requirements(),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &readOnly,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	for _, p := range a.Ports {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.Number, Protocol: corev1.ProtocolTCP})
	}
	if readOnly {
		c.VolumeMounts = []corev1.VolumeMount{{Name: tmpVolume, MountPath: "/tmp"}}
	}
	if delay := a.drainDelay(); delay > 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(delay / time.Second)}}}
	}
	readiness := a.Readiness
	if readiness.Kind == "" {
		readiness.Kind = ProbeTCP
	}
	if c.ReadinessProbe = a.probe(readiness); c.ReadinessProbe != nil {
		c.ReadinessProbe.PeriodSeconds, c.ReadinessProbe.FailureThreshold = 5, 3
	}
	if c.LivenessProbe = a.probe(a.Liveness); c.LivenessProbe != nil {
		c.LivenessProbe.PeriodSeconds, c.LivenessProbe.FailureThreshold = 10, 6
		// Until the startup probe succeeds, the liveness probe does not run.
		c.StartupProbe = a.probe(a.Liveness)
		c.StartupProbe.PeriodSeconds, c.StartupProbe.FailureThreshold = 2, 30
	}
	return c
}

// probe returns a Kubernetes probe with the check that p declares. The caller sets the period and
// the thresholds. If p declares no check, probe returns nil.
func (a *App) probe(p Probe) *corev1.Probe {
	port := p.Port
	if port == "" {
		port = a.Ports[a.firstPublic()].Name
	}
	probe := &corev1.Probe{TimeoutSeconds: 3}
	switch p.Kind {
	case ProbeHTTP:
		probe.HTTPGet = &corev1.HTTPGetAction{Path: p.Path, Port: intstr.FromString(port)}
	case ProbeTCP:
		probe.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromString(port)}
	case ProbeGRPC: // it needs a number
		for _, x := range a.Ports {
			if x.Name == port {
				wholeServer := ""
				probe.GRPC = &corev1.GRPCAction{Port: x.Number, Service: &wholeServer}
			}
		}
	default:
		return nil
	}
	return probe
}

func (a *App) ingress() *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	path := a.Ingress.Path
	if path == "" {
		path = "/"
	}
	i := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: a.meta(a.labels()),
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: a.Ingress.Host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: path, PathType: &prefix,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: a.Name, Port: networkingv1.ServiceBackendPort{Name: a.Ports[a.firstPublic()].Name},
				}},
			}}}},
		}}},
	}
	if a.Ingress.Class != "" {
		i.Spec.IngressClassName = &a.Ingress.Class
	}
	if a.Ingress.TLSSecret != "" {
		i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{a.Ingress.Host}, SecretName: a.Ingress.TLSSecret}}
	}
	return i
}
