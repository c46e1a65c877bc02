package kube_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/agentcheck/kube"
	"github.com/headgate/headgate/nodeselect"
)

func ExampleRules_State() {
	objects := nodeselect.NewObjects(
		[]*corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "node-a"},
			Spec:       corev1.NodeSpec{Unschedulable: true}, // kubectl cordon node-a
		}},
		[]*corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "tracks", Annotations: map[string]string{
				"headgate.dev/agent-port": "9801",
				"headgate.dev/weight":     "50",
			}},
		}},
	)
	state, err := kube.Rules{Node: "node-a"}.State(objects)
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
