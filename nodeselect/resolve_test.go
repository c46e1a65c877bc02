package nodeselect_test

import (
	"testing"

	"github.com/headgate/headgate/nodeselect"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newService returns the service media/tracks of type NodePort with the port http, after the
// changes.
func newService(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "tracks"},
		Spec: corev1.ServiceSpec{
			Type:  corev1.ServiceTypeNodePort,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

func named(namespace, name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Namespace, s.Name = namespace, name }
}

func annotate(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value) }
}

func port(p corev1.ServicePort) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports = append(s.Spec.Ports, p) }
}

func ofType(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

func nodePort(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[0].NodePort = n }
}

func TestResolve(t *testing.T) {
	metrics := port(corev1.ServicePort{Name: "metrics", Port: 9090, NodePort: 30090})
	dns := port(corev1.ServicePort{Name: "dns", Port: 80, NodePort: 30053, Protocol: corev1.ProtocolUDP})
	type do = []func(*corev1.Service)
	tests := []struct {
		name    string
		changes do
		port    string
		want    nodeselect.Target // the test adds Ref and the default weight
		probs   []string
	}{
		{"by name", do{metrics}, "http", nodeselect.Target{NodePort: 30080}, nil},
		{"by number", do{metrics}, "9090", nodeselect.Target{NodePort: 30090}, nil},
		{"the only one", nil, "", nodeselect.Target{NodePort: 30080}, nil},
		{"load balancer", do{ofType(corev1.ServiceTypeLoadBalancer)}, "http", nodeselect.Target{NodePort: 30080}, nil},
		{"number of two protocols", do{func(s *corev1.Service) { s.Spec.Ports = nil }, dns, port(corev1.ServicePort{Name: "tcp", Port: 80, NodePort: 30081})}, "80", nodeselect.Target{NodePort: 30081}, nil},
		{"agent and weight", do{annotate("headgate.dev/agent-port", "9801"), annotate("headgate.dev/weight", "0")}, "http", nodeselect.Target{NodePort: 30080, AgentPort: 9801, WeightPercent: -1}, nil},
		{"no port named", do{metrics}, "", nodeselect.Target{}, []string{"Service media/tracks: spec.ports: no port is named, and the service does not have exactly one; it has http (80), metrics (9090)"}},
		{"no such port", do{metrics}, "https", nodeselect.Target{}, []string{`Service media/tracks: spec.ports: no port "https"; the service has http (80), metrics (9090)`}},
		{"node port is no name", nil, "30080", nodeselect.Target{}, []string{`Service media/tracks: spec.ports: no port "30080"; the service has http (80)`}},
		{"no ports", do{func(s *corev1.Service) { s.Spec.Ports = nil }}, "http", nodeselect.Target{}, []string{`Service media/tracks: spec.ports: no port "http"; the service has none`}},
		{"UDP", do{dns}, "dns", nodeselect.Target{}, []string{"Service media/tracks: spec.ports: port dns (80) is UDP; only TCP is routed"}},
		{"cluster IP", do{ofType("")}, "http", nodeselect.Target{}, []string{"Service media/tracks: spec.type: ClusterIP has no node ports; want NodePort or LoadBalancer"}},
		{"external name", do{ofType(corev1.ServiceTypeExternalName)}, "http", nodeselect.Target{}, []string{"Service media/tracks: spec.type: ExternalName has no node ports; want NodePort or LoadBalancer"}},
		{"no node port", do{nodePort(0)}, "http", nodeselect.Target{}, []string{"Service media/tracks: spec.ports.nodePort: port http (80) has no node port"}},
		{"node port out of range", do{nodePort(70000)}, "http", nodeselect.Target{}, []string{"Service media/tracks: spec.ports.nodePort: port http (80): 70000 is no port"}},
		{"another service", do{named("media", "other")}, "http", nodeselect.Target{}, []string{"Service media/tracks: there is no such service"}},
		{"local", do{func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }}, "http", nodeselect.Target{NodePort: 30080}, []string{
			"Service media/tracks: spec.externalTrafficPolicy: Local: a node without a ready pod of the service drops its traffic, and nodes are chosen without regard to pods; use Cluster, or health checks on the node port itself",
		}},
		{"bad annotations", do{annotate("headgate.dev/agent-port", "0"), annotate("headgate.dev/weight", "257")}, "http", nodeselect.Target{NodePort: 30080}, []string{
			`Service media/tracks: metadata.annotations[headgate.dev/agent-port]: "0": want a port, 1 to 65535; no agent is asked`,
			`Service media/tracks: metadata.annotations[headgate.dev/weight]: "257": want a weight in percent, 0 to 256; 100 is used`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects := nodeselect.NewObjects(nil, []*corev1.Service{newService(tt.changes...), newService(named("a", "z"))})
			ref := nodeselect.Ref{Namespace: "media", Service: "tracks", Port: tt.port}
			got, problems := nodeselect.Annotations{}.Resolve(objects, ref)
			tt.want.Ref = ref
			if tt.want.WeightPercent == 0 {
				tt.want.WeightPercent = nodeselect.DefaultWeightPercent
			}
			tt.want.WeightPercent = max(tt.want.WeightPercent, 0)
			require.Equal(t, tt.want, got)
			var texts []string
			for _, p := range problems {
				texts = append(texts, p.Error())
				require.Equal(t, got.NodePort != 0, p.Warning)
			}
			require.Equal(t, tt.probs, texts)
		})
	}
}

