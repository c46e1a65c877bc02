package kubeapp

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Manager is the value of the label app.kubernetes.io/managed-by on all objects of an App.
const Manager = "headgate-kubeapp"

// Defaults of an App.
const (
	DefaultReplicas   = 2
	DefaultDrainDelay = 10 * time.Second // App.DrainDelay
	DefaultStopTime   = 30 * time.Second // App.StopTime
)

// AutoNodePort lets the API server choose the node port of a Port. The API server keeps its choice
// for as long as the Service exists. If somebody deletes the Service and creates it again, the
// Service gets another node port.
const AutoNodePort = -1

// App describes an application. Objects makes the Kubernetes objects of an App.
type App struct {
	// Name is the name of all objects except the Namespace, and of the container: a DNS label.
	// Required.
	Name string
	// Namespace is the namespace of the objects: a DNS label that does not begin with "kube-".
	// Required.
	Namespace string
	// ExistingNamespace means that Objects makes no Namespace. For the namespace "default", Objects
	// never makes a Namespace.
	ExistingNamespace bool
	// Image is the image of the container. Required. It needs a tag or a digest, and the tag
	// "latest" is an error, because pods of one Deployment could then run different programs.
	Image string
	// Command replaces the entry point of the image, and Args its arguments. If both are empty, the
	// image decides.
	Command, Args []string

	// Replicas is the number of pods. 0 means DefaultReplicas.
	Replicas int
	// Autoscaled means that another program sets the number of pods, so the Deployment contains no
	// number. Replicas must be 0.
	Autoscaled bool

	// Ports are the ports of the container, at least one of them public. The first public port is
	// the backend of the Ingress and the default port of probes.
	Ports []Port

	// Env and EnvFrom are the environment of the container.
	Env     []corev1.EnvVar
	EnvFrom []corev1.EnvFromSource
	// Resources are the requests and limits of the container. The default requests are 100m of CPU
	// and 128Mi of memory, and the default memory limit is the memory request. There is no default
	// CPU limit, because it would slow a pod down even if its node is idle.
	Resources Resources
	// RunAsUser is the numeric user of the container. 0 means the user that the image names. The
	// image must then name it by a number other than 0: the kubelet does not start a container
	// whose user is a name.
	RunAsUser int64
	// WritableRoot allows the container to write to its root file system.
	WritableRoot bool

	// Readiness decides whether a pod gets traffic. The zero Probe connects to the first public
	// port.
	Readiness Probe
	// Liveness decides whether the kubelet restarts the container. The zero Probe means no check. A
	// container with a liveness check has 60 s to start.
	Liveness Probe

	// DrainDelay is how long a pod serves after its deletion, in whole seconds. 0 means
	// DefaultDrainDelay. A negative value means no delay.
	//
	// DrainDelay should be longer than the interval of the health checks in front of the pod. The
	// kubelet implements the delay, so the image needs no shell.
	DrainDelay time.Duration
	// StopTime is the time from SIGTERM to SIGKILL, in whole seconds. 0 means DefaultStopTime.
	StopTime time.Duration

	// ServiceAnnotations are annotations of the Service, such as headgate.dev/agent-port.
	ServiceAnnotations map[string]string

	// Ingress publishes the first public port under a host name. nil means no Ingress.
	Ingress *Ingress
}

// Port is a port of the container.
type Port struct {
	// Name is the name of the port of the container and of the Service: at most 15 lower-case
	// letters, digits and hyphens. Required.
	Name string
	// Number is the number of the port of the container and of the port of the Service, from 1 to
	// 65535. Required.
	Number int32
	// NodePort is the port on each node. 0 means no node port; AutoNodePort is also possible. If at
	// least one public port has a node port, Kubernetes assigns a node port to every public port.
	// So a port that must have no node port, such as a port for metrics, must be Private.
	NodePort int32
	// Private means that the port is not part of the Service. Probes can use it.
	Private bool
	// AppProtocol is the field appProtocol of the port, such as "kubernetes.io/h2c". It may be
	// empty.
	AppProtocol string
}

// Resources are amounts as Kubernetes writes them, such as "250m" and "256Mi". "" means the default;
// see App.Resources.
type Resources struct {
	CPU, Memory           string // requests
	CPULimit, MemoryLimit string
}

// Probe is a check of the container by the kubelet.
type Probe struct {
	// Kind is how the kubelet checks the container. "" means the default: see App.Readiness and
	// App.Liveness.
	Kind ProbeKind
	// Port is the name of a port. "" means the first public port.
	Port string
	// Path is the path of a ProbeHTTP, such as "/readyz".
	Path string
}

// ProbeKind is how the kubelet checks a container.
type ProbeKind string

// The kinds of probes.
const (
	ProbeHTTP ProbeKind = "http" // a GET request must have a status from 200 to 399
	ProbeTCP  ProbeKind = "tcp"  // the port must accept a connection
	ProbeGRPC ProbeKind = "grpc" // gRPC's health check must answer SERVING
	ProbeNone ProbeKind = "none" // no check
)

// Ingress publishes the first public port of an App.
type Ingress struct {
	// Host is a DNS name in lower case, or a wildcard such as "*.example.com". Required.
	Host string
	// Path is the path that the Ingress publishes, with all paths below it. "" means "/".
	Path string
	// Class is the name of the IngressClass. "" means the default class of the cluster.
	Class string
	// TLSSecret is the name of the Secret with the certificate of Host. "" means no TLS.
	TLSSecret string
}

// firstPublic returns the index of the first public port, or -1.
func (a *App) firstPublic() int {
	for i := range a.Ports {
		if !a.Ports[i].Private {
			return i
		}
	}
	return -1
}

func (a *App) replicas() int { return cmp.Or(a.Replicas, DefaultReplicas) }

func (a *App) drainDelay() time.Duration { return max(cmp.Or(a.DrainDelay, DefaultDrainDelay), 0) }

func (a *App) stopTime() time.Duration { return cmp.Or(a.StopTime, DefaultStopTime) }

// withDefaults returns the resources with their defaults. A limit that stays "" means no limit.
func (r Resources) withDefaults() Resources {
	r.CPU, r.Memory = cmp.Or(r.CPU, "100m"), cmp.Or(r.Memory, "128Mi")
	r.MemoryLimit = cmp.Or(r.MemoryLimit, r.Memory)
	return r
}

// requirements returns the resources as Kubernetes needs them. The amounts must be valid.
func (r Resources) requirements() corev1.ResourceRequirements {
	r = r.withDefaults()
	x := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(r.CPU),
			corev1.ResourceMemory: resource.MustParse(r.Memory),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(r.MemoryLimit)},
	}
	if r.CPULimit != "" {
		x.Limits[corev1.ResourceCPU] = resource.MustParse(r.CPULimit)
	}
	return x
}
