package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

const nodeD = "- {apiVersion: v1, kind: Node, metadata: {name: d}, status: {addresses: [{type: InternalIP, address: 10.0.0.4}]}}\n"

func TestWatchFollowsClustersAndRoutes(t *testing.T) {
	w := newWorld(t).watch("-dns-origin", "example.com", "-dns-address", "192.0.2.1", "-max-change", "34%")
	w.waitConfig("10.0.0.1:30080")
	w.waitReady()
	w.waitMetric(`headgate_terminator_applies_total{outcome="written"} 1`)
	w.waitMetric(`headgate_terminator_cluster_up{cluster="eu-1"} 1`)
	w.waitMetric(`headgate_terminator_servers 6`)
	w.waitMetric(`headgate_terminator_subsets 2`)
	w.waitMetric(`headgate_terminator_leader 1`)
	report := w.report()
	require.Equal(t, []kube.Cause{{What: "started"}}, report.Changes.Causes)
	require.Equal(t, kube.Live, report.Clusters[0].Connectivity.State)

	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	w.waitConfig("10.0.0.4:30080", "10.0.0.4:30081")
	report = w.waitReport("changes", func(r kube.Report) bool {
		return r.Changes.Causes[0] == kube.Cause{Cluster: "eu-1", Object: "Node d", What: "added"}
	})
	require.Len(t, report.Changes.Causes, 1)
	require.Len(t, report.Changes.Services, 2)
	require.Equal(t, []string{"d"}, report.Changes.Services[0].Enter)
	require.Equal(t, 3, report.Changes.Servers.Added)
	w.waitLog(`msg=applied added=3 removed=0 changed=0 servers=9 services=2 causes="eu-1: Node d: added"`)

	w.replace("routes.yaml", testRoutes+"- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n")
	w.waitReport("routes", func(r kube.Report) bool {
		return len(r.Changes.Causes) == 1 && r.Changes.Causes[0] == kube.Cause{Object: "Route new.example.com/", What: "added"}
	})
	require.Contains(t, w.read("out/dns.zone"), "new.example.com.")

	// A file that cannot be parsed, and then a missing file, keep the earlier routes.
	before := w.config()
	w.replace("routes.yaml", "routes: [")
	w.waitReport("a problem", func(r kube.Report) bool {
		return len(r.Problems) == 1 && strings.Contains(r.Problems[0].Error(), "routes.yaml:1: ") && strings.Contains(r.Problems[0].Message, "is kept")
	})
	w.waitMetric("headgate_terminator_problems 1")
	require.NoError(t, os.Remove(w.path("routes.yaml")))
	w.waitReport("another problem", func(r kube.Report) bool {
		return len(r.Problems) == 1 && strings.Contains(r.Problems[0].Message, "no such file")
	})
	require.Equal(t, before, w.config())
	w.replace("routes.yaml", testRoutes)
	w.waitReport("none", func(r kube.Report) bool { return len(r.Problems) == 0 && r.Changes.Causes[0].What == "removed" })
	w.waitLog("problems are solved")

	require.Equal(t, cli.ExitOK, w.stop())
	require.Contains(t, w.log.String(), "stopped")
}

