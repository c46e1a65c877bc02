//go:build linux

package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var leader = scenario.Scenario[*Env]{
	Name:  "leader",
	About: "one of two terminators with one Lease writes; when it is killed, stopped or suspended, the other writes",
	Run:   runLeader,
}

const (
	// takeOver is the longest allowed time from a crash of the leader until another terminator has
	// applied a change. It is the sum of three times:
	//
	//   - The Lease of the crashed leader expires after 15 s.
	//   - The other terminator tries twice to take the Lease, 2 s apart with jitter.
	//   - Then it applies the change.
	takeOver = 22 * time.Second
	// handOver is the longest allowed time from a clean stop of the leader until another terminator
	// has applied a change. It is shorter than takeOver: a leader that stops releases the Lease, so
	// the other terminator need not wait until the Lease expires.
	handOver = 6 * time.Second
	elected  = "elected" // the service that both terminators follow
)

func runLeader(ctx context.Context, env *Env, report *scenario.Report) (err error) {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	e, err := newElection(ctx, env, clusters[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.end()) }()
	a, b := e.candidates[0], e.candidates[1]

	if err := e.start(a); err != nil {
		return err
	}
	if err := e.leads(ctx, a, handOver); err != nil {
		return err
	}
	if err := e.start(b); err != nil {
		return err
	}
	if err := e.standsBy(ctx, b); err != nil {
		return err
	}
	took, err := e.change(ctx, a, handOver)
	report.Add(scenario.Row{What: "the terminator that leads writes a change", Took: took, Within: handOver, Err: err})

	took, err = e.replaced(ctx, a, b, takeOver, func() error {
		// Terminator a leads, so it has written all changes so far. Terminator b has seen each
		// change, but must not have written any of them.
		_, err := os.Stat(b.config)
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has written while another leads: %w", b.Name, err)
		}
		a.Kill()
		return nil
	})
	report.Add(scenario.Row{What: "the leader is killed with SIGKILL: the other writes the next change", Took: took, Within: takeOver, Err: err})

	if err := e.start(a); err != nil {
		return err
	}
	if err := e.standsBy(ctx, a); err != nil {
		return err
	}
	before, err := os.ReadFile(a.config)
	if err != nil {
		return err
	}
	if _, err := e.change(ctx, b, handOver); err != nil {
		return err
	}
	took, err = e.replaced(ctx, b, a, handOver, func() error {
		now, err := os.ReadFile(a.config)
		if err == nil && !bytes.Equal(before, now) {
			err = fmt.Errorf("%s has written while another leads", a.Name)
		}
		return errors.Join(err, b.Stop())
	})
	report.Add(scenario.Row{What: "the leader is stopped: it releases the Lease", Took: took, Within: handOver, Err: err})

	return e.freeze(ctx, a, b, report)
}

// freeze suspends the leading terminator a in the middle of its work. When terminator b leads,
// freeze resumes a.
func (e *election) freeze(ctx context.Context, a, b *candidate, report *scenario.Report) error {
	if err := e.start(b); err != nil {
		return err
	}
	if err := e.standsBy(ctx, b); err != nil {
		return err
	}
	took, err := e.replaced(ctx, a, b, takeOver, func() error { return a.Signal(syscall.SIGSTOP) })
	report.Add(scenario.Row{What: "the leader is suspended: the other writes the next change", Took: took, Within: takeOver, Err: err})
	if err != nil {
		return err
	}
	before, err := os.ReadFile(a.config)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := a.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if err := e.standsBy(ctx, a); err != nil {
		return err
	}
	took = time.Since(start)
	// Wait until terminator b has applied the change that it has missed. Afterwards make another
	// change, which b must apply too.
	if _, err = e.change(ctx, b, handOver); err == nil {
		var now []byte
		if now, err = os.ReadFile(a.config); err == nil && !bytes.Equal(before, now) {
			err = errors.New("it has written while another leads")
		}
	}
	report.Add(scenario.Row{What: "a resumed leader notices that it does not lead, and writes nothing", Took: took, Within: handOver, Err: err})
	return nil
}

// election is a set of terminators that share a Lease and follow the same service. Each terminator
// writes to its own directory, so the files show which terminator leads.
type election struct {
	env        *Env
	cluster    *lab.Cluster
	client     *lab.Machine
	routes     *routesFile
	kubeconfig string
	candidates [2]*candidate
	port       int // agent port in the annotation of the service
}

type candidate struct {
	*Terminator
	machine *lab.Machine
	config  string
}

