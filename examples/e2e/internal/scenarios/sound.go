//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/e2e/internal/lab"
)

// waitSound waits until the system has the state in which a scenario starts.
func (s *System) waitSound(ctx context.Context, within time.Duration) error {
	_, err := lab.Until(ctx, "a sound system", within, s.sound, s.Terminator.Process, s.HAProxy.Process)
	return err
}

// sound returns an error that lists everything that differs from the state in which a scenario
// starts.
func (s *System) sound(ctx context.Context) error {
	report, err := s.Terminator.Report()
	if err != nil {
		return err
	}
	var faults []error
	for _, p := range report.Problems {
		faults = append(faults, p)
	}
	if report.Refused != nil {
		faults = append(faults, fmt.Errorf("refused: %s", report.Refused.Reason))
	}
	declared := 0
	for _, r := range systemRoutes() {
		declared += len(r.backends)
	}
	if len(report.Services) != declared {
		faults = append(faults, fmt.Errorf("report.json has %d services of %d", len(report.Services), declared))
	}
	for _, r := range report.Services {
		if len(r.Nodes) != nodesPerService || r.WeightPercent != 100 {
			faults = append(faults, fmt.Errorf("%s has nodes %s and weight %d", r.Ref, strings.Join(r.Nodes, ", "), r.WeightPercent))
		}
	}
	status, body, err := s.Terminator.Admin(ctx, s.Client, "/readyz")
	if err == nil && (status != http.StatusOK || body != "ok\n") {
		err = fmt.Errorf("the terminator's /readyz: status %d, %q", status, body)
	}
	if err != nil {
		faults = append(faults, err)
	}
	for _, c := range s.Clusters {
		for _, n := range c.Nodes() {
			if err := s.nodeSound(ctx, n); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", n.Name, err))
			}
		}
	}
	if faults != nil {
		return errors.Join(faults...)
	}
	return s.tracksSound(ctx)
}

// nodeSound returns an error unless the agent of the node answers ready and HAProxy has received
// that answer.
func (s *System) nodeSound(ctx context.Context, n *lab.Node) error {
	a := s.Agents[n.Name]
	want := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
	got, err := a.Answer(ctx, s.Edge, nodeAgentPort)
	if err == nil && got != want {
		err = fmt.Errorf("the agent answers %q", got)
	}
	if err != nil {
		return err
	}
	want.Weight = agentcheck.Percent(100)
	if got, err = a.Answer(ctx, s.Edge, tracksAgentPort); err == nil && got != want {
		err = fmt.Errorf("the agent of %s answers %q", tracks, got)
	}
	if err != nil {
		return err
	}
	stat, err := s.HAProxy.NodeStat(ctx, n)
	if err == nil && stat.Status != "UP" {
		err = fmt.Errorf("HAProxy says %s", stat.Status)
	}
	return err
}

// tracksSound sends requests to the service "tracks". It returns an error if a request fails, or if
// some server of the service answers none of the requests.
func (s *System) tracksSound(ctx context.Context) error {
	seen := make(map[*lab.Node]bool)
	for range 20 * len(s.Clusters) * nodesPerService {
		status, answer, err := s.ask(ctx, tracksHost, tracksPath)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s: status %d", tracksHost, status)
		}
		for _, c := range s.Clusters {
			if c.Name == answer.Cluster {
				seen[c.EntryNode(answer)] = true
			}
		}
		if len(seen) == len(s.Clusters)*nodesPerService {
			return nil
		}
	}
	return fmt.Errorf("requests came only through %s", names(seen))
}

func names(nodes map[*lab.Node]bool) string {
	var all []string
	for n := range nodes {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
