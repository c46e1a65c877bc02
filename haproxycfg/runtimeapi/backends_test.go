package runtimeapi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

func backendConfig(dir string) string {
	const common = "    mode http\n    timeout client 1m\n    timeout server 1m\n    timeout connect 5s\n"
	return fmt.Sprintf(`
global
    stats socket %[1]s/stats.sock level admin
defaults
%[2]s
frontend f
    bind unix@%[1]s/http.sock
    use_backend %%[path,field(2,/)]
    default_backend named
backend named
backend table
    stick-table type ipv6 size 16
defaults settings
%[2]s    http-request wait-for-body time 1m if METH_POST
`, dir, common)
}

func kinds(p runtimeapi.Plan) (all []runtimeapi.Kind) {
	for _, c := range p.Commands {
		all = append(all, c.Kind)
	}
	return all
}

// TestPlanAddsAndDeletesBackends adds a backend, sends requests to it, and deletes it while one of
// them is still open.
func TestPlanAddsAndDeletesBackends(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	addr := netip.MustParseAddrPort(server.Listener.Addr().String())
	before := []runtimeapi.Backend{{Name: "named"}}
	added := []runtimeapi.Backend{{Name: "named"}, {Name: "n", Add: "add backend n from settings", Servers: []runtimeapi.Server{
		{Name: "s", Addr: addr, Weight: 1, Check: true, Add: fmt.Sprintf("add server n/s %s weight 1 check", addr)},
	}}}
	gone := []runtimeapi.Backend{{Name: "named"}, {Name: "n", Delete: true}}
	eachVersion(t, backendConfig, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		plan := func(before, wanted []runtimeapi.Backend) runtimeapi.Plan {
			actual, err := socket.Actual(t.Context())
			require.NoError(t, err)
			p := actual.Plan(before, wanted)
			p.Wait = -1
			return p
		}
		actual, err := socket.Actual(t.Context())
		require.NoError(t, err)
		p := plan(before, added)
		if !actual.Version.AtLeast(3, 4) {
			require.Equal(t, []runtimeapi.Reason{{Backend: "n", Text: "HAProxy " + actual.Version.String() + " cannot add or delete backends at run time"}}, p.Reload)
			return
		}
		require.Empty(t, p.Reload)
		require.Equal(t, []runtimeapi.Kind{
			runtimeapi.AddBackend, runtimeapi.AddServer, runtimeapi.EnableHealth, runtimeapi.SetReady, runtimeapi.PublishBackend,
		}, kinds(p))
		require.Equal(t, len(p.Commands), p.First, "before a map leads to the backend")
		result, err := socket.Apply(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, runtimeapi.Result{Done: 5}, result)
		require.True(t, plan(added, added).Empty())
		require.Equal(t, []runtimeapi.Reason{{Backend: "n", Text: "the running HAProxy already has such a backend"}}, plan(before, added).Reload)

		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "http.sock"))
		}
		client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
		status := func() int {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/n/", http.NoBody)
			require.NoError(t, err)
			r, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, r.Body.Close())
			return r.StatusCode
		}
		require.Equal(t, http.StatusOK, status())
		backend := func() (s runtimeapi.Stat) {
			rows, err := socket.Stats(t.Context())
			require.NoError(t, err)
			for _, row := range rows {
				if row.Proxy == "n" && row.Server == "BACKEND" {
					return row
				}
			}
			return s
		}
		// HAProxy ends a stream a moment after the client has the response.
		require.Eventually(t, func() bool { return backend().Sessions == 0 }, time.Minute, 5*time.Millisecond)

		conn, err := dial(t.Context(), "", "")
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, "POST /n/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return backend().Sessions == 1 }, time.Minute, 5*time.Millisecond)
		p = plan(added, gone)
		require.Empty(t, p.Reload)
		require.Equal(t, []runtimeapi.Kind{runtimeapi.SetMaint, runtimeapi.DeleteServer, runtimeapi.UnpublishBackend, runtimeapi.DeleteBackend}, kinds(p))
		require.Zero(t, p.First, "after no map leads to the backend")
		result, err = socket.Apply(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, runtimeapi.Result{Done: 3, Backends: []string{"n"}}, result)
		require.NotContains(t, backend().Status, "UNPUB", "published again")
		require.NoError(t, conn.Close())
		require.Eventually(t, func() bool {
			result, err := socket.Apply(t.Context(), plan(added, gone))
			require.NoError(t, err)
			return len(result.Backends) == 0
		}, time.Minute, 5*time.Millisecond)
		require.Empty(t, backend().Proxy)
		require.True(t, plan(added, gone).Empty(), "the backend is gone")
		require.Equal(t, http.StatusServiceUnavailable, status())
	})
}

