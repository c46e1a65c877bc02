package manifesttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FirstNodePort is the node port of the first service.
const FirstNodePort = 30000

// ServiceName returns the namespace and name of the service with index i. Ten services share a
// namespace.
func ServiceName(i int) (namespace, name string) {
	return fmt.Sprintf("team-%03d", i/10), fmt.Sprintf("service-%04d", i)
}

// Services returns n services of type NodePort, which the caller may change. Service i has one
// port: "http", number 80, node port FirstNodePort+i. Every second service has an agent port and a
// weight.
func Services(n int) []*corev1.Service {
	services := make([]*corev1.Service, n)
	for i := range services {
		services[i] = service(i)
	}
	return services
}

func service(i int) *corev1.Service {
	namespace, name := ServiceName(i)
	created := metav1.NewTime(Epoch.Add(time.Duration(i) * time.Hour))
	annotations := map[string]string{}
	if i%2 == 0 {
		annotations["headgate.dev/agent-port"] = fmt.Sprint(11000 + i)
		annotations["headgate.dev/weight"] = "100"
	}
	policy, families := corev1.ServiceInternalTrafficPolicyCluster, corev1.IPFamilyPolicySingleStack
	address := fmt.Sprintf("172.20.%d.%d", i>>8&0xff, i&0xff)
	svc := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace,
			UID:               uid(uint64(i) + 1<<40),
			ResourceVersion:   fmt.Sprint(12_000_000 + i),
			CreationTimestamp: created,
			Labels: map[string]string{
				"app.kubernetes.io/instance":   name,
				"app.kubernetes.io/managed-by": "Helm",
				"app.kubernetes.io/name":       name,
				"app.kubernetes.io/part-of":    namespace,
			},
			Annotations: annotations,
			ManagedFields: []metav1.ManagedFieldsEntry{
				managed("kubectl-client-side-apply", "", created, `{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:app.kubernetes.io/name":{}}},`+
					`"f:spec":{"f:externalTrafficPolicy":{},"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:type":{}}}`),
			},
		},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeNodePort,
			ClusterIP:             address,
			ClusterIPs:            []string{address},
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			InternalTrafficPolicy: &policy,
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy:        &families,
			Ports: []corev1.ServicePort{{
				Name: "http", NodePort: int32(FirstNodePort + i), Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http"),
			}},
			Selector:        map[string]string{"app.kubernetes.io/name": name},
			SessionAffinity: corev1.ServiceAffinityNone,
		},
	}
	annotations["kubectl.kubernetes.io/last-applied-configuration"] = lastApplied(svc)
	return svc
}

// lastApplied returns the value of the annotation in which kubectl apply stores the applied object.
// The value is one line, with a newline at the end.
func lastApplied(svc *corev1.Service) string {
	applied := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"annotations": map[string]any{}, "labels": svc.Labels, "name": svc.Name, "namespace": svc.Namespace},
		"spec": map[string]any{
			"ports":    []any{map[string]any{"name": "http", "port": 80, "targetPort": "http"}},
			"selector": svc.Spec.Selector, "type": svc.Spec.Type,
		},
	}
	text, err := json.Marshal(applied)
	if err != nil {
		panic("manifesttest: " + err.Error())
	}
	return string(text) + "\n"
}

// Routes returns declarations for n services in the cluster eu-1. Each of Services(n) gets a host
// with one path.
func Routes(n int) []byte {
	var text bytes.Buffer
	text.WriteString("routes:\n")
	for i := range n {
		namespace, name := ServiceName(i)
		fmt.Fprintf(&text, "- host: s%d.example.com\n  path: /api\n  backends:\n  - {cluster: eu-1, namespace: %s, service: %s, port: http}\n", i, namespace, name)
	}
	return text.Bytes()
}
