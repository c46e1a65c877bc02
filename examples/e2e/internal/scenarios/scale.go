//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/internal/manifesttest"
)

// scale is the scenario that measures the cost of a large cluster. It needs its own API server, but
// no kube-proxy and no HAProxy. It runs first, because the clusters of other scenarios would
// compete for the processors.
var scale = scenario.Scenario[*Env]{
	Name:   "scale",
	About:  fmt.Sprintf("%d nodes with a heartbeat every %s and %d services: latency, memory, traffic", scaleNodes, heartbeatInterval, scaleServices),
	Within: 6 * time.Minute,
	Run:    runScale,
}

const (
	scaleNodes, fewNodes = 1000, 100
	scaleServices        = 2000
	scaleSubset          = 20
	scaleEvents          = 100
	// firstAgentPort is the agent port of the first service with an agent port. Every second
	// service has an agent port.
	firstAgentPort = 11_000
	// scaleQuiet is how long the terminator waits for further events before it applies a change. It
	// is the terminator's default, so the measured time contains the wait that users have too.
	// scaleMinInterval is the shortest time between two configurations; a longer interval would
	// only delay the scenario.
	scaleQuiet       = 100 * time.Millisecond
	scaleMinInterval = 10 * time.Millisecond
	// trafficWindow is how long a measurement of traffic lasts. It is a multiple of the interval of
	// heartbeats, so each measurement contains the same number of heartbeats of each node.
	trafficWindow = 2 * heartbeatInterval
)

// These are the largest allowed results. A busy machine is slower than an idle machine by a
// measured factor, the slowness. So the limits for the time in which a terminator handles an event
// are:
//   - for the median: goalLatency times the median of the slowness
//   - for the 99th percentile: goalLatency times the 99th percentile of the slowness, but at least
//     goalLatency times rareFactor, because this percentile is inaccurate with a hundred events
const (
	goalLatency          = 300 * time.Millisecond
	rareFactor           = 3
	goalTerminatorMemory = 400 * megabyte
	goalAgentMemory      = 40 * megabyte
)

func runScale(ctx context.Context, env *Env, report *scenario.Report) (err error) {
	start := time.Now()
	s, err := startScale(ctx, env, report)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := s.fleet.createServices(ctx, scaleServices); err != nil {
		return err
	}
	few, err := s.measureAgent(ctx, 0, fewNodes)
	if err != nil {
		return err
	}
	terminator, err := s.prepareTerminator()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, terminator.config.Close()) }()
	many, err := s.measureAgent(ctx, fewNodes, scaleNodes)
	if err != nil {
		return err
	}
	reportAgent(report, few, many)
	size, err := s.fleet.nodeSize(ctx)
	if err != nil {
		return err
	}
	report.Logf("a node is %.1f kB of JSON", float64(size)/1e3)
	if err := s.measureTerminator(ctx, terminator); err != nil {
		return err
	}
	report.Add(scenario.Row{What: fmt.Sprintf("%d nodes and %d services created", scaleNodes, scaleServices), Took: time.Since(start)})
	return nil
}

// scaleLab is the lab of the scenario with the large cluster: the cluster, the programs under test,
// and the data that the measurements need.
type scaleLab struct {
	env     *Env
	report  *scenario.Report
	cluster *lab.Cluster
	fleet   *fleet
	beats   *heartbeats // nil without heartbeats

	accounts Accounts

	agentMachine      *lab.Machine
	agent, terminator *lab.Process
}

