//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

var frontRollout = scenario.Scenario[*Env]{
	Name:  "frontrollout",
	About: "a rollout replaces all pods under load, and no GET and no POST fails",
	Run: withFronts("rolled", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		for range 2 {
			if _, err := f.start(ctx, ""); err != nil {
				return err
			}
		}
		addr, err := f.balanceFronts(ctx, "roundrobin", 2)
		if err != nil {
			return err
		}
		load := f.load(ctx, addr, nil)
		defer load.Stop()
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		from := time.Now()
		old := f.pods(f.Local)
		group, gctx := errgroup.WithContext(ctx)
		for _, p := range old {
			if err := f.addPod(ctx, f.Local); err != nil {
				return err
			}
			// The preStop hook of the pod takes 2 s. So HAProxy learns early enough that the pod
			// terminates, that is, before the pod stops its server.
			group.Go(func() error { return p.Terminate(gctx, 2*time.Second) })
			if err := pause(ctx, startEvery); err != nil {
				return err
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
		end := time.Now()
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		log := load.Stop()
		counts := byPod(log, end, time.Time{}, f.pods(f.Local))
		row := f.row(log, from, time.Time{}, fmt.Sprintf("all %d pods replaced within %s; afterwards the coefficient of variation is %.3f", len(old), end.Sub(from).Round(time.Second), variation(counts)))
		for _, p := range old {
			if row.Err == nil && counts[p.Name] > 0 {
				row.Err = fmt.Errorf("%s is gone, but answers", p.Name)
			}
		}
		report.Add(row)
		return nil
	}),
}

var frontPolicy = scenario.Scenario[*Env]{
	Name:   "frontpolicy",
	About:  "ten changes of the policy fail no request, and ejected and drained pods get none",
	Within: 4 * time.Minute,
	Run: withFronts("policed", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		policy := func(i int) string { return fmt.Sprintf("ejectTime: 5m\nserver: %ds\n", 15+i) }
		front, err := f.start(ctx, policy(0))
		if err != nil {
			return err
		}
		load := f.load(ctx, front.Addr.String(), nil)
		defer load.Stop()
		// When a front proxy starts, it sets the state of all servers once. If it did so after the
		// drain below, it would undo this drain. So wait until it has set the states.
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		pods := f.pods(f.Local)
		ejected, drained := pods[0], pods[1]
		if err := behave(ctx, pods[:1], failing(1)); err != nil {
			return err
		}
		if err := front.drainByHand(ctx, drained); err != nil {
			return err
		}
		if _, err := lab.Until(ctx, "an ejected and a drained pod", patience, func(ctx context.Context) error {
			n, err := front.serversUp(ctx, ":local")
			if err == nil && n != frontPods-2 {
				err = fmt.Errorf("%d of %d pods are up", n, frontPods)
			}
			return err
		}, front.Process); err != nil {
			return err
		}
		// Restore the usual behaviour of the ejected pod. If HAProxy sent it a request now, the pod
		// would answer without an error, and byPod would count the answer. So byPod shows whether
		// the pod gets requests.
		if err := behave(ctx, pods[:1], usual); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		from := time.Now()
		for i := range 10 {
			before, err := front.worker(ctx)
			if err != nil {
				return err
			}
			if err := front.setPolicy(policy(i + 1)); err != nil {
				return err
			}
			if _, err := lab.Until(ctx, "a new HAProxy process", patience, func(ctx context.Context) error {
				now, err := front.worker(ctx)
				if err == nil && now == before {
					err = errors.New("the same process")
				}
				return err
			}, front.Process); err != nil {
				return err
			}
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		log := load.Stop()
		counts := byPod(log, from, time.Time{}, pods)
		row := f.row(log, from, time.Time{}, "10 changes of the policy, each with a reload; one pod is ejected and one is drained")
		if n := counts[ejected.Name] + counts[drained.Name]; row.Err == nil && n > 0 {
			row.Err = fmt.Errorf("the ejected and the drained pod got %d requests", n)
		}
		report.Add(row)
		return nil
	}),
}

// drainByHand drains a pod as an operator does, through HAProxy's socket.
func (f *Front) drainByHand(ctx context.Context, p *lab.Pod) error {
	stats, err := f.stats(ctx)
	if err != nil {
		return err
	}
	for _, s := range stats {
		if !strings.HasSuffix(s.Proxy, ":local") || s.Addr != fmt.Sprintf("%s:%d", p.Addr, lab.PodPort) {
			continue
		}
		answer, err := f.socket().Do(ctx, fmt.Sprintf("set server %s/%s state drain", s.Proxy, s.Server))
		if err == nil && strings.TrimSpace(answer) != "" {
			err = errors.New(answer)
		}
		return err
	}
	return fmt.Errorf("HAProxy has no server %s", p.Addr)
}

// worker returns the process ID of the HAProxy worker that accepts connections.
func (f *Front) worker(ctx context.Context) (string, error) { return workerOf(ctx, f.socket().Path) }

// workerOf returns the process ID of the HAProxy worker behind a stats socket.
func workerOf(ctx context.Context, socket string) (string, error) {
	info, err := runtimeapi.Socket{Path: socket, Timeout: 5 * time.Second}.Do(ctx, "show info")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strings.TrimSpace(pid), nil
		}
	}
	return "", errors.New("no process ID in show info")
}

