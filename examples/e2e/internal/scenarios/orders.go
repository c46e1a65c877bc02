//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

var orders = scenario.Scenario[*Env]{
	Name:  "orders",
	About: "two terminators follow one ConfigMap: a rollback or a shift on one of them takes effect on both, and an API server that is away ends no hold",
	Run:   runOrders,
}

const (
	// followed is the longest allowed time for an order of an operator to spread. The time begins
	// when the operator gives the order to one terminator, and ends when another terminator has
	// applied the order.
	followed  = 5 * time.Second
	firstHost = "first.fleet.example.com"
	newHost   = "new.fleet.example.com"
	fleetApp  = "fleet" // a service of both clusters
)

// member is one of the terminators. Each has its own machine and directory, and no HAProxy.
type member struct {
	*Terminator
	machine *lab.Machine
	socket  string // of its admin listener
}

// members are the terminators that share a ConfigMap in the first cluster.
type members struct {
	env      *Env
	clusters []*lab.Cluster
	client   *lab.Machine
	routes   *routesFile
	all      [2]*member
}

func runOrders(ctx context.Context, env *Env, report *scenario.Report) (err error) {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	f, err := startFleet(ctx, env, clusters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	a, b := f.all[0], f.all[1]
	if err := f.routes.set(f.declared(firstHost, newHost)); err != nil {
		return err
	}
	for _, m := range f.all {
		if _, err := f.serves(ctx, m, newHost, true); err != nil {
			return err
		}
	}

	// The first order creates the ConfigMap.
	row := func(what string, from time.Time, err error) {
		report.Add(scenario.Row{What: what, Took: time.Since(from), Within: followed, Err: err})
	}
	start := time.Now()
	err = f.order(ctx, a, "rollback", "-reason", "e2e", "-by", "ada")
	for _, m := range f.all {
		if err == nil {
			_, err = f.serves(ctx, m, newHost, false)
		}
	}
	row("a rollback on one terminator takes effect on both", start, err)
	report.Add(scenario.Row{What: "the other terminator says who holds the routes, and why", Err: f.page(ctx, b, "/readyz", "by ada (e2e): the routes of ")})

	start = time.Now()
	if err = f.order(ctx, b, "shift", firstHost, "-to", "eu-2:25", "-steps", "25", "-hold", "0s", "-for", "1h", "-detach"); err == nil {
		err = f.page(ctx, a, "/shifts", `"cluster": "eu-2"`)
	}
	row("a shift on one terminator takes effect on the other", start, err)

	if err := f.outage(ctx, report); err != nil {
		return err
	}

	start = time.Now()
	err = f.order(ctx, b, "release")
	for _, m := range f.all {
		if err == nil {
			_, err = f.serves(ctx, m, newHost, true)
		}
	}
	row("a release on one terminator takes effect on both", start, err)
	return nil
}

// The method "outage" stops the API server that holds the ConfigMap, and restarts a terminator
// meanwhile.
func (f *members) outage(ctx context.Context, report *scenario.Report) error {
	a, b := f.all[0], f.all[1]
	c := f.clusters[0]
	c.API.Kill()
	start := time.Now()
	err := f.page(ctx, a, "/readyz", "the orders of the fleet: not read since ")
	a.Kill()
	if startErr := a.Start(); startErr != nil {
		return startErr
	}
	if err == nil {
		err = f.page(ctx, a, "/readyz", "by ada (e2e): the routes of ")
	}
	if err == nil {
		_, err = f.serves(ctx, a, newHost, false)
	}
	if err == nil {
		if refused := f.order(ctx, b, "release"); refused == nil || !strings.Contains(refused.Error(), "the orders of the fleet cannot be changed") {
			err = fmt.Errorf("a release without the API server: %w", refused)
		}
	}
	report.Add(scenario.Row{What: "without the API server, a restarted terminator keeps the routes held", Took: time.Since(start), Err: err})
	start = time.Now()
	if err := c.API.Start(); err != nil {
		return err
	}
	if _, err := c.WaitReady(ctx); err != nil {
		return err
	}
	for _, m := range f.all {
		if err := f.wantMetric(ctx, m, "headgate_terminator_fleet_up", 1); err != nil {
			return err
		}
	}
	report.Logf("the terminators read the orders again %s after the start of the API server", time.Since(start).Round(time.Millisecond))
	return nil
}

func startFleet(ctx context.Context, env *Env, clusters []*lab.Cluster) (*members, error) {
	f := &members{env: env, clusters: clusters}
	var flags []string
	for _, c := range clusters {
		accounts, err := InstallAccounts(ctx, c)
		if err != nil {
			return nil, err
		}
		if err := c.EnsureNamespace(ctx, appNamespace); err != nil {
			return nil, err
		}
		if _, err := c.CreateService(ctx, lab.App{Namespace: appNamespace, Name: fleetApp}); err != nil {
			return nil, err
		}
		flags = append(flags, "-cluster", c.Name+"=kubeconfig:"+accounts.Terminator)
	}
	var err error
	if f.client, err = env.Lab.Machine("client"); err != nil {
		return nil, err
	}
	if f.routes, err = newRoutesFile(env.Lab.Dir("fleet", "routes.yaml"), f.declared(firstHost)); err != nil {
		return nil, err
	}
	for i := range f.all {
		name := fmt.Sprintf("fleet-%d", i+1)
		m := &member{socket: filepath.Join(env.Lab.Dir(name), "admin.sock")}
		f.all[i] = m
		if err := os.MkdirAll(filepath.Dir(m.socket), 0o755); err != nil {
			return nil, err
		}
		if m.machine, err = env.Lab.Machine(name); err != nil {
			return nil, err
		}
		m.Terminator, err = StartTerminator(m.machine, name, filepath.Join(env.Lab.Dir(name), "out"), append(flags,
			"-routes", f.routes.path, "-http", ":80", "-admin", "unix:"+m.socket, "-fleet", terminatorNamespace+"/"+ordersName,
			"-max-change", "100%")...)
		if err != nil {
			return nil, err
		}
		if _, err := f.serves(ctx, m, firstHost, true); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// declared returns a route for each host. The first route can move between the clusters.
func (f *members) declared(hosts ...string) []route {
	var routes []route
	for i, host := range hosts {
		routes = append(routes, route{host: host, shift: i == 0, backends: []backend{{"eu-1", fleetApp, "http"}, {"eu-2", fleetApp, "http"}}})
	}
	return routes
}

// The method "end" stops the terminators, and removes the services and the ConfigMap. It returns an
// error if a terminator lacked a permission.
func (f *members) end() error {
	var errs []error
	for _, m := range f.all {
		if m == nil || m.Terminator == nil {
			continue
		}
		m.Kill()
		log, err := os.ReadFile(m.Log)
		if strings.Contains(string(log), "forbidden") {
			err = fmt.Errorf("%s lacks a permission: %w", m.Name, m.Tail())
		}
		errs = append(errs, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, c := range f.clusters {
		errs = append(errs, ensureRunning(c.API))
		if _, err := c.WaitReady(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, c.DeleteService(ctx, appNamespace, fleetApp))
	}
	err := f.clusters[0].Client.CoreV1().ConfigMaps(terminatorNamespace).Delete(ctx, ordersName, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// The method "order" gives an order: it runs a subcommand of the terminator on the machine of a
// member.
func (f *members) order(ctx context.Context, m *member, args ...string) error {
	argv := append([]string{filepath.Join(f.clusters[0].Bin(), "terminator")}, args...)
	_, err := m.machine.Run(ctx, append(argv, "-admin", "unix:"+m.socket)...)
	return err
}

// The method "serves" waits until a terminator has a route for the host, and this route is in
// force. If want is false, the method waits until the terminator has no such route.
func (f *members) serves(ctx context.Context, m *member, host string, want bool) (time.Duration, error) {
	return lab.Until(ctx, fmt.Sprintf("%s with a route for %s: %t", m.Name, host, want), patience, func(ctx context.Context) error {
		status, body, err := m.Admin(ctx, f.client, "/explain?host="+host)
		if err == nil && (status != http.StatusOK || strings.Contains(body, "route: none") == want || !strings.Contains(body, "in force: yes") && want) {
			err = fmt.Errorf("/explain: %d %.300s", status, body)
		}
		return err
	}, m.Process)
}

// The method "page" waits until a page of a terminator has status 200 and contains a text.
func (f *members) page(ctx context.Context, m *member, path, text string) error {
	_, err := lab.Until(ctx, fmt.Sprintf("%s of %s with %q", path, m.Name, text), patience, func(ctx context.Context) error {
		status, body, err := m.Admin(ctx, f.client, path)
		if err == nil && (status != http.StatusOK || !strings.Contains(body, text)) {
			err = fmt.Errorf("%d %.300s", status, body)
		}
		return err
	}, m.Process)
	return err
}

func (f *members) wantMetric(ctx context.Context, m *member, name string, want float64) error {
	_, err := lab.Until(ctx, name+" of "+m.Name, patience, func(ctx context.Context) error {
		_, body, err := m.Admin(ctx, f.client, "/metrics")
		if err != nil {
			return err
		}
		got, err := metric(body, name)
		if err == nil && got != want {
			err = fmt.Errorf("it is %v", got)
		}
		return err
	}, m.Process)
	return err
}
