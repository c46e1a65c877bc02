package statuspage_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/controller/statuspage"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/chromiumtest"
	"github.com/headgate/headgate/nodeselect"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const evil = `<script>alert(1)</script>"'>` + "\u202e"

func ref(i int) routes.Ref {
	return routes.Ref{Cluster: "eu-1", Namespace: "media", Service: fmt.Sprintf("s%d", i), Port: "http"}
}

// view returns a View with an entry for each part of the page, and with this many routes and
// problems.
func view(size int) statuspage.View {
	v := statuspage.View{
		Now: now, Known: true, Servers: 2000, HasJournal: true, JournalTotal: 57,
		Faults:   []string{"The last attempt has failed: " + evil},
		Notes:    []string{"Another process leads: edge-2"},
		Clusters: []statuspage.Cluster{{Name: "eu-1", Connectivity: kube.Connectivity{State: kube.Live, Since: now.Add(-72 * time.Hour)}, Nodes: 3000, Services: 1000}, {Name: "eu-2", Connectivity: kube.Connectivity{State: kube.LastKnown, Since: now.Add(-7 * time.Minute), Reason: "dial tcp 10.0.0.1:6443: i/o timeout"}, Nodes: 12}},
		Report: kube.Report{
			Applied:  &kube.Applied{ID: "0123abcd", Time: now.Add(-time.Hour)},
			Clusters: []kube.ClusterReport{{Name: "eu-1", Total: 3000, Eligible: 2990, Excluded: 10}},
			Certificates: []certs.Record{
				{File: "/etc/headgate/later.pem", Names: []string{"later.example.com"}, NotAfter: now.Add(1000 * time.Hour)},
				{File: "/etc/headgate/soon.pem", Names: []string{"soon.example.com", "*.soon.example.com"}, NotAfter: now.Add(50 * time.Hour), Kept: true},
			},
		},
		Refused: &kube.Changes{
			Time: now.Add(-20 * time.Minute), ID: "beef0123", Reason: "50.0% of the servers would be lost", MoreCauses: 4,
			Causes: []kube.Cause{{Cluster: "eu-1", Object: "Node " + evil, What: "removed"}},
			Losses: &deploy.Losses{Hosts: deploy.Loss{Before: 100, Lost: 1, Names: []string{"a.example.com"}}, Servers: deploy.Loss{Before: 2000, Lost: 1000, Names: []string{"eu-1.media.s1.http"}}},
		},
		MayForce: true,
		Hold:     &kube.Held{ID: "cafe", Applied: now.Add(-30 * time.Hour), Since: now.Add(-3 * time.Hour), By: "alice", Reason: evil}, Pending: "remove 2 routes",
		Shifts: []shift.Shift{{Order: shift.Order{Route: "s1.example.com/api", Cluster: "eu-2", Steps: []int{100, 2500}}, Status: shift.Paused, Step: 1, Since: now.Add(-6 * time.Minute), Reason: "5xx"}},
		Journal: []journal.Entry{
			{Time: now.Add(-time.Minute), Result: journal.Refused, ID: "beef0123", Took: 40, Changes: kube.Changes{Reason: "50.0% of the servers", Causes: []kube.Cause{{Cluster: "eu-1", Object: "Node a", What: "removed"}}}},
			{Time: now.Add(-time.Hour), Result: journal.Applied, ID: "0123abcd", Took: 90, Reload: journal.NoReload, Changes: kube.Changes{Servers: deploy.ServerCounts{Added: 3, Altered: 1}}},
			{Time: now.Add(-2 * time.Hour), Result: journal.Applied, ID: "0123", Took: 300, Reload: "backends", ReloadDetail: "backend x is new"},
		},
	}
	for i := range size {
		v.Routes = append(v.Routes, routes.Route{
			Host: fmt.Sprintf("s%05d.example.com", i), Path: "/api", Position: routes.Position{File: "routes.yaml", Line: 2 + 4*i},
			Backends: []routes.Backend{{Ref: ref(i % 1000), Weight: 100}, {Ref: ref(i%1000 + 1), Weight: 50}},
		})
		v.Problems = append(v.Problems, kube.Problem{File: "routes.yaml", Line: i, Field: "backends[0].port", Message: evil, Warning: i%2 == 0})
	}
	v.Problems = append(v.Problems, kube.Problem{File: "/etc/headgate/bad.pem", Object: kube.CertificateObject, Message: "the key does not belong to the certificate"})
	return v
}

