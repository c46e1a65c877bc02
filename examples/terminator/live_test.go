package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// apiServer is an API server of a cluster, with Leases.
type apiServer struct {
	*kubewatchtest.Server
	leases leases
	config string // path of a kubeconfig
}

// live starts an API server with the objects of eu-1, and writes a kubeconfig for it.
func (w *world) live(name string) *apiServer {
	w.t.Helper()
	s := &apiServer{Server: kubewatchtest.New(w.t)}
	mux := http.NewServeMux()
	mux.Handle("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", &s.leases)
	mux.Handle("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", &s.leases)
	mux.Handle("/", s.Server)
	server := httptest.NewServer(mux)
	w.t.Cleanup(func() { s.Disconnect(); server.CloseClientConnections(); server.Close() })
	w.write(name+".kubeconfig", string(kubeconfigOf(server.URL)))
	s.config = w.path(name + ".kubeconfig")
	objects, problems := manifest.Parse("", []byte(strings.ReplaceAll(testManifests, "10.0.0.", "10.0.2.")))
	require.Empty(w.t, problems)
	for _, n := range objects.Nodes {
		s.Set(n)
	}
	for _, svc := range objects.Services {
		s.Set(svc)
	}
	return s
}

func kubeconfigOf(server string) []byte {
	return []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + server + `"}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: it, context: {cluster: c, user: u}}]
current-context: it
`)
}

func (s *apiServer) away(is bool) {
	status := 0
	if is {
		status = http.StatusServiceUnavailable
	}
	s.Refuse("list", status)
	s.Refuse("watch", status)
	s.Disconnect()
}

func liveNode(name, address string) *corev1.Node {
	n := &corev1.Node{}
	n.Name = name
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	return n
}

func TestWatchALiveCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.live("eu-2")
	w.write("routes.yaml", strings.ReplaceAll(testRoutes, "service: tracks, port: http}", "service: tracks, port: http}\n  - {cluster: eu-2, namespace: media, service: tracks, port: http}"))
	args := []string{"-cluster", "eu-2=kubeconfig:" + api.config + ":it", "-start-timeout", "1s", "-quiet", "10ms", "-max-wait", "50ms", "-max-change", "40%"}
	first := w.watch(args...)
	first.waitReady()
	report := first.waitReport("two clusters", func(r kube.Report) bool {
		return slices.Equal(states(r), []kube.State{kube.Live, kube.Live}) && len(r.Problems) == 0
	})
	require.Contains(t, first.config(), "\nbackend nodes.eu-2\n")
	first.waitMetric(`headgate_terminator_cluster_objects{cluster="eu-2",kind="node"} 3`)

	api.Set(liveNode("d", "10.0.2.4"))
	first.waitConfig("10.0.2.4:30080")
	first.waitLog(`eu-2: Node d: added`)
	// If a new route names another service, the terminator serves this service too.
	w.replace("routes.yaml", w.read("routes.yaml")+"- host: new.example.com\n  backends:\n  - {cluster: eu-2, namespace: media, service: web, port: http}\n")
	first.waitConfig("\nbackend eu-2.media.web.http\n")
	first.waitReport("no problem", func(r kube.Report) bool { return len(r.Problems) == 0 })

	before := first.config()
	api.away(true)
	report = first.waitReport("away", func(r kube.Report) bool { return states(r)[1] == kube.LastKnown })
	require.Contains(t, report.Clusters[1].Connectivity.Reason, "503")
	api.Delete(liveNode("d", ""))
	require.Equal(t, before, first.config())
	require.Equal(t, cli.ExitOK, first.stop())

	// The terminator restarts while the API server does not answer, and runs with -once.
	second := w.watch(args...)
	second.waitReady()
	require.Equal(t, before, second.config())
	require.Equal(t, cli.ExitOK, second.stop())
	code, stdout, stderr := w.run(append([]string{"-once", "-max-change", "0%"}, args...)...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "eu-2: does not answer")
	require.Contains(t, stdout, "written", "the report changes: the other cluster answers again")
	require.Equal(t, before, w.read("out/haproxy.cfg"))

	third := w.watch(args...)
	third.waitReady()
	api.away(false)
	third.eventually("changes that were made meanwhile", func() bool { return !strings.Contains(third.config(), "10.0.2.4") })
	third.waitReport("live", func(r kube.Report) bool { return states(r)[1] == kube.Live })
	require.Equal(t, cli.ExitOK, third.stop())
}

