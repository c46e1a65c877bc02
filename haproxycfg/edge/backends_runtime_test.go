package edge_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// backendsOf returns the names of the backends of the running worker, in HAProxy's order.
func (f *runtimeEdge) backendsOf() []string {
	f.t.Helper()
	worker, err := (&deploy.Runtime{Master: f.master}).Worker(f.t.Context())
	require.NoError(f.t, err)
	actual, err := worker.Actual(f.t.Context())
	require.NoError(f.t, err)
	return actual.Backends
}

// addsBackends reports whether HAProxy can add and delete backends at run time.
func (f *runtimeEdge) addsBackends() bool { return f.edge.Global.Version.AtLeast(3, 4) }

// TestNewServiceAtRunTime adds a host with a new service, and removes both. From HAProxy 3.4 on, this
// needs no reload. The servers of the new service get requests, its agent changes their weights,
// and its health check takes a server out of service. Requests to other hosts do not fail.
func TestNewServiceAtRunTime(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 4)
	webAgent, apiAgent := ports[2], ports[3]
	f := newRuntimeEdge(t)
	f.edge.AgentInterval, f.edge.CheckInterval = 100*time.Millisecond, 100*time.Millisecond
	f.edge.Defaults.Check = time.Minute
	var sick atomic.Bool
	for i := 1; i <= 2; i++ {
		startAgent(t, node(i).Addr, f.nodeAgent, "up ready 100%")
		startAgent(t, node(i).Addr, webAgent, "up ready 100%")
		startAgent(t, node(i).Addr, apiAgent, "up ready 40%")
		for _, port := range ports[:2] {
			addr := netip.AddrPortFrom(node(i).Addr, uint16(port))
			serve(t, addr.String(), func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("X-Server", addr.String())
				if i == 1 && port == ports[1] && r.URL.Path == "/health" && sick.Load() {
					rw.WriteHeader(http.StatusServiceUnavailable)
				}
			})
		}
	}
	checked := func(host, service string) routes.Route {
		r := runtimeRoute(host, "/", to(service))
		r.Check = &routes.Check{Path: "/health", Interval: 100 * time.Millisecond, Rise: 1, Fall: 1}
		return r
	}
	upstreams := []edge.Upstream{onNodes("web", ports[0], webAgent, 1, 2), onNodes("api", ports[1], apiAgent, 1, 2)}
	web, api := checked("www.example.com", "web"), checked("api.example.com", "api")
	f.apply(upstreams, web)
	before, worker := f.backendsOf(), f.worker()
	stop := f.requests("www.example.com")
	e := f.apply(upstreams, web, api)
	failed := stop()
	if !f.addsBackends() {
		require.Equal(t, deploy.ReloadBackends, e.Reload, e.Detail)
		return
	}
	require.Empty(t, e.Reload, e.Detail)
	require.Empty(t, failed)
	require.Equal(t, worker, f.worker())
	f.agree()
	serversOf := func() map[string]bool {
		got, c := map[string]bool{}, newClient(t, f.frontend)
		for range 20 {
			r := c.do("GET", "api.example.com", "/", "")
			require.Equal(t, http.StatusOK, r.StatusCode)
			got[r.Header.Get("X-Server")] = true
		}
		return got
	}
	one := netip.AddrPortFrom(node(1).Addr, uint16(ports[1])).String()
	two := netip.AddrPortFrom(node(2).Addr, uint16(ports[1])).String()
	require.Equal(t, map[string]bool{one: true, two: true}, serversOf())
	name, _ := f.edge.BackendOf(&api)
	first := fmt.Sprintf("%s-%d", one, apiAgent)
	f.eventually(name, first, func(s runtimeapi.Stat) bool { return s.Weight == 40 && s.CheckStatus == "L7OK" })
	sick.Store(true)
	f.eventually(name, first, func(s runtimeapi.Stat) bool { return s.CheckStatus == "L7STS" && s.Status == "DOWN" })
	require.Equal(t, map[string]bool{two: true}, serversOf())

	stop = f.requests("www.example.com")
	e = f.apply(upstreams, web)
	require.Empty(t, stop())
	require.Empty(t, e.Reload, e.Detail)
	require.Equal(t, worker, f.worker())
	status, _ := newClient(t, f.frontend).get("api.example.com", "/")
	require.Equal(t, http.StatusNotFound, status)
	poll(t, "the backend is gone", func() bool { f.apply(upstreams, web); return len(f.backendsOf()) == len(before) })
	require.Equal(t, before, f.backendsOf())
	f.agree()
}