func newElection(ctx context.Context, env *Env, c *lab.Cluster) (*election, error) {
	e := &election{env: env, cluster: c, port: 9900}
	accounts, err := InstallAccounts(ctx, c)
	if err != nil {
		return nil, err
	}
	e.kubeconfig = accounts.Terminator
	if err := c.EnsureNamespace(ctx, appNamespace); err != nil {
		return nil, err
	}
	if _, err := c.CreateService(ctx, lab.App{Namespace: appNamespace, Name: elected}); err != nil {
		return nil, err
	}
	if e.client, err = env.Lab.Machine("client"); err != nil {
		return nil, err
	}
	for i := range e.candidates {
		name := fmt.Sprintf("candidate-%d", i+1)
		machine, err := env.Lab.Machine(name)
		if err != nil {
			return nil, err
		}
		e.candidates[i] = &candidate{machine: machine, config: filepath.Join(env.Lab.Dir(name), "haproxy.cfg")}
	}
	e.routes, err = newRoutesFile(env.Lab.Dir("candidates", "routes.yaml"), []route{
		{host: "elected.example.com", backends: []backend{{c.Name, elected, "http"}}},
	})
	return e, err
}

// The method "end" stops the terminators, and returns an error if one of them lacked a permission.
func (e *election) end() error {
	var errs []error
	for _, c := range e.candidates {
		if c.Terminator == nil {
			continue
		}
		c.Kill()
		log, err := os.ReadFile(c.Log)
		if strings.Contains(string(log), "forbidden") {
			err = fmt.Errorf("%s lacks a permission: %w", c.Name, c.Tail())
		}
		errs = append(errs, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(append(errs, e.cluster.DeleteService(ctx, appNamespace, elected))...)
}

func (e *election) start(c *candidate) (err error) {
	if c.Terminator != nil {
		return c.Process.Start()
	}
	c.Terminator, err = StartTerminator(c.machine, c.machine.Name, filepath.Dir(c.config),
		"-routes", e.routes.path, "-cluster", e.cluster.Name+"=kubeconfig:"+e.kubeconfig, "-http", ":80",
		"-lease", terminatorNamespace+"/"+leaseName,
		// There is only one service, so each change alters all servers. The default limit would
		// refuse it.
		"-max-change", "100%")
	return err
}

// The method "leads" waits until a terminator reports that it leads, and until it has written its
// configuration.
func (e *election) leads(ctx context.Context, c *candidate, within time.Duration) error {
	return e.says(ctx, c, 1, within, func() error {
		_, err := os.Stat(c.config)
		return err
	})
}

// standsBy waits until a terminator follows the cluster and reports that another terminator leads.
func (e *election) standsBy(ctx context.Context, c *candidate) error {
	return e.says(ctx, c, 0, handOver, func() error {
		status, body, err := c.Admin(ctx, e.client, "/readyz")
		if err == nil && (status != http.StatusOK || !strings.Contains(body, "standing by; ")) {
			err = fmt.Errorf("/readyz: %d %q", status, body)
		}
		return err
	})
}

func (e *election) says(ctx context.Context, c *candidate, leads float64, within time.Duration, and func() error) error {
	what := fmt.Sprintf("headgate_terminator_leader of %s to be 1 (leads) or 0: %v", c.Name, leads)
	_, err := lab.Until(ctx, what, max(within, patience), func(ctx context.Context) error {
		status, body, err := c.Admin(ctx, e.client, "/metrics")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/metrics: %d", status)
		}
		if err != nil {
			return err
		}
		said, err := metric(body, "headgate_terminator_leader")
		if err == nil && said != leads {
			err = fmt.Errorf("it says %v", said)
		}
		return errors.Join(err, and())
	}, c.Process)
	return err
}

// The method "change" gives the service another agent port, and waits until a terminator has
// written this port to its haproxy.cfg. The argument "by" is the candidate whose terminator must
// write it. The result is the time from the change to the end of the wait.
func (e *election) change(ctx context.Context, by *candidate, within time.Duration) (time.Duration, error) {
	e.port++
	start := time.Now()
	if err := e.cluster.AnnotateService(ctx, appNamespace, elected, agentPortKey, fmt.Sprint(e.port)); err != nil {
		return 0, err
	}
	_, err := lab.Until(ctx, "the change of "+by.config, max(within, patience), func(context.Context) error {
		b, err := os.ReadFile(by.config)
		if want := fmt.Sprintf(" agent-port %d", e.port); err == nil && !bytes.Contains(b, []byte(want)) {
			err = fmt.Errorf("it does not contain %q", want)
		}
		return err
	}, by.Process)
	return time.Since(start), err
}

// replaced measures how long it takes until another terminator leads. First it calls "leave", which
// must stop the leader. Then it changes the service, and returns the time from the stop until the
// other terminator has written the new configuration.
func (e *election) replaced(ctx context.Context, leader, other *candidate, within time.Duration, leave func() error) (time.Duration, error) {
	if err := e.leads(ctx, leader, handOver); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := leave(); err != nil {
		return 0, err
	}
	// Wait longer than the row allows: if the terminator is late, the row then shows how late it
	// was.
	_, err := e.change(ctx, other, within+10*time.Second)
	took := time.Since(start)
	if err == nil {
		err = e.leads(ctx, other, handOver)
	}
	return took, err
}
