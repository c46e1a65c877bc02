package nodeselect

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultPrefix is the prefix of the annotations unless another is set.
const DefaultPrefix = "headgate.dev"

// Weights of services in percent. The largest is that of a server in HAProxy.
const (
	DefaultWeightPercent = 100 // of a service that states none
	MaxWeightPercent     = 256
)

// Annotations reads what users ask for on Services and Nodes:
//
//	headgate.dev/agent-port: "9801"   Service: port on which every node answers agent checks for it
//	headgate.dev/weight: "50"         Service: weight in percent, 0 to 256
//	headgate.dev/drain: "true"        Service or Node: takes no new traffic
//
// The zero value reads those names. Errors are of type Problem.
type Annotations struct {
	Prefix string // "" is DefaultPrefix
}

func (a Annotations) name(key string) string {
	if a.Prefix == "" {
		return DefaultPrefix + "/" + key
	}
	return a.Prefix + "/" + key
}

// portsOfKubernetes are what kubelet, kube-proxy and a control plane listen on, for
// work or for health: https://kubernetes.io/docs/reference/networking/ports-and-protocols/.
// An agent that has one of them when they are restarted would keep them from it. Who may
// annotate a Service is not to have that power over nodes.
var portsOfKubernetes = []uint16{2379, 2380, 6443, 10248, 10249, 10250, 10255, 10256, 10257, 10259}

// AgentPort returns the agent port that a service asks for, 0 if it asks for none. The error is of
// a port outside 1 to 65535, a node port of the same service (kube-proxy takes its connections
// before an agent sees them), and a port that Kubernetes itself uses on nodes, such as 10250 of the
// kubelet. The port is 0 with an error.
func (a Annotations) AgentPort(svc *corev1.Service) (uint16, error) {
	name := a.name("agent-port")
	value, ok := svc.Annotations[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return 0, annotationProblem(serviceObject(svc), name, value, "want a port, 1 to 65535")
	}
	if slices.Contains(portsOfKubernetes, uint16(n)) {
		return 0, annotationProblem(serviceObject(svc), name, value, "want a port that is not one of Kubernetes itself")
	}
	if int32(n) == svc.Spec.HealthCheckNodePort {
		return 0, annotationProblem(serviceObject(svc), name, value, "the service has this port as its health check node port")
	}
	for _, p := range svc.Spec.Ports {
		if int32(n) == p.NodePort {
			return 0, annotationProblem(serviceObject(svc), name, value, "the service has this port as a node port of its own")
		}
	}
	return uint16(n), nil
}

// WeightPercent returns the weight of a service in percent, 0 to MaxWeightPercent. It is
// DefaultWeightPercent if the service states none. The error is of an annotation that cannot be
// read; the weight is DefaultWeightPercent then too.
func (a Annotations) WeightPercent(svc *corev1.Service) (int, error) {
	name := a.name("weight")
	value, ok := svc.Annotations[name]
	if !ok {
		return DefaultWeightPercent, nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n > MaxWeightPercent {
		return DefaultWeightPercent, annotationProblem(serviceObject(svc), name, value, "want a weight in percent, 0 to 256")
	}
	return int(n), nil
}

// Drain reports whether an object asks to be drained. The values are those of strconv.ParseBool;
// any other value is an error, with false.
func (a Annotations) Drain(obj metav1.Object) (bool, error) {
	name := a.name("drain")
	value, ok := obj.GetAnnotations()[name]
	if !ok {
		return false, nil
	}
	drain, err := strconv.ParseBool(value)
	if err != nil {
		return false, annotationProblem(objectName(obj), name, value, "want true or false")
	}
	return drain, nil
}

func annotationProblem(object, name, value, message string) Problem {
	return Problem{
		Object:  object,
		Field:   "metadata.annotations[" + name + "]",
		Message: fmt.Sprintf("%q: %s", value, message),
	}
}

// objectName names any object; a Node has no namespace, a Service always has.
func objectName(obj metav1.Object) string {
	switch o := obj.(type) {
	case *corev1.Node:
		return nodeObject(o)
	case *corev1.Service:
		return serviceObject(o)
	}
	if ns := obj.GetNamespace(); ns != "" {
		return ns + "/" + obj.GetName()
	}
	return obj.GetName()
}