// TestRemovedServiceInUse removes a service with an open request. HAProxy 3.4 keeps the backend until
// the request ends, and the backend can return in the meantime.
func TestRemovedServiceInUse(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 2)
	f := newRuntimeEdge(t)
	if !f.addsBackends() {
		return // TestNewServiceAtRunTime requires a reload
	}
	release := make(chan struct{})
	for _, port := range ports {
		addr := netip.AddrPortFrom(node(1).Addr, uint16(port))
		serve(t, addr.String(), func(rw http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(rw).Flush()
			if r.URL.Path == "/slow" {
				<-release
			}
			_, _ = io.WriteString(rw, "end")
		})
	}
	upstreams := []edge.Upstream{runtimeService("web", ports[0]), runtimeService("api", ports[1])}
	web, api := runtimeRoute("www.example.com", "/", to("web")), runtimeRoute("api.example.com", "/", to("api"))
	f.apply(upstreams, web, api)
	worker := f.worker()
	name, _ := f.edge.BackendOf(&api)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.frontend+"/slow", http.NoBody)
	require.NoError(t, err)
	request.Host = "api.example.com"
	slow, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = slow.Body.Close() })
	apply := func(status int, declared ...routes.Route) {
		t.Helper()
		e := f.apply(upstreams, declared...)
		require.Empty(t, e.Reload, e.Detail)
		require.Equal(t, worker, f.worker())
		got, _ := newClient(t, f.frontend).get("api.example.com", "/")
		require.Equal(t, status, got)
	}
	for range 2 {
		apply(http.StatusNotFound, web)
		require.Contains(t, f.backendsOf(), name)
		apply(http.StatusOK, web, api)
	}
	apply(http.StatusNotFound, web)
	close(release)
	body, err := io.ReadAll(slow.Body)
	require.NoError(t, err)
	require.Equal(t, "end", string(body))
	poll(t, "the backend is gone", func() bool {
		apply(http.StatusNotFound, web)
		for _, backend := range f.backendsOf() {
			if backend == name {
				return false
			}
		}
		return true
	})
	f.agree()
}

// TestNewServiceFails lets HAProxy refuse to add a backend: first because HAProxy has kept no named
// section "defaults", and then because somebody has added a backend with the same name. In both
// cases, HAProxy reloads and has the new service.
func TestNewServiceFails(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 3)
	f := newRuntimeEdge(t)
	if !f.addsBackends() {
		return // TestNewServiceAtRunTime requires a reload
	}
	var upstreams []edge.Upstream
	var declared []routes.Route
	for i, name := range []string{"web", "api", "img"} {
		serveText(t, netip.AddrPortFrom(node(1).Addr, uint16(ports[i])))
		upstreams = append(upstreams, runtimeService(name, ports[i]))
		declared = append(declared, runtimeRoute(name+".example.com", "/", to(name)))
	}
	f.apply(upstreams, declared[0])

	file := filepath.Join(f.dir, haproxytest.ConfigFile)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	purging := strings.Replace(string(text), "\nglobal\n", "\nglobal\n    tune.defaults.purge\n", 1)
	require.NoError(t, os.WriteFile(file, []byte(purging), 0o644))
	require.NoError(t, f.deploy.Reload(t.Context()))
	require.NoError(t, os.WriteFile(file, text, 0o644))
	apply := func(n int) deploy.Effect {
		t.Helper()
		table, problems := routes.New(declared[:n]...)
		require.Empty(t, problems)
		config, faults := f.edge.Config(table, upstreams)
		require.Empty(t, faults)
		plan, err := f.deploy.Plan(config)
		require.NoError(t, err)
		require.False(t, plan.Reloads())
		worker := f.worker()
		_, err = plan.Apply(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, worker, f.worker())
		f.agree()
		for _, r := range declared[:n] {
			poll(t, r.Host, func() bool { // an old worker may accept a connection just after a reload
				return newClient(t, f.frontend).do("GET", r.Host, "/", "Connection: close\r\n").StatusCode == http.StatusOK
			})
		}
		return plan.Effect()
	}
	e := apply(2)
	require.Equal(t, deploy.ReloadSocket, e.Reload)
	require.Contains(t, e.Detail, "Cannot find default proxy 'settings-")

	name, _ := f.edge.BackendOf(&declared[2])
	section := string(text[strings.LastIndex(string(text), "\ndefaults settings-")+1:])
	section, _, _ = strings.Cut(strings.TrimPrefix(section, "defaults "), "\n")
	worker, err := (&deploy.Runtime{Master: f.master}).Worker(t.Context())
	require.NoError(t, err)
	answer, err := worker.Do(t.Context(), "add backend "+name+" from "+section)
	require.NoError(t, err)
	require.Contains(t, answer, "New backend registered.")
	e = apply(3)
	require.Equal(t, deploy.ReloadBackends, e.Reload)
	require.Contains(t, e.Detail, "the running HAProxy already has such a backend")
}