// TestAnEmptyClusterAtTheStartIsNotTrusted checks that the servers of a cluster stay if its API
// server lists no nodes at the start, as after the loss of its store. -max-change does not prevent
// this loss if other clusters have most of the servers.
func TestAnEmptyClusterAtTheStartIsNotTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit("routes.yaml", "cluster: eu-1, namespace: media, service: tracks", "cluster: eu-2, namespace: media, service: tracks")
	full := w.live("eu-2")
	where := func(s *apiServer) []string {
		return []string{"-cluster", "eu-2=kubeconfig:" + s.config, "-start-timeout", "1m", "-max-change", "100%"}
	}
	code, _, stderr := w.run(append(where(full), "-once")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.read("out/haproxy.cfg")
	require.Contains(t, before, "10.0.2.1:30080")

	empty := w.live("eu-2")
	objects, _ := manifest.Parse("", []byte(testManifests))
	for _, n := range objects.Nodes {
		empty.Delete(n)
	}
	args := append(where(empty), "-start-timeout", "5s")
	code, _, stderr = w.run(append(args, "-once")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "eu-2: does not answer")
	require.Contains(t, stderr, "it lists no nodes")
	require.Equal(t, before, w.read("out/haproxy.cfg"))

	first := w.watch(args...)
	first.waitReady()
	require.Equal(t, before, first.config())
	first.waitDetail(http.StatusOK, "it lists no nodes")
	first.waitLog("it lists no nodes")
	// After the API server has listed a node, the terminator trusts this API server, even if its
	// later lists contain no nodes.
	empty.Set(liveNode("a", "10.0.2.9"))
	first.waitConfig("10.0.2.9:30080")
	require.NotContains(t, first.config(), "10.0.2.1:")
	empty.Delete(liveNode("a", ""))
	first.eventually("no node is left", func() bool { return !strings.Contains(first.config(), "10.0.2.") })
	require.Equal(t, cli.ExitOK, first.stop())

	// With -force, the terminator believes that the cluster is empty.
	w.write("eu-1/objects.yaml", testManifests)
	code, _, stderr = w.run(append(where(full), "-once")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	code, _, stderr = w.run(append(where(empty), "-once", "-force")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NotContains(t, w.read("out/haproxy.cfg"), "10.0.2.")
}

func TestOnceWithALiveCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.live("eu-2")
	args := []string{"-once", "-cluster", "eu-2=" + api.config, "-start-timeout", "6s"} // the request and its answer need a part of it
	api.away(true)
	code, _, stderr := w.run(args...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "cluster eu-2: no answer within 6s: ")
	require.Contains(t, stderr, "503")
	require.NoFileExists(t, w.path("out/haproxy.cfg"))
	api.away(false)
	args = append(args, "-start-timeout", "1m") // enough for a slow machine
	w.edit("routes.yaml", "cluster: eu-1, namespace: media, service: tracks", "cluster: eu-2, namespace: media, service: tracks")
	code, _, stderr = w.run(args...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, w.read("out/haproxy.cfg"), "\nbackend eu-2.media.tracks.http\n")
	code, stdout, stderr := w.run(args...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "unchanged")
}

func TestWatchOneOfTwoWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.live("eu-2")
	args := []string{"-cluster", "eu-2=" + api.config, "-lease", "headgate/terminator", "-max-change", "50%"}
	first := w.watch(args...)
	first.waitReady()
	first.waitMetric("headgate_terminator_leader 1")
	require.Contains(t, first.config(), "10.0.0.1:30080")
	second := w.watch(args...)
	second.waitLog("self=false")
	second.waitReady()
	second.waitMetric("headgate_terminator_leader 0")
	second.waitMetric(`headgate_terminator_cluster_up{cluster="eu-1"} 1`)
	second.waitDetail(http.StatusOK, "standing by; ")
	code, body := second.do("POST", "/force")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, "another terminator leads")

	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	first.waitConfig("10.0.0.4:30080")
	first.waitLog("eu-1: Node d: added")
	// Only the terminator that leads shows a refused change.
	w.replace("eu-1/objects.yaml", strings.ReplaceAll(testManifests, "3008", "3009"))
	first.waitMetric("headgate_terminator_refused 1")
	ready := func() string { _, body := first.do("GET", "/readyz"); return body }
	first.eventually("shown", func() bool { return strings.Contains(ready(), "refused: ") })
	api.leases.steal()
	first.waitMetric("headgate_terminator_leader 0")
	first.waitMetric("headgate_terminator_refused 0")
	first.eventually("not shown any more", func() bool { return strings.HasPrefix(ready(), "ok\n") && !strings.Contains(ready(), "refused: ") })
	w.replace("eu-1/objects.yaml", testManifests+nodeD)
	require.Equal(t, cli.ExitOK, first.stop())
	// The second terminator must know the last state before it leads.
	second.waitMetric(`headgate_terminator_cluster_objects{cluster="eu-1",kind="node"} 4`)
	w.replace("eu-1/objects.yaml", testManifests)
	second.waitMetric(`headgate_terminator_cluster_objects{cluster="eu-1",kind="node"} 3`)
	require.NotContains(t, second.log.String(), "msg=applied")
	api.leases.release()
	second.waitMetric("headgate_terminator_leader 1")
	second.eventually("the second writes", func() bool { return !strings.Contains(second.config(), "10.0.0.4") })
	second.waitReport("why", func(r kube.Report) bool { return r.Changes.Causes[0].What == "took the lead" })
}