// explanation returns the Explanation of a route whose first service has this many unused nodes.
func explanation(size int) explain.Explanation {
	s := explain.Service{Ref: ref(1), Weight: 100, Percent: 66.6, NodePort: 30080, AgentPort: 9801}
	for i := range 3 {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		s.Nodes = append(s.Nodes, explain.Node{
			Choice:  nodeselect.Choice{Node: fmt.Sprintf("used-%d", i), Addr: addr, Zone: "a", Chosen: true, Why: nodeselect.Ranked},
			Text:    "rank 1 of 3000 by the hash",
			Servers: []explain.Server{{Backend: "eu-1.media.s1.http", Name: addr.String() + ":30080-9801", Weight: 100, Now: &explain.Now{Status: "UP", Weight: 80}, TrackNow: &explain.Now{Status: "UP", LastAgent: evil}}},
		})
	}
	for i := range size {
		s.Unused = append(s.Unused, explain.Node{
			Choice: nodeselect.Choice{Node: fmt.Sprintf("n%04d", i), Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Zone: "b", Why: nodeselect.Outranked, Rank: i},
			Text:   fmt.Sprintf("rank %d of 3000 by the hash", i),
		})
	}
	s.Unused = append(s.Unused, explain.Node{Choice: nodeselect.Choice{Node: "zz-cordoned", Why: nodeselect.IsExcluded}, Text: "excluded: label"})
	return explain.Explanation{
		Host: "s00001.example.com", Path: "/api/x", InForce: true,
		Route:    &explain.Route{Name: "s00001.example.com/api", Host: "s00001.example.com", Path: "/api", File: "routes.yaml", Line: 6, Protocol: "http1"},
		Backends: []explain.Backend{{Name: "eu-1.media.s1.http", Role: "all requests", Servers: 3}}, Services: []explain.Service{s, {Ref: ref(2), Weight: 50, Missing: "there is no such service"}},
	}
}

func handler(routes, nodes int) *statuspage.Handler {
	v, e := view(routes), explanation(nodes)
	return &statuspage.Handler{
		Title:   "edge-1",
		View:    func(context.Context) statuspage.View { return v },
		Explain: func(context.Context, explain.Target) (explain.Explanation, error) { return e, nil },
		Command: func(method, path string) string {
			return "curl --unix-socket admin.sock -X " + method + " 'http://localhost" + path + "'"
		},
	}
}

func get(t testing.TB, h http.Handler, query string) (status int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+query, nil))
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	text = w.Body.String()
	require.NotContains(t, text, "<script")
	require.NotContains(t, text, "\u202e")
	require.NotContains(t, text, "ZgotmplZ")
	return w.Code, text
}

func TestPage(t *testing.T) {
	h := handler(3, 2)
	status, text := get(t, h, "")
	require.Equal(t, http.StatusOK, status)
	for _, part := range []string{
		`<title>edge-1</title>`, "As of 2026-05-01 12:00:00 UTC",
		"HAProxy runs configuration <code>0123abcd</code> with 2000 servers in all backends, applied 1h ago",
		`curl --unix-socket admin.sock -X POST &#39;http://localhost/force?id=beef0123&#39;`,
		`<td>servers</td><td class="num">50.0%</td><td class="num">1000</td><td class="num">2000</td>`,
		"The first 1 of 5 are shown.", // causes
		"are held since 2026-05-01 09:00:00 UTC, 3h ago, by alice: &lt;script&gt;",
		`curl --unix-socket admin.sock -X POST &#39;http://localhost/release&#39;`,
		`http://localhost/shift/undo?route=s1.example.com%2Fapi`, "<td>25%</td>", "<td>6m</td>",
		"does not answer; its last known state is in force</td><td>7m</td>", "answers</td><td>3d</td>",
		"Problems: 3</h2>", "<td>routes.yaml:1</td>", "backends[0].port",
		"Certificates: 2, of these 1 end soon; problems: 1", "2d 2h", "no longer in the file", "the key does not belong",
		"Last changes: 3 of 57", "without a reload", "reload, backends: backend x is new",
		`<a href="?host=s00001.example.com&amp;path=%2Fapi#asked">s00001.example.com/api</a>`,
		`<a href="?service=eu-1%2Fmedia%2Fs1%3Ahttp#asked">eu-1/media/s1:http</a>`,
	} {
		require.Contains(t, text, part)
	}
	require.Less(t, strings.Index(text, "<td>servers</td>"), strings.Index(text, "<td>hosts</td>"), "the largest loss comes first")
	require.NotContains(t, text, "later.example.com")
	require.NotContains(t, text, `http-equiv="refresh"`)
	_, text = get(t, h, "?refresh=on")
	require.Contains(t, text, `http-equiv="refresh"`)

	// HAProxy has rejected the change, so nobody can allow it.
	v := view(3)
	v.MayForce, v.Known = false, false
	h.View = func(context.Context) statuspage.View { return v }
	_, text = get(t, h, "")
	require.NotContains(t, text, "/force")
	require.Contains(t, text, "Change that could not be applied")
	require.Contains(t, text, "knows no routes in force")
	require.NotContains(t, text, `id="routes"`)

	// Without a command, the page shows the hint of the program.
	v.MayForce, v.Allow, h.Command = true, "to apply it: terminator -once -force", func(string, string) string { return "" }
	_, text = get(t, h, "")
	require.Contains(t, text, `<p class="command">to apply it: terminator -once -force</p>`)
	require.Contains(t, text, `<p class="command">POST /release</p>`)
}