var frontRestart = scenario.Scenario[*Env]{
	Name:  "frontrestart",
	About: "a front proxy restarts behind checks of 1 s, and no request of HTTP/1 and HTTP/2 fails",
	Run: withFronts("restarted", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		for range 2 {
			// Keep each front proxy for 5 s after the start of its drain: the balancer stops using
			// it after two failed checks, which take up to 2 s.
			if _, err := f.start(ctx, "", "-drain-delay", "5s"); err != nil {
				return err
			}
		}
		addr, err := f.balanceFronts(ctx, "roundrobin", 2)
		if err != nil {
			return err
		}
		load := f.load(ctx, addr, nil)
		defer load.Stop()
		h2 := startHTTP2(ctx, f.Client, addr, 10, 20*time.Millisecond)
		defer h2.stop()
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		from := time.Now()
		front := f.fronts[0]
		if err := front.Signal(15); err != nil {
			return err
		}
		took, err := lab.Until(ctx, "the front proxy to end", patience, func(context.Context) error {
			if front.Running() {
				return errors.New("it runs")
			}
			return nil
		}, front.Process)
		if err != nil {
			return err
		}
		if err := front.Process.Start(); err != nil {
			return err
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		log := load.Stop()
		row := f.row(log, from, time.Time{}, "a front proxy drains, ends and starts again: HTTP/1 clients")
		row.Took = took
		report.Add(row)
		sent, failures := h2.stop()
		report.Add(scenario.Row{What: "the same for HTTP/2 clients", Requests: sent, Failed: len(failures), Err: errors.Join(failures...)})
		return nil
	}),
}

// http2Load sends POST requests over HTTP/2 without TLS.
type http2Load struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu       sync.Mutex
	sent     int
	failures []error
}

// startHTTP2 starts clients with one connection each. Each client sends a request, pauses for the
// time "every", and so on. net/http does not repeat these requests, because it cannot send their
// body twice.
func startHTTP2(ctx context.Context, from *lab.Machine, addr string, clients int, every time.Duration) *http2Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &http2Load{cancel: cancel}
	for range clients {
		transport := &http.Transport{DialContext: from.DialContext, Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		l.group.Go(func() {
			defer transport.CloseIdleConnections()
			for pause(ctx, every) == nil {
				l.add(post(context.WithoutCancel(ctx), client, addr))
			}
		})
	}
	return l
}

func post(ctx context.Context, client *http.Client, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", io.NopCloser(strings.NewReader("load")))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

func (l *http2Load) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent++; err != nil && len(l.failures) < 10 {
		l.failures = append(l.failures, err)
	}
}

// stop ends the load. It returns the number of requests and the first failures, at most 10.
func (l *http2Load) stop() (sent int, failures []error) {
	l.cancel()
	l.group.Wait()
	return l.sent, l.failures
}
