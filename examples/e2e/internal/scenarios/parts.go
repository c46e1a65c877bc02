//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// parts is the scenario that checks those operations of package lab on which the other scenarios
// rely.
var parts = scenario.Scenario[*Env]{
	Name:  "parts",
	About: "API servers, accounts, pods and nodes appear and disappear as in a real cluster",
	Run:   runParts,
}

func runParts(ctx context.Context, env *Env, report *scenario.Report) error {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	client, err := env.Lab.Machine("client")
	if err != nil {
		return err
	}
	c := clusters[0]
	app, err := c.Deploy(ctx, lab.App{Namespace: "parts", Name: "parts"})
	if err != nil {
		return err
	}
	local, err := c.Deploy(ctx, lab.App{Namespace: "parts", Name: "local", Local: true, On: c.Nodes()[:1]})
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *partsOf, *scenario.Report) error{
		apiServerReturns, podIsUnready, trafficIsLocal, accountIsBound, nodesChange,
	} {
		if err := part(ctx, &partsOf{c: c, client: client, app: app, local: local}, report); err != nil {
			return err
		}
	}
	return nil
}

// partsOf holds the cluster, the client and the test services that all parts of the scenario use.
type partsOf struct {
	c          *lab.Cluster
	client     *lab.Machine
	app, local *lab.Deployed
}

// apiServerReturns kills the API server under load, first alone and afterwards together with etcd.
func apiServerReturns(ctx context.Context, p *partsOf, report *scenario.Report) error {
	n := p.c.Nodes()[0]
	if err := everyNodeAnswers(ctx, p); err != nil {
		return err
	}
	run := startLoad(ctx, loadConfig{Dial: p.client.DialContext, Address: fmt.Sprintf("%s:%d", n.Addr, p.app.NodePort), Host: "parts.example.com"})
	defer run.Stop()
	for _, what := range []struct {
		name      string
		processes []*lab.Process
	}{
		{"API server", []*lab.Process{p.c.API}},
		{"API server and etcd", []*lab.Process{p.c.API, p.c.Etcd}},
	} {
		for _, process := range what.processes {
			process.Kill()
		}
		if err := p.c.Ready(ctx); err == nil {
			return fmt.Errorf("the killed %s answers", what.name)
		}
		start := time.Now()
		for _, process := range what.processes {
			if err := process.Start(); err != nil {
				return err
			}
		}
		if _, err := p.c.WaitReady(ctx); err != nil {
			return err
		}
		took := time.Since(start)
		// The objects from before must still exist.
		if _, err := p.c.Client.CoreV1().Services("parts").Get(ctx, "parts", metav1.GetOptions{}); err != nil {
			return err
		}
		var all time.Time
		report.Add(scenario.Row{
			What: "a killed " + what.name + " is back, node ports worked all the time", Took: took, Within: 30 * time.Second,
			Requests: run.Count(all, all), Failed: len(run.Failures(all, all)), Err: run.Err(all, all),
		})
	}
	return nil
}

// podIsUnready makes one pod of a service unready, and ready again.
func podIsUnready(ctx context.Context, p *partsOf, report *scenario.Report) error {
	n, out := p.c.Nodes()[0], p.app.Pods[0]
	start := time.Now()
	if err := out.SetReady(ctx, false); err != nil {
		return err
	}
	if _, err := lab.Until(ctx, out.Name+" to get no requests", patience, func(ctx context.Context) error {
		seen, err := podsAt(ctx, p.client, n, p.app.NodePort)
		if err == nil && (seen[out.Name] || len(seen) != len(p.app.Pods)-1) {
			err = fmt.Errorf("seen: %v", seen)
		}
		return err
	}, n.Proxy, p.c.Controllers); err != nil {
		return err
	}
	report.Add(scenario.Row{What: "a pod that is not ready gets no requests", Took: time.Since(start), Within: 10 * time.Second})
	if err := out.SetReady(ctx, true); err != nil {
		return err
	}
	return everyNodeAnswers(ctx, p)
}

func podsAt(ctx context.Context, client *lab.Machine, n *lab.Node, port int32) (map[string]bool, error) {
	seen := make(map[string]bool)
	for range 40 {
		answer, err := get(ctx, client, fmt.Sprintf("http://%s:%d/", n.Addr, port))
		if err != nil {
			return nil, err
		}
		seen[answer.Pod] = true
	}
	return seen, nil
}