// leases is the part of an API server that stores Leases.
type leases struct {
	mu      sync.Mutex
	version int
	objects map[string]*coordinationv1.Lease
	asked   []string // requests: verb and key
	stolen  bool
}

func (l *leases) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

// steal makes another process the holder of all Leases. This process renews them until release.
func (l *leases) steal() { l.hold("somebody-else", true) }

func (l *leases) release() { l.hold("", false) }

func (l *leases) hold(by string, stolen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stolen = stolen
	for key := range l.objects {
		l.change(key, func(s *coordinationv1.LeaseSpec) { s.HolderIdentity = &by })
	}
}

// change stores a new version of a Lease. The caller holds the lock.
func (l *leases) change(key string, f func(*coordinationv1.LeaseSpec)) {
	object := l.objects[key].DeepCopy()
	l.version++
	object.ResourceVersion = strconv.Itoa(l.version)
	f(&object.Spec)
	l.objects[key] = object
}

func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fail := func(code int, reason metav1.StatusReason) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: string(reason),
		})
	}
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	var given coordinationv1.Lease
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&given); err != nil {
			fail(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType)
			return
		}
		key = given.Namespace + "/" + given.Name
	}
	if l.stolen && l.objects[key] != nil {
		l.change(key, func(s *coordinationv1.LeaseSpec) { s.RenewTime = &metav1.MicroTime{Time: time.Now()} })
	}
	now := l.objects[key]
	verb := map[string]string{http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update"}[r.Method]
	l.asked = append(l.asked, verb+" "+key)
	switch {
	case r.Method == http.MethodPost && now == nil:
	case r.Method == http.MethodPost:
		fail(http.StatusConflict, metav1.StatusReasonAlreadyExists)
		return
	case now == nil:
		fail(http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	case r.Method == http.MethodPut && given.ResourceVersion != now.ResourceVersion:
		fail(http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	if r.Method != http.MethodGet {
		l.version++
		given.ResourceVersion = strconv.Itoa(l.version)
		if l.objects == nil {
			l.objects = map[string]*coordinationv1.Lease{}
		}
		l.objects[key] = &given
		now = &given
	}
	w.Header().Set("Content-Type", "application/json")
	now.TypeMeta = metav1.TypeMeta{Kind: "Lease", APIVersion: "coordination.k8s.io/v1"}
	_ = json.NewEncoder(w).Encode(now)
}
