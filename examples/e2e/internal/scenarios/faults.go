//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/haproxycfg/kube"
)

var faults = scenario.Scenario[*Env]{
	Name:  "faults",
	About: "conflicting ports, missing services and port names, and invalid declarations are reported; everything else is served",
	Run:   underLoad(runFaults),
}

// These services and hosts have faults.
const (
	clash = "clash" // its agent port is the node port of another service
	rival = "rival" // its agent port is the agent port of another service
	ghost = "ghost" // does not exist
)

func host(name string) string { return name + ".example.com" }

func runFaults(ctx context.Context, s *System, t *traffic, _ *scenario.Report) (err error) {
	c := s.Clusters[0]
	port, err := s.nodePort(ctx, c, tracks)
	if err != nil {
		return err
	}
	start := time.Now()
	var deployed []*lab.Deployed
	defer func() {
		for _, d := range deployed {
			err = errors.Join(err, remove(ctx, d))
		}
	}()
	for _, app := range []lab.App{
		{Name: clash, Annotations: map[string]string{agentPortKey: fmt.Sprint(port)}, On: c.Nodes()[:1]},
		{Name: rival, Annotations: map[string]string{agentPortKey: fmt.Sprint(tracksAgentPort)}, Pods: -1},
	} {
		app.Namespace = appNamespace
		d, err := c.Deploy(ctx, app)
		if err != nil {
			return err
		}
		deployed = append(deployed, d)
	}
	if err := s.Routes.set(append(systemRoutes(),
		route{host: host(clash), backends: []backend{{c.Name, clash, "http"}}},
		route{host: host(rival), backends: []backend{{c.Name, rival, "http"}}},
		route{host: host(ghost), backends: []backend{{c.Name, ghost, "http"}}},
		route{host: host("portname"), backends: []backend{{c.Name, web, "grpc"}}},
		route{host: host("mixed"), backends: []backend{{c.Name, "ghost-too", "http"}, {c.Name, web, "http"}}},
		route{host: host("nowhere"), backends: []backend{{"eu-9", web, "http"}}},
		route{host: "*.*.example.com", backends: []backend{{c.Name, web, "http"}}},
	)); err != nil {
		return err
	}
	want, err := s.expectedProblems(c, port)
	if err != nil {
		return err
	}
	took, err := lab.Until(ctx, "the report of all that is wrong", patience, func(ctx context.Context) error {
		return s.reportsProblems(ctx, c, want)
	}, s.Terminator.Process)
	if err := t.row(scenario.Row{What: fmt.Sprintf("%d faults are in report.json with their places, 2 of them in the agents' metrics", len(want)), Took: took, Err: err}, start); err != nil {
		return err
	}
	_, err = lab.Until(ctx, "what is right to be served", patience, s.servesTheRest, s.Terminator.Process)
	if err == nil {
		err = s.nodeSound(ctx, c.Nodes()[0])
	}
	if err := t.row(scenario.Row{What: "the other routes are served, and so are the agents of " + tracks, Err: err}, start); err != nil {
		return err
	}

	start = time.Now()
	if err := s.Routes.set(systemRoutes()); err != nil {
		return err
	}
	// Wait until HAProxy sends no more requests to the services. Then remove the services.
	if _, err := lab.Until(ctx, "no more such routes", patience, func(ctx context.Context) error {
		return s.wantStatus(ctx, host(clash), "/", http.StatusNotFound)
	}, s.Terminator.Process); err != nil {
		return err
	}
	for ; len(deployed) > 0; deployed = deployed[1:] {
		if err := remove(ctx, deployed[0]); err != nil {
			return err
		}
	}
	took, err = lab.Until(ctx, "no more problems", patience, func(ctx context.Context) error {
		return s.reportsProblems(ctx, c, nil)
	}, s.Terminator.Process)
	return t.row(scenario.Row{What: "faults removed: the report has no problems", Took: took, Err: err}, start)
}

