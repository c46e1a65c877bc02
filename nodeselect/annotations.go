package nodeselect

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultPrefix is the default prefix of annotations.
const DefaultPrefix = "headgate.dev"

// These are weights of services, in percent. The maximum is also HAProxy's maximum for the weight
// of a server.
const (
	DefaultWeightPercent = 100 // for a service without the annotation
	MaxWeightPercent     = 256
)

// Annotations defines the names of the annotations on Services and Nodes, and reads them:
//
//	headgate.dev/agent-port: "9801"   Service: port on which each node answers agent checks for it
//	headgate.dev/weight: "50"         Service: weight in percent, 0 to 256
//	headgate.dev/drain: "true"        Service or Node: gets no new traffic
//
// The zero value uses the names above. All errors are of type Problem.
type Annotations struct {
	Prefix string // "" means DefaultPrefix
}

func (a Annotations) name(key string) string {
	if a.Prefix == "" {
		return DefaultPrefix + "/" + key
	}
	return a.Prefix + "/" + key
}

// portsOfKubernetes are the ports of kubelet, kube-proxy and the control plane, from
// https://kubernetes.io/docs/reference/networking/ports-and-protocols/. They are forbidden as agent
// ports, so that a user who may only annotate a Service cannot keep a component from its port.
var portsOfKubernetes = []uint16{2379, 2380, 6443, 10248, 10249, 10250, 10255, 10256, 10257, 10259}

// AgentPort returns the agent port that a service requests in its annotation, or 0. It returns 0
// and an error for:
//
//   - a port outside 1 to 65535;
//   - a node port of the same service, because its connections go to kube-proxy and not to the
//     agent;
//   - a port that Kubernetes uses on nodes, such as 10250 of the kubelet.
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

// WeightPercent returns the weight of a service in percent, from 0 to MaxWeightPercent. Without the
// annotation, it returns DefaultWeightPercent. If the annotation is not a number in this range,
// WeightPercent returns DefaultWeightPercent and an error.
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

// Drain reports whether the annotation of an object requests a drain. It accepts the values of
// strconv.ParseBool. For any other value, it returns false and an error.
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

// objectName returns the name of an object as the field Problem.Object contains it, such as
// "Service media/tracks".
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