func TestExplanation(t *testing.T) {
	h := handler(3, 2)
	status, text := get(t, h, "?host=S00001.example.com&path=/api/x")
	require.Equal(t, http.StatusOK, status)
	for _, part := range []string{
		"declared at routes.yaml:6, protocol http1. It is in force.",
		"Service eu-1/media/s1:http: weight 100, 66.6% of the requests, node port 30080, agent port 9801",
		"<td>used-0</td><td>100 </td><td><code>eu-1.media.s1.http/10.0.0.0:30080-9801</code> </td><td>UP, weight 80; check UP, agent &lt;script&gt;",
		"Unused nodes: 3</h3>", "excluded: label", "No servers: there is no such service",
	} {
		require.Contains(t, text, part)
	}
	require.Less(t, strings.Index(text, "zz-cordoned"), strings.Index(text, "n0000"), "nodes with only a worse rank come last")

	status, text = get(t, h, "?service=eu-1/media/s1:http")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "used-0")
	require.NotContains(t, text, "there is no such service")

	status, text = get(t, h, "?service=eu-1/media/s1:http&node=n0001")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "Nodes in use: 0 found")
	require.Contains(t, text, "Unused nodes: 1 found")
	require.Contains(t, text, `<input type="hidden" name="service" value="eu-1/media/s1:http">`)

	for query, want := range map[string]int{
		"?host=" + strings.Repeat("a", 5000): http.StatusBadRequest, "?host=10.0.0.1": http.StatusBadRequest, "?host=a.test&path=x": http.StatusBadRequest,
		"?service=eu-1/media/other:http": http.StatusNotFound, "?service=%3Cscript%3E": http.StatusNotFound, "?q=%ff%3Cscript%3E": http.StatusOK,
	} {
		status, text = get(t, h, query)
		require.Equal(t, want, status, query)
		require.Less(t, len(text), 40_000)
	}
	h.Explain = func(context.Context, explain.Target) (explain.Explanation, error) {
		return explain.Explanation{NoRoute: "HAProxy answers 404"}, nil
	}
	_, text = get(t, h, "?host=other.test")
	require.Contains(t, text, "HAProxy answers 404")
	h.Explain = func(context.Context, explain.Target) (explain.Explanation, error) {
		return explain.Explanation{}, errors.New("another process leads")
	}
	status, text = get(t, h, "?host=other.test")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "another process leads")

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

// The page of a large terminator is not much larger than the page of a small one, and says what it
// leaves out.
func TestBounds(t *testing.T) {
	h := handler(10_000, 3000)
	_, text := get(t, h, "?service=eu-1/media/s1:http")
	require.Less(t, len(text), 150_000)
	require.Contains(t, text, "The first 100 of 10000 are shown.")
	require.Contains(t, text, "The first 100 of 3001 are shown.")
	require.Contains(t, text, "Problems: 10000")

	for query, found := range map[string]int{"s0123": 10, "example.com/api": 10_000, "eu-1/media/s999:": 20, "nothing": 0} {
		_, text = get(t, h, "?q="+query)
		require.Contains(t, text, fmt.Sprintf("Routes: %d found of 10000", found), query)
	}
}

func TestPageInABrowser(t *testing.T) {
	srv := httptest.NewServer(handler(150, 120))
	defer srv.Close()
	b := chromiumtest.Start(t)
	b.Look(t, "terminator", srv.URL+"/?service=eu-1/media/s1:http")
	require.Contains(t, b.Text(t), "To release them:")
}

func BenchmarkPage(b *testing.B) {
	h := handler(10_000, 3000)
	for name, query := range map[string]string{"all": "", "search": "?q=s09999", "service": "?service=eu-1/media/s500:http"} {
		b.Run("routes=10000/nodes=3000/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/"+query, nil))
				b.SetBytes(int64(w.Body.Len()))
			}
		})
	}
}