// expectedProblems returns the problems that runFaults must cause. The Message of a returned
// problem is only a part of the message that the real problem must have.
func (s *System) expectedProblems(c *lab.Cluster, port int32) ([]kube.Problem, error) {
	service := func(name string) string { return "Service " + appNamespace + "/" + name }
	want := []kube.Problem{
		{Cluster: c.Name, Object: service(clash), Field: agentPortKey, Message: fmt.Sprintf("node port of %s", service(tracks))},
		{Cluster: c.Name, Object: service(rival), Field: agentPortKey, Message: fmt.Sprintf("agent port of %s", service(tracks))},
		{Cluster: c.Name, Object: service(ghost), Message: "no such service"},
		{Cluster: c.Name, Object: service(web), Field: "spec.ports", Message: `no port "grpc"`},
		{Cluster: c.Name, Object: service("ghost-too"), Message: "no such service"},
		{Cluster: "eu-9", Message: "not given"},
		{Field: "host", Message: "*.*.example.com"},
	}
	for i, declared := range []string{clash, rival, ghost, "portname", "mixed", "nowhere", "*.*"} {
		if i < 2 {
			continue // this is a fault of the object, and not of a declaration
		}
		line, err := s.Routes.line(host(declared))
		if err != nil {
			return nil, err
		}
		want[i].File, want[i].Line = s.Routes.path, line
	}
	return want, nil
}

// reportsProblems returns an error if report.json does not contain exactly the wanted problems, or
// if the metrics of the agents do not count the problems that concern agents.
func (s *System) reportsProblems(ctx context.Context, c *lab.Cluster, want []kube.Problem) error {
	report, err := s.Terminator.Report()
	if err != nil {
		return err
	}
	var errs []error
	found, annotations := make([]bool, len(report.Problems)), 0
	for _, w := range want {
		if w.Field == agentPortKey {
			annotations++
		}
		ok := false
		for i, p := range report.Problems {
			if !found[i] && isProblem(p, w) {
				ok, found[i] = true, true
				break
			}
		}
		if !ok {
			errs = append(errs, fmt.Errorf("it does not contain %q", w.Error()))
		}
	}
	for i, p := range report.Problems {
		if !found[i] {
			errs = append(errs, fmt.Errorf("it says %q", p.Error()))
		}
	}
	for _, n := range c.Nodes() {
		errs = append(errs, s.Agents[n.Name].wantMetric(ctx, s.Client, "headgate_agent_problems", float64(annotations)))
	}
	return errors.Join(errs...)
}

func isProblem(p, want kube.Problem) bool {
	return p.Cluster == want.Cluster && p.Object == want.Object &&
		(want.File == "" || p.File == want.File && p.Line >= want.Line && p.Line <= want.Line+2) &&
		strings.Contains(p.Field, want.Field) && strings.Contains(p.Message, want.Message)
}

// servesTheRest checks the answers of HAProxy: requests for a service that has no fault must
// succeed, and requests for a service that has a fault must get an error.
func (s *System) servesTheRest(ctx context.Context) error {
	var errs []error
	for name, status := range map[string]int{
		clash: http.StatusOK, "mixed": http.StatusOK, "www": http.StatusOK,
		ghost: http.StatusServiceUnavailable, "portname": http.StatusServiceUnavailable, "nowhere": http.StatusServiceUnavailable,
		"never-declared": http.StatusNotFound,
	} {
		errs = append(errs, s.wantStatus(ctx, host(name), "/", status))
	}
	return errors.Join(errs...)
}

// remove deletes a service and its pods, even if the time of the scenario is over.
func remove(ctx context.Context, d *lab.Deployed) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	errs := []error{d.Cluster.DeleteService(ctx, d.App.Namespace, d.App.Name)}
	for _, p := range d.Pods {
		errs = append(errs, p.Delete(ctx))
	}
	return errors.Join(errs...)
}