// trafficIsLocal checks the effect of externalTrafficPolicy Local.
func trafficIsLocal(ctx context.Context, p *partsOf, report *scenario.Report) error {
	with, without := p.c.Nodes()[0], p.c.Nodes()[1]
	took, err := lab.Until(ctx, "local traffic at "+with.Name, patience, func(ctx context.Context) error {
		answer, err := get(ctx, p.client, fmt.Sprintf("http://%s:%d/", with.Addr, p.local.NodePort))
		if err == nil && answer.Source != p.client.Addr.String() {
			err = fmt.Errorf("the pod saw the address %s, not %s of the client", answer.Source, p.client.Addr)
		}
		return err
	}, with.Proxy)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if answer, err := get(short, p.client, fmt.Sprintf("http://%s:%d/", without.Addr, p.local.NodePort)); err == nil {
		return fmt.Errorf("%s has no pod of the service, but forwarded to %s", without.Name, answer.Pod)
	}
	report.Add(scenario.Row{What: "with externalTrafficPolicy Local only nodes with pods answer", Took: took, Within: 10 * time.Second})
	return nil
}

const readNodes = `
apiVersion: v1
kind: Namespace
metadata: {name: accounts}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: accounts}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: read-nodes}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: read-nodes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: read-nodes}
subjects:
- {kind: ServiceAccount, name: reader, namespace: accounts}
`

// accountIsBound checks that a token of a ServiceAccount grants the rights of the account's role,
// and no other rights.
func accountIsBound(ctx context.Context, p *partsOf, report *scenario.Report) error {
	file := filepath.Join(os.TempDir(), "read-nodes.yaml")
	if err := os.WriteFile(file, []byte(readNodes), 0o600); err != nil {
		return err
	}
	// Apply the file twice: the second time must change nothing.
	if err := errors.Join(p.c.Apply(ctx, file), p.c.Apply(ctx, file)); err != nil {
		return err
	}
	path, err := p.c.AccountKubeconfig(ctx, "accounts", "reader")
	if err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return err
	}
	reader, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	took, err := lab.Until(ctx, "the role to be in force", patience, func(ctx context.Context) error {
		_, err := reader.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return err
	}
	_, err = reader.CoreV1().Services("parts").List(ctx, metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("an account without that right lists services: %w", err)
	}
	report.Add(scenario.Row{What: "the token of a ServiceAccount grants the rights of its role and no others", Took: took, Within: 10 * time.Second})
	return nil
}

// nodesChange deletes a Node and creates it again, disconnects its machine from the network, and
// adds and removes a whole node.
func nodesChange(ctx context.Context, p *partsOf, report *scenario.Report) error {
	n := p.c.Nodes()[1]
	if err := errors.Join(n.Delete(ctx), n.Create(ctx), n.Cordon(ctx), n.Uncordon(ctx), n.Annotate(ctx, "example.com/a", "b"), n.Label(ctx, "example.com/a", "b")); err != nil {
		return err
	}
	if err := everyNodeAnswers(ctx, p); err != nil {
		return err
	}
	if err := n.Unplug(); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := get(short, p.client, fmt.Sprintf("http://%s:%d/", n.Addr, p.app.NodePort)); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a machine without a network answers: %w", err)
	}
	if err := n.Plug(); err != nil {
		return err
	}
	start := time.Now()
	added, err := p.c.AddNode(ctx, lab.NodeSpec{Name: p.c.Name + "-d", Zone: "a"})
	if err != nil {
		return err
	}
	if err := everyNodeAnswers(ctx, p); err != nil {
		return err
	}
	report.Add(scenario.Row{What: "a new node's port reaches every pod", Took: time.Since(start), Within: 15 * time.Second})
	if err := added.Remove(ctx); err != nil {
		return err
	}
	return everyNodeAnswers(ctx, p)
}

// everyNodeAnswers waits until requests to the node port of each node reach each pod.
func everyNodeAnswers(ctx context.Context, p *partsOf) error {
	for _, n := range p.c.Nodes() {
		if _, err := lab.Until(ctx, "node port of "+n.Name, patience, func(ctx context.Context) error {
			return answersFrom(ctx, p.client, n, p.app)
		}, n.Proxy); err != nil {
			return err
		}
	}
	return nil
}