// TestNewServiceWithSettings adds a service with each kind of settings. Another service has the same
// settings, so HAProxy 3.4 needs no reload.
func TestNewServiceWithSettings(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*routes.Route){
		"time-outs":   func(r *routes.Route) { r.Timeouts = routes.Timeouts{Server: time.Hour, Tunnel: 24 * time.Hour} },
		"check":       func(r *routes.Route) { r.Check = &routes.Check{Path: "/health"} },
		"check-host":  func(r *routes.Route) { r.Check = &routes.Check{Path: "/health", Host: "a.example", Rise: 5, Fall: 5} },
		"h2c":         func(r *routes.Route) { r.Protocol, r.Check = routes.H2C, &routes.Check{Path: "/health"} },
		"grpc":        func(r *routes.Route) { r.Protocol = routes.GRPC },
		"check-grpc":  func(r *routes.Route) { r.Protocol, r.Check = routes.GRPC, &routes.Check{GRPC: true} },
		"least-conns": func(*routes.Route) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newRuntimeEdge(t)
			if name == "least-conns" {
				f.edge.Balance = "leastconn"
			}
			f.deploy.Check = nil // to save time
			ports := haproxytest.Ports(t, 2)
			upstreams := []edge.Upstream{onNodes("web", ports[0], 0, 1), onNodes("api", ports[1], 0, 1)}
			web, api := runtimeRoute("www.example.com", "/", to("web")), runtimeRoute("api.example.com", "/", to("api"))
			set(&web)
			set(&api)
			f.apply(upstreams, web)
			worker := f.worker()
			for _, declared := range [][]routes.Route{{web, api}, {web}} {
				e := f.apply(upstreams, declared...)
				if !f.addsBackends() {
					require.Equal(t, deploy.ReloadBackends, e.Reload, e.Detail)
					continue
				}
				require.Empty(t, e.Reload, e.Detail)
				require.Equal(t, worker, f.worker())
				f.agree()
			}
		})
	}
}

// TestInterruptedNewService ends the process before each step that adds one service and removes
// another one. The next process completes the change, also if it wants another configuration.
func TestInterruptedNewService(t *testing.T) {
	t.Parallel()
	ports := haproxytest.Ports(t, 3)
	f := newRuntimeEdge(t)
	if !f.addsBackends() {
		return // TestNewServiceAtRunTime requires a reload
	}
	f.deploy.Check = nil // to save time
	upstreams := []edge.Upstream{runtimeService("web", ports[0]), runtimeService("api", ports[1]), runtimeService("img", ports[2])}
	web, api, img := runtimeRoute("www.example.com", "/", to("web")), runtimeRoute("api.example.com", "/", to("api")), runtimeRoute("img.example.com", "/", to("img"))
	start := []routes.Route{web, api}
	f.apply(upstreams, start...)
	errEnd := errors.New("the process ends")
	steps, socket := 0, 0
	for _, next := range [][]routes.Route{{web, img}, {web}} { // what the next process wants
		for end := 1; ; end++ {
			f.apply(upstreams, start...)
			table, problems := routes.New(web, img)
			require.Empty(t, problems)
			config, faults := f.edge.Config(table, upstreams)
			require.Empty(t, faults)
			step := 0
			f.deploy.Guard = func() error {
				step++
				if step >= end {
					return errEnd
				}
				return nil
			}
			_, err := f.deploy.Apply(t.Context(), config)
			f.deploy.Guard = nil
			f.deploy.Runtime = &deploy.Runtime{Stats: f.stats, Master: f.master, ChangedOnly: true, Wait: time.Millisecond}
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errEnd)
			steps++
			if f.apply(upstreams, next...).Reload == "" {
				socket++
			}
			f.agree()
		}
	}
	require.GreaterOrEqual(t, steps, 10)
	t.Logf("%d steps; in %d cases, the next process needed no reload", steps, socket)
}
