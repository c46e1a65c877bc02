package nodeagent_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/agentcheck/nodeagent"
	"github.com/headgate/headgate/nodeselect"
)

// A complete agent in a pod of a DaemonSet.
func ExampleAgent() {
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	agent := nodeagent.Agent{
		Watcher: &nodeagent.Watcher{
			Config: config,
			Rules:  nodeagent.Rules{Node: os.Getenv("NODE_NAME"), MaxDrain: 0.2},
		},
		Listeners: &nodeagent.Listeners{Logger: slog.Default()},
		Changed: func(s nodeagent.State, portErr error) {
			slog.Info("answer for the node", "answer", s.Node(), "stale", s.Err, "ports", portErr)
		},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = agent.Run(ctx)
	agent.Listeners.Close()
	log.Print(err)
}

func ExampleRules_State() {
	objects := nodeselect.NewObjects(
		[]*corev1.Node{
			{
				ObjectMeta: metav1.ObjectMeta{Name: "node-a"},
				Spec:       corev1.NodeSpec{Unschedulable: true}, // kubectl cordon node-a
			},
			{ObjectMeta: metav1.ObjectMeta{Name: "node-b"}},
		},
		[]*corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "tracks", Annotations: map[string]string{
				"headgate.dev/agent-port": "9801",
				"headgate.dev/weight":     "50",
			}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}},
		}},
	)
	state, err := nodeagent.Rules{Node: "node-a"}.State(objects)
	if err != nil {
		fmt.Println(err)
	}
	for _, a := range state.Answers {
		fmt.Printf("%d %q: %s\n", a.Port, a.Service, a.Reply)
	}
	// Output:
	// 9707 "": up drain # cordoned
	// 9801 "media/tracks": up drain 50% # cordoned
}

// Four of ten nodes are cordoned. Three may drain, so node-3 waits.
func ExampleTracker() {
	var nodes []*corev1.Node
	for i := range 10 {
		nodes = append(nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i)},
			Spec:       corev1.NodeSpec{Unschedulable: i < 4},
		})
	}
	agent := nodeagent.Tracker{Rules: nodeagent.Rules{Node: "node-3"}}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	show := func() {
		state, err := agent.State(now, nodeselect.NewObjects(nodes, nil))
		fmt.Println(now.Format(time.TimeOnly), state.Node(), err)
	}
	show()

	// Another node is uncordoned. It is held down first.
	now = now.Add(time.Minute)
	nodes[0].Spec.Unschedulable = false
	show()
	now = agent.Next()
	show()
	// Output:
	// 12:00:00 up ready # cordoned; waits: 3 of 10 nodes drain, no more than 3 may (30%) <nil>
	// 12:01:00 up ready # cordoned; waits: 3 of 10 nodes drain, no more than 3 may (30%) <nil>
	// 12:01:10 up drain # cordoned <nil>
}