func TestWatchRefusesAndIsForced(t *testing.T) {
	w := newWorld(t).watch()
	w.waitConfig("10.0.0.1:30080")
	w.waitReady()
	_, body := w.do("POST", "/force")
	require.Equal(t, "unchanged\n", body, "no change is refused")
	before := w.config()
	w.substitute("eu-1/objects.yaml", "30080", "30090") // 2 of 6 servers
	report := w.waitReport("refused", func(r kube.Report) bool { return r.Refused != nil })
	require.Equal(t, before, w.config())
	require.Contains(t, report.Refused.Reason, "33.3% of the servers would go or change")
	require.Equal(t, []kube.Cause{{Cluster: "eu-1", Object: "Service media/tracks", What: "spec.ports"}}, report.Refused.Causes)
	require.Equal(t, 2, report.Refused.Servers.Removed)
	require.EqualValues(t, 30080, report.Services[0].NodePort, "the port in force")
	require.Equal(t, []kube.Cause{{What: "started"}}, report.Changes.Causes)
	w.waitMetric("headgate_terminator_refused 1")
	w.waitMetric(`headgate_terminator_applies_total{outcome="refused"} 1`)
	w.waitDetail(http.StatusOK, "refused: 33.3%") // the old configuration is in force

	// Without the ID, a request that comes late would permit another change than its sender has
	// seen.
	code, body := w.do("POST", "/force")
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, "POST /force needs its ID: 33.3%")
	require.Contains(t, body, "/force?id="+report.Refused.ID)
	code, body = w.do("POST", "/force?id=")
	require.Equal(t, http.StatusBadRequest, code, body)
	require.Equal(t, before, w.config())
	code, body = w.do("POST", "/force?id=0123456789abcdef")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, "refused: 33.3%")
	require.Equal(t, 1, strings.Count(w.log.String(), "the change is not in force"), "it is logged once")
	code, body = w.do("GET", "/force")
	require.Equal(t, http.StatusMethodNotAllowed, code, body)
	require.Equal(t, http.StatusUnauthorized, w.postWithoutToken("/force?id="+report.Refused.ID))
	require.Equal(t, before, w.config())
	code, body = w.do("POST", "/force?id="+report.Refused.ID)
	require.Equal(t, http.StatusOK, code, body)
	require.Equal(t, "written\n", body)
	require.Contains(t, w.config(), "10.0.0.1:30090")
	require.Nil(t, w.report().Refused)
	w.waitMetric("headgate_terminator_refused 0")

	// A refused change disappears if a later change undoes it.
	w.substitute("eu-1/objects.yaml", "30090", "30099")
	w.waitReport("refused", func(r kube.Report) bool { return r.Refused != nil })
	code, body = w.do("POST", "/force?id="+report.Refused.ID)
	require.Equal(t, http.StatusConflict, code, "the ID permits only the change that has it: %s", body)
	require.Contains(t, w.config(), "10.0.0.1:30090")
	w.substitute("eu-1/objects.yaml", "30099", "30090")
	w.waitReport("gone", func(r kube.Report) bool { return r.Refused == nil })
	w.waitLog("the change that was not applied has disappeared")

	// -force applies the first change after a restart, but no later one.
	require.Equal(t, cli.ExitOK, w.stop())
	w.substitute("eu-1/objects.yaml", "30090", "30100")
	w = w.watch("-force")
	w.waitConfig("10.0.0.1:30100")
	w.substitute("eu-1/objects.yaml", "30100", "30101")
	w.waitReport("refused", func(r kube.Report) bool { return r.Refused != nil })

	// -max-change does not limit how many servers are added.
	w.replace("eu-1/objects.yaml", strings.ReplaceAll(w.read("eu-1/objects.yaml"), "30101", "30100")+nodeD+strings.NewReplacer("name: d", "name: e", "0.4", "0.5").Replace(nodeD))
	w.waitConfig("10.0.0.4:30100", "10.0.0.5:30100")
}