func startScale(ctx context.Context, env *Env, report *scenario.Report) (*scaleLab, error) {
	clusters, err := env.Lab.StartClusters(ctx, lab.ClusterSpec{Name: "scale"})
	if err != nil {
		return nil, err
	}
	s := &scaleLab{env: env, report: report, cluster: clusters[0]}
	// The scenario does not need the controllers.
	s.cluster.Controllers.Kill()
	if s.fleet, err = newFleet(s.cluster.Config, scaleNodes); err != nil {
		return nil, errors.Join(err, s.end())
	}
	if s.agentMachine, err = env.Lab.Machine("scale-agent"); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// The method "end" stops the cluster, because later scenarios do not use it.
func (s *scaleLab) end() error {
	err := s.quiet()
	for _, p := range []*lab.Process{s.terminator, s.agent} {
		if p != nil {
			err = errors.Join(err, p.Stop())
		}
	}
	// The context of the scenario may have ended. The cleanup must run nevertheless, so it has a
	// context of its own.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.cluster.Remove(ctx), os.RemoveAll(s.env.Lab.Dir("scale-terminator")))
}

// quiet stops the heartbeats.
func (s *scaleLab) quiet() error {
	if s.beats == nil {
		return nil
	}
	err := s.beats.stop()
	s.beats = nil
	return err
}

// agentFigures are the measurements of a node agent in a cluster of a given size.
type agentFigures struct {
	nodes    int
	memory   memory
	traffic  int64         // bytes received a minute
	used     time.Duration // processor time a minute
	ready    time.Duration // from the start of the agent until it is ready
	received int64         // bytes that the agent receives until it is ready
}

// measureAgent creates the nodes with the indices from first to end-1 and starts heartbeats of all
// nodes. Then it starts an agent and measures it.
func (s *scaleLab) measureAgent(ctx context.Context, first, end int) (f agentFigures, err error) {
	if err := s.quiet(); err != nil {
		return f, err
	}
	if err := s.fleet.createNodes(ctx, first, end); err != nil {
		return f, err
	}
	s.beats = s.fleet.beat(ctx, end)
	if f.nodes = end; s.accounts.Agent == "" {
		if s.accounts, err = InstallAccounts(ctx, s.cluster); err != nil {
			return f, err
		}
	}
	before, err := received(s.agentMachine)
	if err != nil {
		return f, err
	}
	if f.ready, err = s.startAgent(ctx); err != nil {
		return f, err
	}
	if err := s.beats.midway(ctx); err != nil {
		return f, err
	}
	from, err := received(s.agentMachine)
	if err != nil {
		return f, err
	}
	f.received = from - before
	busy, err := processorTime(s.agent)
	if err != nil {
		return f, err
	}
	beats := s.beats.sent.Load()
	start := time.Now()
	if err := pause(ctx, trafficWindow); err != nil {
		return f, err
	}
	to, err := received(s.agentMachine)
	if err != nil {
		return f, err
	}
	took := time.Since(start)
	after, err := processorTime(s.agent)
	if err != nil {
		return f, err
	}
	if f.memory, err = memoryOf(s.agent); err != nil {
		return f, err
	}
	f.traffic, f.used = perMinute(to-from, took), perMinute(after-busy, took)
	beats = s.beats.sent.Load() - beats
	s.report.Logf("nodeagent among %d nodes, which sent %d heartbeats in %s: %s, %.1f kB/min received, %s of processor time in a minute; ready after %s",
		end, beats, took.Round(time.Millisecond), f.memory, float64(f.traffic)/1e3, f.used, f.ready.Round(time.Millisecond))
	if want := int64(float64(end) * trafficWindow.Seconds() / heartbeatInterval.Seconds()); beats < want/2 {
		return f, fmt.Errorf("only %d of %d heartbeats were written in %s: the machine is too slow for a measurement", beats, want, took)
	}
	return f, nil
}

func perMinute[T ~int64](n T, in time.Duration) T {
	return T(float64(n) * float64(time.Minute) / float64(in))
}

// startAgent starts an agent for the node with index 0, and returns when the agent answers.
func (s *scaleLab) startAgent(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if s.agent != nil {
		if err := s.agent.Restart(); err != nil {
			return 0, err
		}
	} else {
		var err error
		if s.agent, err = s.agentMachine.Start("scale-nodeagent", "nodeagent",
			"-node", manifesttest.NodeName(0), "-kubeconfig", s.accounts.Agent, "-admin", fmt.Sprintf(":%d", agentAdminPort),
		); err != nil {
			return 0, err
		}
	}
	_, err := lab.Until(ctx, "the agent to answer", patience, s.agentAnswers, s.agent)
	return time.Since(start), err
}

// agentAnswers checks that the agent is ready, and that the agent answers "up ready" for the node
// and for a service.
func (s *scaleLab) agentAnswers(ctx context.Context) error {
	addr := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.agentMachine.Addr, port) }
	status, body, err := adminPage(ctx, s.agentMachine, addr(agentAdminPort), "/readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/readyz: %d %s", status, body)
	}
	if err != nil {
		return err
	}
	client := agentcheck.Client{Timeout: 2 * time.Second}
	return s.agentMachine.Do(func() error {
		for _, port := range []uint16{nodeAgentPort, firstAgentPort} {
			reply, err := client.Check(ctx, addr(port).String())
			if err == nil && (reply.State != agentcheck.Up || reply.Admin != agentcheck.Ready) {
				err = fmt.Errorf("port %d says %s", port, reply)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func reportAgent(report *scenario.Report, few, many agentFigures) {
	for _, f := range []agentFigures{few, many} {
		row := scenario.Row{What: fmt.Sprintf("nodeagent's memory among %d nodes: %s (goal: 40 MB)", f.nodes, f.memory)}
		if f.memory.most >= goalAgentMemory {
			row.Err = errors.New("the goal is missed")
		}
		report.Add(row)
	}
	row := scenario.Row{What: fmt.Sprintf("nodeagent receives %.0f kB/min among %d nodes, %.0f kB/min among %d",
		float64(few.traffic)/1e3, few.nodes, float64(many.traffic)/1e3, many.nodes)}
	// Once a minute, the agent reads the number of nodes from the API server. The measurement with
	// many nodes may contain one such request more than the measurement with few nodes. slack is
	// the number of bytes that the comparison allows for the answer to this request.
	const slack = 64_000
	if many.traffic > few.traffic*3/2+slack {
		row.Err = errors.New("the traffic grows with the number of nodes")
	}
	report.Add(row)
	row = scenario.Row{What: fmt.Sprintf("nodeagent's memory grows by %+.1f MB", float64(many.memory.now-few.memory.now)/megabyte)}
	if many.memory.now-few.memory.now > 5*megabyte {
		row.Err = errors.New("the memory grows with the number of nodes")
	}
	report.Add(row)
}

// scaleTerminator is a terminator for the measurement: its arguments, and the path of the
// configuration that it writes.
type scaleTerminator struct {
	machine *lab.Machine
	argv    []string
	config  *fileWatch
}

func (s *scaleLab) prepareTerminator() (*scaleTerminator, error) {
	machine, err := s.env.Lab.Machine("scale-terminator")
	if err != nil {
		return nil, err
	}
	dir := s.env.Lab.Dir("scale-terminator")
	out, routes := filepath.Join(dir, "out"), filepath.Join(dir, "routes.yaml")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(routes, fleetRoutes(s.cluster.Name, scaleServices), 0o644); err != nil {
		return nil, err
	}
	config, err := watchFile(filepath.Join(out, "haproxy.cfg"))
	return &scaleTerminator{machine: machine, config: config, argv: []string{
		"terminator", "-routes", routes, "-out", out, "-http", ":80",
		"-nodes-per-service", fmt.Sprint(scaleSubset), "-quiet", scaleQuiet.String(), "-min-interval", scaleMinInterval.String(),
	}}, err
}

func (s *scaleLab) measureTerminator(ctx context.Context, t *scaleTerminator) error {
	start := time.Now()
	before, err := received(t.machine)
	if err != nil {
		return err
	}
	if s.terminator, err = t.machine.Start("scale-terminator", append(t.argv, "-cluster", s.cluster.Name+"=kubeconfig:"+s.accounts.Terminator)...); err != nil {
		return err
	}
	at, err := t.config.until(ctx, "the first configuration", 30*time.Second, func(b []byte) bool { return len(b) > 0 })
	if err != nil {
		return errors.Join(err, s.terminator.Tail())
	}
	s.report.Add(scenario.Row{What: "a terminator's first configuration", Took: at.Sub(start), Within: 30 * time.Second})
	busy, err := processorTime(s.terminator)
	if err != nil {
		return err
	}
	beats, measuring := s.beats.sent.Load(), time.Now()
	slow := watchSlowness(ctx, sampleEvery)
	took, err := makeEvents(ctx, s.fleet, t.config, scaleEvents)
	slow.stop()
	if err != nil {
		return errors.Join(err, s.terminator.Tail())
	}
	used, err := processorTime(s.terminator)
	if err != nil {
		return err
	}
	m, err := memoryOf(s.terminator)
	if err != nil {
		return err
	}
	after, err := received(t.machine)
	if err != nil {
		return err
	}
	s.report.Logf("terminator: %d events and %d heartbeats in %s; %s of processor time; %.1f MB received since its start",
		len(took), s.beats.sent.Load()-beats, time.Since(measuring).Round(time.Second), used-busy, float64(after-before)/1e6)
	s.reportLatency(took, slow)
	row := scenario.Row{What: fmt.Sprintf("terminator's memory: %s (goal: 400 MB)", m)}
	if m.most >= goalTerminatorMemory {
		row.Err = errors.New("the goal is missed")
	}
	s.report.Add(row)
	return nil
}

func (s *scaleLab) reportLatency(took []eventTook, slow *slowness) {
	var beyond, requests []time.Duration
	kinds := map[string][]time.Duration{}
	for _, t := range took {
		beyond = append(beyond, t.total-scaleQuiet)
		requests = append(requests, t.request)
		kinds[t.name] = append(kinds[t.name], t.total-scaleQuiet)
	}
	ms := func(values []time.Duration, q float64) int64 { return quantile(values, q).Milliseconds() }
	for _, e := range nodeEvents {
		if values := kinds[e.name]; values != nil {
			delete(kinds, e.name)
			s.report.Logf("%d times a node %s: p50 %d ms, most %d ms beyond %s of coalescing", len(values), e.name, ms(values, 0.5), ms(values, 1), scaleQuiet)
		}
	}
	s.report.Logf("of these the request to the API server alone: p50 %d ms, p99 %d ms, most %d ms", ms(requests, 0.5), ms(requests, 0.99), ms(requests, 1))
	times := func(factor float64) time.Duration { return time.Duration(factor * float64(goalLatency)) }
	median, rare := slow.at(0.5), slow.at(0.99)
	s.report.Logf("work got on %.1f times slower than on an idle machine, p99 %.1f times", median, rare)
	s.report.Add(scenario.Row{
		What: fmt.Sprintf("%d node events to haproxy.cfg, without %s of waiting for a burst to end: p50", len(took), scaleQuiet),
		Took: quantile(beyond, 0.5), Within: times(median), Scaled: true,
	})
	s.report.Add(scenario.Row{
		What: fmt.Sprintf("the same: p99 (goal: %s; maximum: %d ms; the machine was %.1f times slower than idle, p99 %.1f)", goalLatency, ms(beyond, 1), median, rare),
		Took: quantile(beyond, 0.99), Within: times(max(rareFactor, rare)), Scaled: true,
	})
}
