//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// smoke is the scenario that checks that the lab has the properties that the other scenarios
// assume.
var smoke = scenario.Scenario[*Env]{
	Name:  "smoke",
	About: "two clusters of three nodes, whose node ports reach the pods of their own cluster",
	Run:   runSmoke,
}

func runSmoke(ctx context.Context, env *Env, report *scenario.Report) error {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	report.Add(scenario.Row{What: "two clusters of three nodes are up", Took: env.started, Within: 3 * time.Minute})
	client, err := env.Lab.Machine("client")
	if err != nil {
		return err
	}
	for _, c := range clusters {
		start := time.Now()
		app, err := c.Deploy(ctx, lab.App{Namespace: "smoke", Name: "hello-" + c.Name})
		if err != nil {
			return err
		}
		if err := everyNodeAnswers(ctx, &partsOf{c: c, client: client, app: app}); err != nil {
			return err
		}
		report.Add(scenario.Row{What: c.Name + ": every node's port reaches every pod", Took: time.Since(start), Within: 15 * time.Second})
		if err := steady(ctx, client, c.Nodes()[0], app, report); err != nil {
			return err
		}
	}
	return nil
}

// answersFrom sends requests to the node port of one node until each pod of the app has answered.
func answersFrom(ctx context.Context, client *lab.Machine, n *lab.Node, app *lab.Deployed) error {
	seen := make(map[string]bool)
	for range 20 * len(app.Pods) {
		answer, err := get(ctx, client, fmt.Sprintf("http://%s:%d/", n.Addr, app.NodePort))
		if err != nil {
			return err
		}
		if answer.Cluster != n.Cluster.Name || answer.App != app.App.Name {
			return fmt.Errorf("%s of cluster %s answered at %s", answer.Pod, answer.Cluster, n.Name)
		}
		if entry := n.Cluster.EntryNode(answer); entry != n {
			return fmt.Errorf("a pod saw the client address %s, which belongs to %v and not to %s", answer.Source, entry, n.Name)
		}
		if seen[answer.Pod] = true; len(seen) == len(app.Pods) {
			return nil
		}
	}
	return fmt.Errorf("only %d of %d pods answered at %s", len(seen), len(app.Pods), n.Name)
}

func get(ctx context.Context, from *lab.Machine, url string) (answer pod.Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer, err
	}
	res, err := from.Client().Do(req)
	if err != nil {
		return answer, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s: %s", url, res.Status)
	}
	return answer, json.NewDecoder(res.Body).Decode(&answer)
}

// The function "steady" sends requests to one node port for some time.
func steady(ctx context.Context, client *lab.Machine, n *lab.Node, app *lab.Deployed, report *scenario.Report) error {
	const seconds = 2
	run := startLoad(ctx, loadConfig{
		Dial:    client.DialContext,
		Address: fmt.Sprintf("%s:%d", n.Addr, app.NodePort),
		Host:    "hello.example.com",
		Rate:    200,
	})
	var all time.Time
	_, err := lab.Until(ctx, "load", 4*seconds*time.Second, func(context.Context) error {
		if got := run.Count(all, all); got < seconds*200 {
			return fmt.Errorf("%d requests", got)
		}
		return nil
	})
	log := run.Stop()
	report.Logf("%s: p50 %s, p99 %s, by pod %v", n.Name, log.Quantile(all, all, 0.5), log.Quantile(all, all, 0.99),
		log.Shares(all, all, func(r request) string { return r.Answer.Pod }))
	report.Add(scenario.Row{
		What: n.Cluster.Name + ": steady load on a node port", Requests: log.Count(all, all),
		Failed: len(log.Failures(all, all)), Err: log.Err(all, all),
	})
	return err
}