// TestWatchWithoutACluster checks two cases. If a cluster does not answer at the start, its servers
// of the last run stay. If a cluster has never answered, the terminator still serves the other
// clusters.
func TestWatchWithoutACluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, os.Mkdir(w.path("eu-2"), 0o755))
	w.write("eu-2/objects.yaml", strings.ReplaceAll(testManifests, "10.0.0.", "10.0.2."))
	w.write("routes.yaml", strings.ReplaceAll(testRoutes, "service: tracks, port: http}", "service: tracks, port: http}\n  - {cluster: eu-2, namespace: media, service: tracks, port: http}\n  - {cluster: eu-3, namespace: media, service: tracks, port: http}"))
	args := []string{"-cluster", "eu-2=dir:" + w.path("eu-2"), "-cluster", "eu-3=dir:" + w.path("eu-3"), "-start-timeout", "1s"}
	first := w.watch(args...)
	first.waitConfig("10.0.0.1:30080", "10.0.2.1:30080")
	first.waitReady()
	report := first.waitReport("two clusters and a problem", func(r kube.Report) bool {
		return slices.Equal(states(r), []kube.State{kube.Live, kube.Live, kube.Never}) && len(r.Problems) == 1
	})
	require.Contains(t, report.Problems[0].Error(), "routes.yaml:2: eu-3: has not answered yet, since ")
	first.waitDetail(http.StatusOK, "cluster eu-3: not seen yet since ")
	first.waitMetric(`headgate_terminator_cluster_up{cluster="eu-3"} 0`)
	first.waitMetric(`headgate_terminator_cluster_last_contact_timestamp_seconds{cluster="eu-3"} 0`)
	before := first.config()

	// The cluster stops answering while the terminator runs.
	require.NoError(t, os.Rename(w.path("eu-2"), w.path("away")))
	report = first.waitReport("lost", func(r kube.Report) bool { return states(r)[1] == kube.LastKnown })
	require.Contains(t, report.Clusters[1].Connectivity.Reason, "no such file")
	since := report.Clusters[1].Connectivity.Since
	first.waitMetric(`headgate_terminator_cluster_up{cluster="eu-2"} 0`)
	require.Equal(t, before, first.config())
	require.Equal(t, cli.ExitOK, first.stop())

	// The cluster does not answer at the start. The terminator still applies changes of the other
	// cluster.
	second := w.watch(args...)
	second.waitReady()
	require.Equal(t, before, second.config())
	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	second.waitConfig("10.0.0.4:30080", "10.0.2.1:30080")
	report = second.waitReport("the other cluster", func(r kube.Report) bool {
		return slices.Equal(states(r), []kube.State{kube.Live, kube.LastKnown, kube.Never})
	})
	require.WithinDuration(t, since, report.Clusters[1].Connectivity.Since, 0, "the report keeps the time at which it stopped answering")
	require.Equal(t, cli.ExitOK, second.stop())

	// The cluster answers again.
	third := w.watch(args...)
	third.waitReady()
	require.NoError(t, os.Rename(w.path("away"), w.path("eu-2")))
	w.replace("eu-2/objects.yaml", strings.ReplaceAll(testManifests+nodeD, "10.0.0.", "10.0.2."))
	third.waitConfig("10.0.2.4:30080")
	third.waitReport("live", func(r kube.Report) bool { return states(r)[1] == kube.Live })
	third.waitLog("eu-2: answers again")
}

func TestWatchRetriesWhatHAProxyRejects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	haproxytest.Script(t, w.path("haproxy"), "#!/bin/sh\nif [ -e "+w.path("bad")+" ]; then echo '[ALERT]    (1) : config : parsing [haproxy.cfg:4] : no such luck' >&2; exit 1; fi\n")
	v := w.watch("-haproxy", w.path("haproxy"))
	v.waitReady()
	before := v.config()
	w.write("bad", "")
	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	report := v.waitReport("failed", func(r kube.Report) bool { return r.Refused != nil })
	require.Contains(t, report.Refused.Reason, "no such luck")
	v.waitMetric("headgate_terminator_refused 1")
	v.waitDetail(http.StatusOK, "failed: ")
	require.Equal(t, before, v.config())
	require.NoError(t, os.Remove(w.path("bad")))
	v.waitConfig("10.0.0.4:30080") // without any further change
	v.waitReport("in force", func(r kube.Report) bool { return r.Refused == nil && r.Changes.Servers.Added == 3 })
	require.Equal(t, 1, strings.Count(v.log.String(), "the change is not in force"))
}

// TestWatchReportsAChangeThatIsCompletedLate checks an attempt that has written the configuration,
// but not the report. The next attempt writes the report, and this report must contain the change.
func TestWatchReportsAChangeThatIsCompletedLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watch()
	w.waitReady()
	require.NoError(t, os.Remove(w.path("out/report.json")))
	require.NoError(t, os.MkdirAll(w.path("out/report.json/in-the-way"), 0o755))
	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	w.waitMetric(`headgate_terminator_applies_total{outcome="failed"} 1`)
	w.waitConfig("10.0.0.4:30080")
	w.waitLog("the configuration is in force, but")
	require.NoError(t, os.RemoveAll(w.path("out/report.json")))
	report := w.waitReport("completed", func(r kube.Report) bool { return r.Refused == nil && r.Changes.Servers.Added == 3 })
	require.Equal(t, []kube.Cause{{Cluster: "eu-1", Object: "Node d", What: "added"}}, report.Changes.Causes)
	require.Empty(t, report.Changes.ID+report.Changes.Reason)
	w.waitLog("msg=applied added=3 ")
	require.NotContains(t, w.log.String(), "the change that was not applied has disappeared")
	w.waitMetric("headgate_terminator_refused 0")
}

func TestWatchLogsOnceThatTheReportCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watch()
	w.waitReady()
	require.NoError(t, os.Remove(w.path("out/report.json")))
	require.NoError(t, os.MkdirAll(w.path("out/report.json/in-the-way"), 0o755))
	w.substitute("eu-1/objects.yaml", "30080", "30090") // too much
	w.waitLog("the report cannot be written")
	for range 2 {
		code, body := w.do("POST", "/force?id=another")
		require.Equal(t, http.StatusConflict, code, body)
	}
	require.Equal(t, 1, strings.Count(w.log.String(), "the report cannot be written"))
}

// TestWatchReloadsARealHAProxy changes nodes, ports and routes while a real HAProxy runs and a
// client sends requests without a pause. No request fails.
func TestWatchReloadsARealHAProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := haproxytest.Dir(t) // the path of a socket must be short
	ports := haproxytest.Ports(t, 4)
	service := func(port int, addresses ...string) {
		for _, a := range addresses {
			serve(t, fmt.Sprintf("%s:%d", a, port), fmt.Sprint(port))
		}
	}
	service(ports[1], "127.0.0.1", "127.0.0.2", "127.0.0.3")
	service(ports[2], "127.0.0.1", "127.0.0.2", "127.0.0.3")
	manifests := func(nodePort, nodes int) string {
		text := "apiVersion: v1\nkind: List\nitems:\n" +
			fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", nodePort)
		for i := range nodes {
			text += fmt.Sprintf("- {apiVersion: v1, kind: Node, metadata: {name: n%d}, status: {addresses: [{type: InternalIP, address: 127.0.0.%d}]}}\n", i, i+1)
		}
		return text
	}
	const routes = "routes:\n- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: 100ms}\n"
	w.write("routes.yaml", routes)
	w.write("eu-1/objects.yaml", manifests(ports[1], 2))
	args := []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[0]), "-haproxy", w.haproxy(), "-max-change", "60%",
		"-stats-socket", filepath.Join(dir, haproxytest.StatsSocket), "-reload", filepath.Join(dir, haproxytest.MasterSocket),
		"-state-file", filepath.Join(dir, "state"), "-node-health", "kube-proxy",
	}
	// The first attempt cannot reload, because HAProxy does not run. HAProxy starts with its
	// output.
	v := w.watchIn(dir, args...)
	v.eventually("a configuration", func() bool {
		_, err := os.Stat(filepath.Join(dir, "haproxy.cfg"))
		return err == nil && strings.Contains(v.log.String(), "the change is not in force")
	})
	v.waitDetail(http.StatusServiceUnavailable, "reload") // nothing is in force
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	require.NoError(t, err)
	haproxytest.StartMaster(t, dir, string(config))
	v.waitReady() // by a retry

	client := startClient(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), "www.example.com")
	client.waitFor(fmt.Sprint(ports[1]))
	w.replace("eu-1/objects.yaml", manifests(ports[1], 3)) // grows
	v.waitLog("eu-1: Node n2: added")
	w.replace("eu-1/objects.yaml", manifests(ports[2], 3)) // another port: refused
	v.waitLog("100.0% of the servers")
	w.replace("routes.yaml", "routes: [")
	v.waitLog("routes.yaml:1")
	w.replace("routes.yaml", routes+"- host: other.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n")
	var refused [][]string
	v.eventually("both changes are refused", func() bool {
		refused = regexp.MustCompile(`/force(\?id=[0-9a-f]+)`).FindAllStringSubmatch(v.log.String(), -1)
		return len(refused) == 2
	})
	code, body := v.do("POST", "/force"+refused[1][1])
	require.Equal(t, http.StatusOK, code, body)
	client.waitFor(fmt.Sprint(ports[2]))
	v.waitLog("Route other.example.com/: added")
	require.Equal(t, cli.ExitOK, v.stop())
	client.more(50)
	require.Zero(t, client.stop(), "failed requests")
}