// TestBackendsThatHAProxyRefuses lets HAProxy 3.4 refuse to add and to delete backends.
func TestBackendsThatHAProxyRefuses(t *testing.T) {
	eachVersion(t, backendConfig, func(t *testing.T, dir string) {
		socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
		actual, err := socket.Actual(t.Context())
		require.NoError(t, err)
		if !actual.Version.AtLeast(3, 4) {
			return // TestPlanAddsAndDeletesBackends requires a reload
		}
		for _, tt := range []struct {
			backend runtimeapi.Backend
			want    string
		}{
			{runtimeapi.Backend{Name: "n", Add: "add backend n from missing", Servers: []runtimeapi.Server{
				{Name: "s", Add: "add server n/s 127.0.0.1:1"},
			}}, `n: "add backend n from missing": HAProxy answers "Cannot find default proxy 'missing'."`},
			{runtimeapi.Backend{Name: "f", Add: "add backend f from settings"}, `name is already used by other proxy 'frontend f'`},
			{runtimeapi.Backend{Name: "named", Delete: true}, `"This proxy cannot be removed at runtime due to other configuration elements pointing to it."`},
			{runtimeapi.Backend{Name: "table", Delete: true}, `"Cannot remove a backend with stick-table."`},
		} {
			p := actual.Plan([]runtimeapi.Backend{}, []runtimeapi.Backend{tt.backend})
			require.Empty(t, p.Reload)
			_, err := socket.Apply(t.Context(), p)
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, 1, strings.Count(err.Error(), "runtimeapi: "), "no further command about the backend: %v", err)
		}
		answer, err := socket.Do(t.Context(), "show stat")
		require.NoError(t, err)
		require.NotContains(t, answer, "UNPUB", "a backend that HAProxy cannot delete is published again")
	})
}

// TestPlanOfBackends requires a reload for backends that no HAProxy can add or delete, and for
// commands that HAProxy would misread.
func TestPlanOfBackends(t *testing.T) {
	actual := runtimeapi.Actual{Version: runtimeapi.Version{Major: 3, Minor: 4}, Backends: []string{"old"}}
	for _, tt := range []struct {
		backend runtimeapi.Backend
		want    string
	}{
		{runtimeapi.Backend{Name: "n"}, "the running HAProxy has no such backend"},
		{runtimeapi.Backend{Name: "n", Add: "add backend m from d"}, `does not begin with "add backend n from "`},
		{runtimeapi.Backend{Name: "n", Add: "add backend n from d; shutdown"}, "has other characters"},
		{runtimeapi.Backend{Name: "n;m", Add: "add backend n;m from d"}, "has other characters"},
		{runtimeapi.Backend{Name: "n", Add: "add backend n from d", Fixed: "fixed"}, "fixed"},
		{runtimeapi.Backend{Name: "n", Add: "add backend n from d", Tracked: true}, "other servers track"},
		{runtimeapi.Backend{Name: "old", Delete: true, Tracked: true}, "other servers track"},
	} {
		plan := actual.Plan(nil, []runtimeapi.Backend{tt.backend})
		require.Len(t, plan.Reload, 1, "%+v", tt)
		require.Contains(t, plan.Reload[0].Text, tt.want)
		require.Empty(t, plan.Commands)
	}
	require.True(t, actual.Plan(nil, []runtimeapi.Backend{{Name: "n", Delete: true}, {Name: "old", Add: "add backend old from d"}}).Empty())
}
