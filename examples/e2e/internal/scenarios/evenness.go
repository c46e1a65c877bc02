//go:build linux

package scenarios

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var evenness = scenario.Scenario[*Env]{
	Name:  "evenness",
	About: "terminator -simulate predicts how unevenly the nftables rules of kube-proxy load the pods of a service",
	Run:   runEvenness,
}

const (
	evenPods = 9 // of the service
	// evenTrials is the number of trials. In each trial, evenConnections connections go to the
	// service. They are spread evenly over the nodes of the service's subset, as HAProxy spreads
	// them.
	evenTrials, evenConnections = 24, 640
	// evenError is the largest allowed difference between the predicted and the measured value, as
	// a share of the predicted value.
	evenError = 0.1
)

func runEvenness(ctx context.Context, env *Env, report *scenario.Report) (err error) {
	s, err := env.System(ctx)
	if err != nil {
		return err
	}
	if err := s.Restore(ctx); err != nil {
		return err
	}
	c := s.Clusters[0]
	d, err := c.Deploy(ctx, lab.App{Namespace: appNamespace, Name: "even", Pods: evenPods / len(c.Nodes())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(ctx, d)) }()
	predicted, err := s.simulate(ctx, c, d)
	if err != nil {
		return err
	}
	// Send the connections to two of the three nodes, because the terminator selects two nodes
	// (nodesPerService) for each service.
	nodes := c.Nodes()[:nodesPerService]
	for _, n := range nodes {
		if _, err := lab.Until(ctx, "node port of "+n.Name, patience, func(ctx context.Context) error {
			return answersFrom(ctx, s.Client, n, d)
		}, n.Proxy); err != nil {
			return err
		}
	}
	start := time.Now()
	worst := make([]float64, 0, evenTrials)
	for range evenTrials {
		counts, err := s.connections(ctx, d, nodes)
		if err != nil {
			return err
		}
		most := 0
		for _, n := range counts {
			most = max(most, n)
		}
		worst = append(worst, float64(most)*evenPods/evenConnections)
	}
	median := quantile(worst, 0.5)
	above := 0
	for _, w := range worst {
		if w > predicted.p99*(1+evenError) {
			above++
		}
	}
	report.Logf("%d connections, %d pods, %d trials: the busiest pod has %.2f times the mean (median) and at most %.2f times; predicted: P50 %.2f, P99 %.2f",
		evenConnections, evenPods, evenTrials, median, slices.Max(worst), predicted.p50, predicted.p99)
	if median < predicted.p50*(1-evenError) || median > predicted.p50*(1+evenError) {
		err = fmt.Errorf("the median is %.2f, and P50 is %.2f", median, predicted.p50)
	}
	if above > 1 {
		err = errors.Join(err, fmt.Errorf("%d trials exceed P99, which is %.2f", above, predicted.p99))
	}
	report.Add(scenario.Row{
		What: fmt.Sprintf("busiest pod over mean: %.2f, at most %.2f in %d trials; predicted %.2f and %.2f", median, slices.Max(worst), evenTrials, predicted.p50, predicted.p99),
		Took: time.Since(start), Requests: evenTrials * evenConnections, Err: err,
	})
	return nil
}

type prediction struct{ p50, p99 float64 }

// simulate runs `terminator -simulate`, and returns the columns P50 and P99 of the line for the
// service.
func (s *System) simulate(ctx context.Context, c *lab.Cluster, d *lab.Deployed) (p prediction, err error) {
	dir := s.env.Lab.Dir("simulate")
	routes, err := newRoutesFile(filepath.Join(dir, "routes.yaml"), []route{{host: "even.example.com", backends: []backend{{c.Name, d.App.Name, "http"}}}})
	if err != nil {
		return p, err
	}
	out, err := s.Edge.Run(ctx, slices.Concat([]string{"terminator", "-simulate", "-out", filepath.Join(dir, "out"), "-http", ":80", "-routes", routes.path, "-nodes-per-service", fmt.Sprint(nodesPerService), "-connections", fmt.Sprint(evenConnections)}, s.clusterFlags)...)
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 7 || !strings.Contains(fields[0], "/"+d.App.Name+":") {
			continue
		}
		if fields[3] != strconv.Itoa(evenPods) {
			return p, fmt.Errorf("wrong number of pods: %s", line)
		}
		var err1, err2 error
		p.p50, err1 = strconv.ParseFloat(fields[5], 64)
		p.p99, err2 = strconv.ParseFloat(fields[6], 64)
		return p, errors.Join(err1, err2)
	}
	return p, fmt.Errorf("no line for %s: %s", d.App.Name, out)
}

// The method "connections" opens evenConnections connections to the node ports of the service, the
// same number to each node, and sends one request over each connection. It returns the number of
// connections of each pod.
func (s *System) connections(ctx context.Context, d *lab.Deployed, nodes []*lab.Node) (map[string]int, error) {
	var mu sync.Mutex
	counts := map[string]int{}
	group, ctx := errgroup.WithContext(ctx)
	const workers = 4
	for w := range workers {
		group.Go(func() error {
			return s.Client.Do(func() error {
				for i := w; i < evenConnections; i += workers {
					name, err := podOf(ctx, netip.AddrPortFrom(nodes[i%len(nodes)].Addr, uint16(d.NodePort)))
					if err != nil {
						return err
					}
					mu.Lock()
					counts[name]++
					mu.Unlock()
				}
				return nil
			})
		})
	}
	return counts, group.Wait()
}

// podOf opens a connection, sends a request, and returns the name of the pod that answers.
func podOf(ctx context.Context, at netip.AddrPort) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: even\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer pod.Answer
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&answer)
	return answer.Pod, err
}