// If a file of routes is missing or broken at the start, the terminator serves the other files. The
// routes of the missing file count as removed, so -max-change protects the routes in force, even
// with -force.
func TestWatchStartsWithoutAFile(t *testing.T) {
	w := newWorld(t)
	more := "routes:\n- host: more.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n"
	v := w.watch("-routes", w.path("more.yaml"), "-start-timeout", "10ms")
	v.waitReady()
	v.waitLog("more.yaml: no such file or directory")
	v.waitDetail(http.StatusOK, "routes of "+w.path("more.yaml")+": not read since the start")
	require.Equal(t, 1, w.paths("www.example.com"))
	w.replace("more.yaml", more)
	v.waitLog("Route more.example.com/: added")
	require.Equal(t, cli.ExitOK, v.stop())

	w.replace("routes.yaml", "routes: [") // 2 of 3 hosts in force
	v = w.watch("-routes", w.path("more.yaml"), "-start-timeout", "10ms", "-force")
	v.waitLog("the change is not in force")
	v.waitDetail(http.StatusOK, "refused: ")
	require.Equal(t, 1, w.paths("www.example.com"))
	w.replace("routes.yaml", testRoutes)
	v.waitDetail(http.StatusOK, "ok")
	v.eventually("no change is refused", func() bool { return w.report().Refused == nil })
	require.Equal(t, cli.ExitOK, v.stop())

	// The first attempt waits for the file, at most for -start-timeout.
	require.NoError(t, os.Rename(w.path("routes.yaml"), w.path("later.yaml")))
	v = w.watch("-routes", w.path("more.yaml"), "-start-timeout", "1h")
	v.waitDetail(http.StatusServiceUnavailable, "waiting for "+w.path("routes.yaml"))
	require.NoError(t, os.Rename(w.path("later.yaml"), w.path("routes.yaml")))
	v.waitReady()
}

// The first configuration waits until a route has a server. Until then, the terminator is not
// ready.
func TestWatchFirstConfigurationWithoutServers(t *testing.T) {
	w := newWorld(t)
	services := w.read("eu-1/objects.yaml")
	w.write("eu-1/objects.yaml", "apiVersion: v1\nkind: List\nitems: []\n")
	v := w.watch()
	v.waitDetail(http.StatusServiceUnavailable, "the first configuration would have no servers")
	v.waitLog("POST '")
	require.NoFileExists(t, w.path("out/haproxy.cfg"))
	w.replace("eu-1/objects.yaml", services)
	v.waitReady()
	v.waitConfig("10.0.0.1:30080")
}

// While the terminator runs, a file becomes a FIFO, and nobody writes to it. The routes of the file
// stay. The terminator still follows the other files, and ends at SIGTERM.
func TestWatchFilesThatBecomeFIFOs(t *testing.T) {
	w := newWorld(t)
	w.write("more.yaml", "routes:\n- host: more.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n")
	v := w.watch("-routes", w.path("more.yaml"))
	v.waitReady()
	for _, name := range []string{"more.yaml", "eu-1/objects.yaml"} {
		require.NoError(t, os.Remove(w.path(name)))
		require.NoError(t, syscall.Mkfifo(w.path(name), 0o600))
		v.waitLog(name + ": ")
	}
	v.waitLog("a FIFO, not a regular file")
	w.replace("routes.yaml", testRoutes+"- host: other.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n")
	v.waitLog("Route other.example.com/: added")
	require.Equal(t, 1, w.paths("more.example.com"))
	require.Equal(t, cli.ExitOK, v.stop())
}

// At SIGHUP, the terminator reads its files again, and continues to run.
func TestHangup(t *testing.T) {
	w := newWorld(t).watch()
	w.waitReady()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	w.waitLog("reading the files again")
	w.waitReady()
}
