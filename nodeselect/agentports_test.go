package nodeselect_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
)

func TestAgentPorts(t *testing.T) {
	asks := func(name, port string, changes ...func(*corev1.Service)) *corev1.Service {
		s := newService(named("ns", name), nodePort(0), annotate("headgate.dev/agent-port", port))
		for _, change := range changes {
			change(s)
		}
		return s
	}
	created := func(at time.Time) func(*corev1.Service) {
		return func(s *corev1.Service) { s.CreationTimestamp = metav1.NewTime(at) }
	}
	young, old := created(now), created(now.Add(-time.Hour))
	checked := func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 9003 }
	objects := nodeselect.NewObjects(nil, []*corev1.Service{
		asks("a", "9001", young),
		asks("b", "9001", old), // the oldest
		asks("c", "9002"),      // the first by name
		asks("d", "9002"),
		asks("e", "9003"),
		newService(named("ns", "f"), nodePort(9004), checked),
		asks("g", "9004"),
		asks("h", "9005"),
		asks("i", "x"),
		newService(named("ns", "j"), nodePort(65536+9006)), // not a valid port
		asks("k", "9006"),
		asks("l", "9007", old, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }),
		asks("m", "9007", young),
		asks("n", "10250"),
		asks("o", "10256"),
	})
	ports, problems := nodeselect.Annotations{}.AgentPorts(objects, 9005)
	got := map[uint16]string{}
	for i, p := range ports {
		got[p.Port] = p.Service.Name
		require.True(t, i == 0 || ports[i-1].Port < p.Port)
	}
	require.Equal(t, map[uint16]string{9001: "b", 9002: "c", 9006: "k", 9007: "m"}, got)
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	const field = ": metadata.annotations[headgate.dev/agent-port]: "
	require.ElementsMatch(t, []string{
		"Service ns/a" + field + `"9001": the service has no agent, because it is the agent port of Service ns/b`,
		"Service ns/d" + field + `"9002": the service has no agent, because it is the agent port of Service ns/c`,
		"Service ns/e" + field + `"9003": the service has no agent, because it is the health check node port of Service ns/f`,
		"Service ns/g" + field + `"9004": the service has no agent, because it is a node port of Service ns/f`,
		"Service ns/h" + field + `"9005": the service has no agent, because it is reserved`,
		"Service ns/i" + field + `"x": want a port, 1 to 65535`,
		"Service ns/n" + field + `"10250": want a port that is not one of Kubernetes itself`,
		"Service ns/o" + field + `"10256": want a port that is not one of Kubernetes itself`,
	}, texts)

	// A target has an agent port only if its service owns the port.
	ref := func(name string) nodeselect.Ref {
		return nodeselect.Ref{Namespace: "ns", Service: name, Port: "http"}
	}
	for _, s := range objects.Services {
		if s.Spec.Ports[0].NodePort == 0 {
			nodePort(30000 + int32(s.Name[0]))(s)
		}
	}
	selection := nodeselect.Selector{Reserved: []uint16{9005}}.Select(objects, []nodeselect.Ref{ref("a"), ref("b"), ref("h"), ref("k")}, now, nil)
	var agents []uint16
	for _, target := range selection.Targets {
		agents = append(agents, target.AgentPort)
	}
	require.Equal(t, []uint16{0, 9001, 0, 9006}, agents)
}