func TestAnnotations(t *testing.T) {
	own := nodeselect.Annotations{Prefix: "example.com"}
	s := newService(annotate("example.com/weight", "256"), annotate("example.com/agent-port", "65535"), annotate("example.com/drain", "true"))
	weight, err := own.WeightPercent(s)
	require.NoError(t, err)
	require.Equal(t, 256, weight)
	agent, err := own.AgentPort(s)
	require.NoError(t, err)
	require.Equal(t, uint16(65535), agent)
	drain, err := own.Drain(s)
	require.NoError(t, err)
	require.True(t, drain)

	// The service has no annotation with the default prefix.
	weight, err = nodeselect.Annotations{}.WeightPercent(s)
	require.NoError(t, err)
	require.Equal(t, 100, weight)
	agent, err = nodeselect.Annotations{}.AgentPort(s)
	require.NoError(t, err)
	require.Zero(t, agent)
	drain, err = nodeselect.Annotations{}.Drain(s)
	require.NoError(t, err)
	require.False(t, drain)

	for _, bad := range []string{"", "-1", "1.5", "50%", " 5", "257", "70000"} {
		weight, err := nodeselect.Annotations{}.WeightPercent(newService(annotate("headgate.dev/weight", bad)))
		require.Equal(t, 100, weight)
		require.ErrorContains(t, err, `Service media/tracks: metadata.annotations[headgate.dev/weight]: "`+bad+`": want a weight`)
	}
	for _, bad := range []string{"", "0", "-1", "http", "65536"} {
		agent, err := nodeselect.Annotations{}.AgentPort(newService(annotate("headgate.dev/agent-port", bad)))
		require.Zero(t, agent)
		require.ErrorContains(t, err, `"`+bad+`": want a port`)
	}
	_, err = nodeselect.Annotations{}.AgentPort(newService(annotate("headgate.dev/agent-port", "30080")))
	require.ErrorContains(t, err, "the service has this port as a node port of its own")
	_, err = nodeselect.Annotations{}.AgentPort(newService(annotate("headgate.dev/agent-port", "31000"), func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 31000 }))
	require.ErrorContains(t, err, "health check node port")

	node := newNode("a", "")
	metav1.SetMetaDataAnnotation(&node.ObjectMeta, "headgate.dev/drain", "maybe")
	_, err = nodeselect.Annotations{}.Drain(node)
	require.EqualError(t, err, `Node a: metadata.annotations[headgate.dev/drain]: "maybe": want true or false`)
	_, err = nodeselect.Annotations{}.Drain(&metav1.ObjectMeta{Namespace: "x", Name: "y", Annotations: node.Annotations})
	require.ErrorContains(t, err, "x/y: metadata")
}
