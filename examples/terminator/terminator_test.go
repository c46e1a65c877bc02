package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// world is a directory with routes.yaml, the manifests of cluster eu-1, and out for the output.
type world struct {
	t   *testing.T
	dir string
}

const testRoutes = `routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
- host: www.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
`

const testManifests = `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}
- {apiVersion: v1, kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}}
- {apiVersion: v1, kind: Node, metadata: {name: c, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ""}}, status: {addresses: [{type: InternalIP, address: 10.0.0.3}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: tracks, annotations: {headgate.dev/agent-port: "9801"}}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30081}]}}
`

func newWorld(t *testing.T) *world {
	w := &world{t, t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(w.dir, "eu-1"), 0o755))
	w.write("routes.yaml", testRoutes)
	w.write("eu-1/objects.yaml", testManifests)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.path(name), []byte(text), 0o600))
}

func (w *world) edit(name, old, new string) {
	w.t.Helper()
	text := w.read(name)
	require.Contains(w.t, text, old)
	w.write(name, strings.ReplaceAll(text, old, new))
}

func (w *world) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	require.NoError(w.t, err)
	return string(data)
}

func (w *world) haproxy() string {
	w.t.Helper()
	path, err := haproxyproc.Find()
	require.NoError(w.t, err)
	return path
}

// run calls the terminator with the files of the world, and with further arguments.
func (w *world) run(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return w.runAlone(append([]string{"-out", w.path("out"), "-http", ":8080"}, args...)...)
}

// runAlone does the same as run, but does not set the flags -out and -http.
func (w *world) runAlone(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	args = append([]string{"-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1")}, args...)
	var out, errs bytes.Buffer
	code = run(w.t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func (w *world) report() kube.Report {
	w.t.Helper()
	var r kube.Report
	require.NoError(w.t, json.Unmarshal([]byte(w.read("out/report.json")), &r))
	return r
}

func TestOnceWritesAllFiles(t *testing.T) {
	w := newWorld(t)
	code, stdout, stderr := w.run("-once", "-haproxy", w.haproxy(),
		"-dns-origin", "example.com", "-dns-address", "192.0.2.1", "-cdn-origin", "edge.example.net", "-terminators", "3",
		"-dns-endpoints", "dns/edge-eu", "-dns-set-id", "eu", "-dns-weight", "60")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "written")
	require.Empty(t, stderr)

	config := w.read("out/haproxy.cfg")
	require.Contains(t, config, "backend eu-1.media.tracks.http\n")
	require.Contains(t, config, " 10.0.0.1:30080 ")
	require.Contains(t, config, "agent-port 9801")
	require.NotContains(t, config, "10.0.0.3")
	maps, err := filepath.Glob(w.path("out/maps/*.map"))
	require.NoError(t, err)
	require.NotEmpty(t, maps)
	for _, m := range maps {
		require.Contains(t, config, m)
	}
	require.Contains(t, w.read("out/dns.zone"), "api.example.com.\t")
	require.Contains(t, w.read("out/cdn.json"), `"edge.example.net"`)
	endpoints := w.read("out/dns-endpoints.yaml")
	require.Contains(t, endpoints, "  name: edge-eu\n  namespace: dns\n")
	require.Contains(t, endpoints, "- dnsName: api.example.com\n")
	require.Contains(t, endpoints, `[{name: aws/weight, value: "60"}]`)

	report := w.report()
	require.Len(t, report.Services, 2)
	require.Equal(t, 3, report.Budget.Terminators)
	require.Equal(t, "c", report.Clusters[0].Findings[0].Node)
	require.Contains(t, report.Clusters[0].Findings[0].Reason, "exclude-from-external-load-balancers")
}

func TestUnchangedWritesNothing(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.stat()
	code, stdout, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "unchanged")
	for name, info := range w.stat() {
		require.True(t, os.SameFile(before[name], info), name)
		require.Equal(t, before[name].ModTime(), info.ModTime(), name)
	}
}

// stat returns the FileInfo of every file of the output.
func (w *world) stat() map[string]os.FileInfo {
	w.t.Helper()
	infos := map[string]os.FileInfo{}
	require.NoError(w.t, filepath.Walk(w.path("out"), func(name string, info os.FileInfo, err error) error {
		infos[name] = info
		return err
	}))
	require.Greater(w.t, len(infos), 4)
	return infos
}

func TestDiffShowsAndWritesNothing(t *testing.T) {
	w := newWorld(t)
	code, stdout, stderr := w.run("-diff")
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Contains(t, stdout, "+backend eu-1.media.tracks.http")
	require.NoFileExists(t, w.path("out/haproxy.cfg"))

	_, _, _ = w.run("-once")
	before := w.read("out/haproxy.cfg")
	w.edit("eu-1/objects.yaml", "30080", "30090")
	code, stdout, stderr = w.run("-diff")
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Contains(t, stdout, "-    server 10.0.0.1:30080")
	require.Contains(t, stdout, "+    server 10.0.0.1:30090")
	require.Equal(t, before, w.read("out/haproxy.cfg"))
}

// A pipeline decides by the exit status of -diff.
func TestDiffExitStatus(t *testing.T) {
	w := newWorld(t)
	zone := []string{"-dns-origin", "example.com", "-dns-address", "192.0.2.1"}
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	code, stdout, _ := w.run("-diff")
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, "no change\n", stdout)
	code, stdout, _ = w.run(append(zone, "-diff")...)
	require.Equal(t, cli.ExitDiffer, code, "-once would write dns.zone")
	require.Equal(t, "no change\n~ dns.zone\n", stdout)
	require.NoFileExists(t, w.path("out/dns.zone"))
	code, _, stderr = w.run(append(zone, "-once")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	code, _, _ = w.run(append(zone, "-diff")...)
	require.Equal(t, cli.ExitOK, code)
	code, _, _ = w.run("-diff", "-routes", "/no/such/file")
	require.Equal(t, cli.ExitFailed, code)
}

// With -strict, the terminator fails and writes nothing if there is a problem. It does not fail
// because of a warning.
func TestStrict(t *testing.T) {
	w := newWorld(t)
	w.edit("routes.yaml", "service: tracks", "service: tracsk")
	for _, mode := range []string{"-once", "-diff"} {
		code, _, stderr := w.run(mode, "-strict")
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, stderr, "problem: "+w.path("routes.yaml")+":2: eu-1: Service media/tracsk: there is no such service")
		require.Contains(t, stderr, "-strict: 1 problems, and nothing is written")
	}
	require.NoDirExists(t, w.path("out"))
	w.edit("routes.yaml", "service: tracsk, port: http", "service: tracks, port: http, weight: 0")
	code, _, stderr := w.run("-once", "-strict")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "warning: ")
	code, _, stderr = w.run("-strict")
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, stderr, "-strict needs -once or -diff")
}

// The terminator refuses a first configuration in which all routes answer 503. A typing mistake can
// cause this, such as "ue" for the cluster "eu".
func TestFirstConfigurationWithoutServers(t *testing.T) {
	w := newWorld(t)
	wrong := []string{"-routes", w.path("routes.yaml"), "-cluster", "ue-1=dir:" + w.path("eu-1"), "-out", w.path("out"), "-http", ":8080"}
	once := func(args ...string) (code int, stderr string) {
		var errs bytes.Buffer
		code = run(t.Context(), cli.Invocation{Args: append(args, "-once"), Stdout: &errs, Stderr: &errs})
		return code, errs.String()
	}
	code, stderr := once(wrong...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "the first configuration would have no servers")
	require.Contains(t, stderr, "-force applies it")
	code, _ = once(append(wrong, "-max-change", "100%")...)
	require.Equal(t, cli.ExitFailed, code)
	require.NoFileExists(t, w.path("out/haproxy.cfg"))
	code, stderr = once(append(wrong, "-force")...)
	require.Equal(t, cli.ExitOK, code, stderr)

	// The terminator accepts an empty list of routes, because it is no typing mistake.
	w = newWorld(t)
	w.write("routes.yaml", "routes: []\n")
	code, _, stderr = w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
}

// ":PORT" means all IPv4 and all IPv6 addresses. HAProxy forwards the address of an IPv4 client in
// its usual form.
func TestListensOnBothFamilies(t *testing.T) {
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	ports := haproxytest.Ports(t, 3)
	backend := fmt.Sprintf("127.0.0.1:%d", ports[1])
	l, err := net.Listen("tcp", backend)
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-For"))
	})}
	go srv.Serve(l)
	defer srv.Close()
	w.write("eu-1/objects.yaml", fmt.Sprintf(`apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}
`, ports[1]))
	w.write("routes.yaml", "routes:\n- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: 10s}\n")
	code, _, stderr := w.runAlone("-once", "-out", dir, "-http", fmt.Sprintf(":%d", ports[0]), "-exporter", fmt.Sprintf(":%d", ports[2]),
		"-stats-socket", filepath.Join(dir, haproxytest.StatsSocket), "-node-health", "kube-proxy")
	require.Equal(t, cli.ExitOK, code, stderr)
	config, err := os.ReadFile(filepath.Join(dir, haproxytest.ConfigFile))
	require.NoError(t, err)
	haproxytest.Start(t, dir, string(config))

	hosts := []string{"127.0.0.1"}
	if probe, err := net.Listen("tcp", "[::1]:0"); err == nil { // some machines have no IPv6
		probe.Close()
		hosts = append(hosts, "::1")
		require.Contains(t, string(config), fmt.Sprintf("bind *:%d,[::]:%d v6only\n", ports[0], ports[0]))
	}
	for _, host := range hosts {
		for i, port := range []int{ports[0], ports[2]} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+net.JoinHostPort(host, fmt.Sprint(port))+"/metrics", nil)
			require.NoError(t, err)
			req.Host = "www.example.com"
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, http.StatusOK, resp.StatusCode)
			if body, err := io.ReadAll(resp.Body); i == 0 {
				require.NoError(t, err)
				require.Equal(t, host, string(body))
			}
		}
	}
}

// TestDiffThatCannotBePrinted checks that -diff fails if it cannot print the whole diff. Otherwise
// a reader would believe that a part of the diff is the whole diff.
func TestDiffThatCannotBePrinted(t *testing.T) {
	w := newWorld(t)
	r, full, err := os.Pipe()
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, r.Close())
	var stderr bytes.Buffer
	code := run(t.Context(), cli.Invocation{
		Args:   []string{"-diff", "-routes", w.path("routes.yaml"), "-cluster", "eu-1=dir:" + w.path("eu-1"), "-out", w.path("out"), "-http", ":80"},
		Stdout: full, Stderr: &stderr,
	})
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr.String(), "broken pipe")
}

func TestMaxChange(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.read("out/haproxy.cfg")
	w.edit("eu-1/objects.yaml", "30080", "30090") // 2 of 6 servers

	code, _, stderr = w.run("-once")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "33.3% of the servers would go or change")
	require.Equal(t, before, w.read("out/haproxy.cfg"))

	code, _, stderr = w.run("-once", "-max-change", "34%")
	require.Equal(t, cli.ExitOK, code, stderr)
	w.edit("eu-1/objects.yaml", "30090", "30091")
	code, _, stderr = w.run("-once", "-force")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, w.read("out/haproxy.cfg"), "30091")
}

func TestBadEntriesAreReportedAndTheRestIsServed(t *testing.T) {
	w := newWorld(t)
	w.write("routes.yaml", testRoutes+`- host: "*"
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: http}
- host: gone.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: gone, port: http}
`)
	w.write("eu-1/broken.yaml", "kind: Node\nmetadata: {name: [\n")
	code, _, stderr := w.run("-once", "-haproxy", w.haproxy())
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "routes.yaml:9: routes[2].host: ")
	require.Contains(t, stderr, "eu-1: Service media/gone: there is no such service")
	require.Contains(t, stderr, "broken.yaml:")
	require.Contains(t, w.read("out/haproxy.cfg"), "backend eu-1.media.tracks.http\n")
	require.GreaterOrEqual(t, len(w.report().Problems), 3)
}

// TestHostsThatCannotBePublished declares the origin of the zone and the target of the zone as
// hosts. dns.zone or cdn.json cannot contain these two hosts. The terminator must still serve them,
// and the files must contain all other hosts.
func TestHostsThatCannotBePublished(t *testing.T) {
	w := newWorld(t)
	const backends = "\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n"
	w.write("routes.yaml", testRoutes+"- host: example.com"+backends+"- host: Edge.example.com"+backends+
		"- host: '*.example.com'"+backends+"- host: below.edge.example.com"+backends)
	publish := []string{"-dns-origin", "Example.com.", "-dns-target", "edge.example.com.", "-cdn-origin", "Edge.example.com"}
	code, _, stderr := w.run(append(publish, "-once")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	for _, want := range []string{
		"routes.yaml:9: host: example.com: it is the origin of the zone, which cannot be an alias",
		"routes.yaml:12: host: edge.example.com: it is the target of the zone",
		"routes.yaml:12: host: edge.example.com: it is the origin of the CDN",
	} {
		require.Contains(t, stderr, want)
	}
	require.Len(t, w.report().Problems, 3)
	var names []string
	for line := range strings.Lines(w.read("out/dns.zone")) {
		names = append(names, line[:strings.IndexByte(line, '\t')])
	}
	require.Equal(t, []string{"*.example.com.", "api.example.com.", "below.edge.example.com.", "www.example.com."}, names)
	cdn := w.read("out/cdn.json")
	require.NotContains(t, cdn, `"host": "edge.example.com"`)
	require.Contains(t, cdn, `"host": "example.com"`)
	for _, host := range []string{"example.com", "edge.example.com", "below.edge.example.com", "*.example.com"} {
		maps, err := filepath.Glob(w.path("out/maps/hosts-*.map"))
		require.NoError(t, err)
		require.Len(t, maps, 1)
		data, err := os.ReadFile(maps[0])
		require.NoError(t, err)
		require.Contains(t, string(data), host+" "+host+"\n", "it is served nevertheless")
	}

	// With -dns-address, the origin gets address records.
	code, _, stderr = w.run(append(publish, "-once", "-dns-address", "192.0.2.1")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NotContains(t, stderr, "cannot be an alias")
	require.Contains(t, w.read("out/dns.zone"), "\nexample.com.\t300\tIN\tA\t192.0.2.1\n")
}

func TestRefusedConfigurationIsNotWritten(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-once", "-haproxy", w.haproxy())
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.stat()
	code, _, stderr = w.run("-once", "-haproxy", w.haproxy(), "-user", "no-such-user")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "no-such-user")
	for name, info := range w.stat() {
		require.True(t, os.SameFile(before[name], info), name)
	}
}

func TestFailures(t *testing.T) {
	type testCase struct {
		name string
		args []string
		code int
		want string
	}
	tests := []testCase{
		{"no directory of a cluster", []string{"-once", "-cluster", "eu-2=dir:/no/such/dir"}, cli.ExitFailed, "cluster eu-2: "},
		{"no file of routes", []string{"-once", "-routes", "/no/such/file"}, cli.ExitFailed, "/no/such/file"},
		{"no haproxy", []string{"-once", "-haproxy", "/no/such/haproxy"}, cli.ExitFailed, "/no/such/haproxy"},
		{"both once and diff", []string{"-once", "-diff"}, cli.ExitUsage, "want one of them"},
		{"unknown flag", []string{"-oops"}, cli.ExitUsage, "-oops"},
		{"cluster form", []string{"-once", "-cluster", "eu-2"}, cli.ExitUsage, `-cluster: "eu-2": want NAME=kubeconfig:FILE[:CONTEXT], NAME=in-cluster or NAME=dir:DIR`},
		{"cluster without a place", []string{"-once", "-cluster", "eu-2="}, cli.ExitUsage, `-cluster: "eu-2=": want NAME`},
		{"no such kubeconfig", []string{"-once", "-cluster", "eu-2=kubeconfig:/no/such/file"}, cli.ExitFailed, "cluster eu-2: "},
		{"negative number of old workers", []string{"-max-old-workers", "-1"}, cli.ExitUsage, "-max-old-workers"},
		{"negative reload wait", []string{"-max-reload-wait", "-1s"}, cli.ExitUsage, "-max-reload-wait"},
		{"negative longest interval", []string{"-max-interval", "-1s"}, cli.ExitUsage, "-max-interval"},
		{"negative interval", []string{"-min-interval", "-1s"}, cli.ExitUsage, "-min-interval"},
		{"lease without a live cluster", []string{"-lease", "a/b"}, cli.ExitUsage, "-lease needs a live cluster"},
		{"lease of no live cluster", []string{"-lease", "a/b", "-lease-cluster", "eu-1", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, `-lease-cluster: "eu-1" is no live cluster`},
		{"name of a lease", []string{"-lease", "b", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, `-lease: "b": want NAMESPACE/NAME`},
		{"lease once", []string{"-once", "-lease", "a/b", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, "-lease cannot be used with -once"},
		{"force with a lease", []string{"-force", "-lease", "a/b", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, "-force cannot be used with -lease"},
		{"cluster of no lease", []string{"-lease-cluster", "eu-1"}, cli.ExitUsage, "-lease-cluster needs -lease or -fleet"},
		{"fleet without a live cluster", []string{"-fleet", "a/b"}, cli.ExitUsage, "-fleet needs a live cluster"},
		{"fleet of no live cluster", []string{"-fleet", "a/b", "-lease-cluster", "eu-1", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, `-lease-cluster: "eu-1" is no live cluster`},
		{"name of a fleet", []string{"-fleet", "b", "-cluster", "eu-2=in-cluster"}, cli.ExitUsage, `-fleet: "b": want NAMESPACE/NAME`},
		{"address of admin", []string{"-admin", "nowhere:1"}, cli.ExitFailed, "nowhere"},
		{"share", []string{"-once", "-max-change", "130%"}, cli.ExitUsage, `-max-change: "130%": want a share`},
		{"identity", []string{"-once", "-identity", "serial"}, cli.ExitUsage, `-identity: "serial"`},
		{"health", []string{"-once", "-node-health", "hope"}, cli.ExitUsage, `-node-health: "hope"`},
		{"address of the zone", []string{"-once", "-dns-address", "here"}, cli.ExitUsage, "-dns-address"},
		{"origin of the zone", []string{"-once", "-dns-origin", "*.example.com", "-dns-address", "192.0.2.1"}, cli.ExitUsage, `origin: "*.example.com"`},
		{"zone of no addresses", []string{"-once", "-dns-origin", "example.com"}, cli.ExitUsage, "neither addresses nor a target name given"},
		{"objects without a zone", []string{"-once", "-dns-endpoints", "dns/edge"}, cli.ExitUsage, "-dns-endpoints needs -dns-origin"},
		{"name of the objects", []string{"-once", "-dns-endpoints", "edge", "-dns-origin", "example.com", "-dns-address", "192.0.2.1"}, cli.ExitUsage, `-dns-endpoints: "edge": want NAMESPACE/NAME`},
		{"weight of no set", []string{"-once", "-dns-endpoints", "dns/edge", "-dns-weight", "1", "-dns-origin", "example.com", "-dns-address", "192.0.2.1"}, cli.ExitUsage, "a weight needs a set identifier"},
		{"weight of no objects", []string{"-once", "-dns-weight", "1"}, cli.ExitUsage, "-dns-set-id and -dns-weight need -dns-endpoints"},
		{"origin of the CDN", []string{"-once", "-cdn-origin", "https://edge.example.com"}, cli.ExitUsage, `-cdn-origin: routes: cdn: origin: "https://edge.example.com" is not a host name: slash (a host has neither a scheme nor a path)`},
		{"certificates", []string{"-once", "-https", ":443"}, cli.ExitUsage, "-https needs -certificates"},
		{"no file of certificates", []string{"-once", "-https", ":443", "-certificates", "/no/such.pem"}, cli.ExitFailed, "/no/such.pem"},
		{"redirect", []string{"-once", "-redirect-https"}, cli.ExitUsage, "-redirect-https needs -https"},
		{"state file", []string{"-once", "-state-file", "x"}, cli.ExitUsage, "-state-file needs -reload"},
		{"size", []string{"-once", "-nodes-per-service", "0"}, cli.ExitUsage, "-nodes-per-service"},
		{"terminators", []string{"-once", "-terminators", "0"}, cli.ExitUsage, "-terminators must be 1"},
		{"node agent port", []string{"-once", "-node-agent-port", "70000"}, cli.ExitUsage, "-node-agent-port"},
		{"balance", []string{"-once", "-balance", "static-rr"}, cli.ExitUsage, "static-rr"},
		{"interval", []string{"-once", "-agent-inter", "1us"}, cli.ExitUsage, "AgentInterval 1µs is not whole milliseconds"},
		{"listener", []string{"-once", "-http", "localhost:80"}, cli.ExitUsage, `bind "localhost:80"`},
		{"listener twice", []string{"-once", "-exporter", ":8080"}, cli.ExitUsage, "frontends http and admin both listen on :8080"},
		{"stats socket", []string{"-once", "-stats-socket", "/run/$USER"}, cli.ExitUsage, "StatsSocket"},
		{"line end", []string{"-once", "-user", "x\nbackend y"}, cli.ExitUsage, "contains a line end"},
		{"name of a cluster", []string{"-once", "-cluster", "EU=dir:x"}, cli.ExitUsage, `-cluster: "EU=dir:x": "EU" is no name of a cluster`},
		{"cluster twice", []string{"-once", "-cluster", "eu-1=dir:x"}, cli.ExitUsage, `-cluster: "eu-1=dir:x": the cluster is given twice`},
		{"prefix", []string{"-once", "-annotation-prefix", "example.com/"}, cli.ExitUsage, `-annotation-prefix: "example.com/": `},
	}
	fifo, large := filepath.Join(t.TempDir(), "fifo"), filepath.Join(t.TempDir(), "large")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 1<<40))
	for _, flags := range [][]string{
		{"-routes"}, {"-config"}, {"-cluster", "eu-2=kubeconfig:"}, {"-admin-token-file"}, {"-cluster", "eu-2=dir:"},
	} {
		add := func(file, want string) {
			args, code := []string{"-once", flags[0], file}, cli.ExitFailed
			if len(flags) > 1 {
				args[2] = flags[1] + file
			}
			switch flags[0] {
			case "-config":
				code = cli.ExitUsage
			case "-admin-token-file":
				args = append(args[1:], "-admin", "127.0.0.1:0")
			}
			tests = append(tests, testCase{fmt.Sprint(args), args, code, file + ": " + want})
		}
		if strings.HasSuffix(flags[len(flags)-1], "dir:") {
			add(fifo, "not a directory")
			continue
		}
		add(fifo, "a FIFO, not a regular file")
		add(large, "1099511627776 bytes, and at most ")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			code, _, stderr := w.run(tt.args...)
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr, tt.want)
			require.NoFileExists(t, w.path("out/haproxy.cfg"))
		})
	}
}

// TestDeclarationsThatCannotBeRead checks that -once fails if it cannot parse a file of routes.
// Otherwise the servers of these routes would disappear. If only an entry is bad, -once leaves out
// the entry and succeeds.
func TestDeclarationsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	more := w.path("more.yaml")
	w.write("more.yaml", "routes:\n- host: x.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n")
	code, _, stderr := w.run("-once", "-routes", more)
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.stat()
	for text, want := range map[string]string{
		"routes: [":           "more.yaml:1: ",
		"":                    "more.yaml:1: the file is empty",
		"route: []\n":         "more.yaml:1: route: unknown field, did you mean routes?",
		"routes: {host: x}\n": "more.yaml:1: routes: must be a list",
	} {
		w.write("more.yaml", text)
		code, _, stderr := w.run("-once", "-force", "-routes", more)
		require.Equal(t, cli.ExitFailed, code, text)
		require.Contains(t, stderr, want)
		for name, info := range w.stat() {
			require.True(t, os.SameFile(before[name], info), name)
		}
	}
	for _, text := range []string{"routes: []\n", "routes:\n- host: '*'\n"} {
		w.write("more.yaml", text)
		code, _, stderr := w.run("-once", "-max-change", "34%", "-routes", more) // 1 of 3 hosts
		require.Equal(t, cli.ExitOK, code, stderr)
	}
}

// A killed terminator leaves temporary files of every kind, and the directory of HAProxy's check.
// The next run removes them. It keeps the files of other programs.
func TestLeftoversOfAKilledTerminator(t *testing.T) {
	w := newWorld(t)
	t.Setenv("TMPDIR", w.path("tmp"))
	require.NoError(t, os.Mkdir(w.path("tmp"), 0o700))
	args := []string{"-once", "-haproxy", w.haproxy(), "-dns-origin", "example.com", "-dns-address", "192.0.2.1", "-cdn-origin", "edge.example.net"}
	code, _, stderr := w.run(args...)
	require.Equal(t, cli.ExitOK, code, stderr)
	maps, err := os.ReadDir(w.path("out/maps"))
	require.NoError(t, err)
	leftovers := []string{
		"out/.haproxy.cfg123456", "out/.haproxy.cfg.last-good123456", "out/.haproxy.cfg.last-good.0", "out/.report.json123456",
		"out/.dns.zone123456", "out/.cdn.json123456", "out/maps/." + maps[0].Name() + "123456", "out/maps/.old-0123456789abcdef.map1",
	}
	for _, name := range leftovers {
		w.write(name, "half")
	}
	require.NoError(t, os.MkdirAll(w.path("tmp/haproxycfg-check-123456/maps"), 0o700))
	w.write("out/.haproxy.cfg.swp", "of an editor")
	w.write("out/.haproxy.cfg.bak2", "of an operator")
	code, stdout, stderr := w.run(args...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "unchanged")
	for _, name := range leftovers {
		require.NoFileExists(t, w.path(name))
	}
	require.FileExists(t, w.path("out/.haproxy.cfg.swp"))
	require.FileExists(t, w.path("out/.haproxy.cfg.bak2"))
	w.edit("eu-1/objects.yaml", "30080", "30090")
	code, _, stderr = w.run(append(args, "-force")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NoDirExists(t, w.path("tmp/haproxycfg-check-123456"), "the next check removes it")
}

// TestFilesInOutThatAreNoFiles checks that the terminator reports a FIFO or a huge file in the
// output directory, and ends.
func TestFilesInOutThatAreNoFiles(t *testing.T) {
	for _, name := range []string{"report.json", "haproxy.cfg"} {
		w := newWorld(t)
		code, _, stderr := w.run("-once")
		require.Equal(t, cli.ExitOK, code, stderr)
		file := w.path("out/" + name)
		require.NoError(t, os.Truncate(file, 1<<40))
		code, _, stderr = w.run("-once")
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, stderr, file+": 1099511627776 bytes, and at most 268435456 are allowed")
		require.NoError(t, os.Remove(file))
		require.NoError(t, syscall.Mkfifo(file, 0o600))
		code, _, stderr = w.run("-once")
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, stderr, file+": a FIFO, not a regular file")
	}
}

func TestReportOfTheLastRun(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	report := w.report()
	w.write("out/report.json", `{"version": 1, "clusters": [{"name": "eu-1"}]}`) // as a later version may write it
	code, _, stderr = w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	again := w.report()
	report.Changes, report.Applied = nil, again.Applied // the second run has applied its own report
	require.Equal(t, report, again)

	w.write("out/report.json", "")
	code, _, stderr = w.run("-once")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "remove it to choose them afresh")
	require.Empty(t, w.read("out/report.json"))
}

// TestOnceReportsTheLastChange checks that the report contains the last change, even after a
// further run that has changed nothing.
func TestOnceReportsTheLastChange(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	w.write("eu-1/objects.yaml", testManifests+nodeD)
	for range 2 {
		code, _, stderr = w.run("-once")
		require.Equal(t, cli.ExitOK, code, stderr)
		changes := w.report().Changes
		require.NotNil(t, changes)
		require.Equal(t, 3, changes.Servers.Added)
		require.Equal(t, []string{"d"}, changes.Services[0].Enter)
		require.Equal(t, []kube.Cause{{What: "terminator -once"}}, changes.Causes)
	}
}

func TestWarningsOfHAProxyAreShown(t *testing.T) {
	w := newWorld(t)
	haproxytest.Script(t, w.path("haproxy"), "#!/bin/sh\necho '[WARNING]  (1) : config : parsing [haproxy.cfg:4] : quite odd' >&2\n")
	code, _, stderr := w.run("-once", "-haproxy", w.path("haproxy"))
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "terminator: haproxy warns: haproxy.cfg:4: quite odd")
}

// TestReload changes the node port of a service while a real HAProxy runs. After the reload HAProxy
// uses the new port, although its state file contains the old one.
func TestReload(t *testing.T) {
	w := newWorld(t)
	dir := haproxytest.Dir(t) // the path of a socket must be short
	port := haproxytest.Ports(t, 1)[0]
	stats := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	args := []string{
		"-once", "-out", dir, "-http", fmt.Sprintf("127.0.0.1:%d", port), "-haproxy", w.haproxy(),
		"-stats-socket", stats.Path, "-reload", filepath.Join(dir, haproxytest.MasterSocket), "-state-file", filepath.Join(dir, "state"),
	}
	servers := func() (names []string) {
		rows, err := stats.Stats(t.Context())
		require.NoError(t, err)
		for _, r := range rows {
			if r.Proxy == "eu-1.media.web.http" && r.Server != "BACKEND" {
				names = append(names, r.Server+" at "+r.Addr)
			}
		}
		return names
	}
	// The first run cannot reload, because HAProxy does not run. HAProxy starts with its output.
	code, _, stderr := w.runAlone(args...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "reload")
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	require.NoError(t, err)
	haproxytest.StartMaster(t, dir, string(config))
	require.Equal(t, []string{"10.0.0.1:30081 at 10.0.0.1:30081", "10.0.0.2:30081 at 10.0.0.2:30081"}, servers())

	w.edit("eu-1/objects.yaml", "30081", "30091")
	code, _, stderr = w.runAlone(append(args, "-force")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Equal(t, []string{"10.0.0.1:30091 at 10.0.0.1:30091", "10.0.0.2:30091 at 10.0.0.2:30091"}, servers())
	require.FileExists(t, filepath.Join(dir, "state"))
}

func TestStickyKeepsTheSubset(t *testing.T) {
	w := newWorld(t)
	// Each service gets one node. With -sticky, the service keeps this node even if the cluster
	// gets better nodes.
	code, _, stderr := w.run("-once", "-sticky", "-nodes-per-service", "1")
	require.Equal(t, cli.ExitOK, code, stderr)
	before := w.report().Services
	more := testManifests
	for _, n := range strings.Fields("d e f g h i j k l m") {
		more += "- {apiVersion: v1, kind: Node, metadata: {name: " + n + "}, status: {addresses: [{type: InternalIP, address: 10.0.1." + string('0'+n[0]-'d') + "}]}}\n"
	}
	w.write("eu-1/objects.yaml", more)
	code, _, stderr = w.run("-once", "-sticky", "-nodes-per-service", "1", "-force")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Equal(t, before, w.report().Services)

	code, _, stderr = w.run("-once", "-nodes-per-service", "1", "-force")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NotEqual(t, before, w.report().Services, "without -sticky, services move to better nodes")
}

func TestExcludedNodesGetNoTraffic(t *testing.T) {
	w := newWorld(t)
	w.edit("eu-1/objects.yaml", "{name: b}", "{name: b, labels: {kubernetes.io/os: windows}}")
	code, _, stderr := w.run("-once", "-exclude-label", "kubernetes.io/os=windows", "-exclude-taint", "dedicated=batch")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, w.read("out/haproxy.cfg"), " 10.0.0.1:30080 ")
	require.NotContains(t, w.read("out/haproxy.cfg"), "10.0.0.2")
	require.Len(t, w.report().Clusters[0].Findings, 2)
	for _, flag := range []string{"-exclude-label", "-exclude-taint"} {
		code, _, stderr = w.run("-once", flag, "a b")
		require.Equal(t, cli.ExitUsage, code)
		require.Contains(t, stderr, flag+": nodeselect: ")
	}
}

// With -local-weights, the weight of a server is in proportion to the pods of its node. A small
// change of the number of pods changes no file.
func TestLocalWeights(t *testing.T) {
	w := newWorld(t)
	w.edit("eu-1/objects.yaml", "name: web}, spec: {", "name: web}, spec: {externalTrafficPolicy: Local, ")
	pods := func(a, b int) {
		var endpoints []string
		for i := range a + b {
			endpoints = append(endpoints, fmt.Sprintf("{addresses: [10.244.0.%d], nodeName: %s}", i+1, string("ab"[min(i/a, 1)])))
		}
		w.write("eu-1/slices.yaml", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: media, name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [`+strings.Join(endpoints, ", ")+`]}`)
	}
	run := func(args ...string) string {
		code, stdout, stderr := w.run(append(args, "-local-endpoints", "-local-weights", "-max-change", "50%")...)
		require.Equal(t, cli.ExitOK, code, stderr)
		return stdout
	}
	pods(3, 1)
	run("-once")
	weights := func() (found []string) {
		for _, m := range regexp.MustCompile(`10\.0\.0\.(\d+):30081 .*weight (\d+)`).FindAllStringSubmatch(w.read("out/haproxy.cfg"), -1) {
			found = append(found, m[1]+"="+m[2])
		}
		return found
	}
	require.Equal(t, []string{"1=150", "2=50"}, weights())
	require.Contains(t, w.read("out/report.json"), `"nodeWeights": [3, 1]}`)
	pods(4, 1)
	require.Contains(t, run("-once"), "unchanged")
	pods(6, 1)
	require.Contains(t, run("-once"), "written")
	require.Equal(t, []string{"1=171", "2=29"}, weights())
	require.Contains(t, run("-simulate"), "Local    2      7     4            1.00  1.00  0.0        0")
	code, _, stderr := w.run("-once", "-local-weights")
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, stderr, "-local-weights needs -local-endpoints")
}

func TestSimulatePrintsATable(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := w.run("-simulate")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "has no EndpointSlice")
	w.write("eu-1/slices.yaml", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: media, name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.0.1], nodeName: a}, {addresses: [10.244.0.2], nodeName: b}]}`)
	code, stdout, stderr := w.run("-simulate", "-terminators", "2", "-in-flight", "20")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "eu-1/media/web:http     Cluster  2      2 ")
	code, stdout, stderr = w.run("-simulate", "-connections", "1000")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "eu-1/media/web:http     Cluster  2      2     1000         1.02  1.08  ")
	require.NoFileExists(t, w.path("out/haproxy.cfg"))
	for _, args := range [][]string{{"-simulate", "-once"}, {"-simulate", "-in-flight", "-1"}, {"-simulate", "-connections", "-1"}, {"-simulate", "-target", "0"}} {
		code, _, _ = w.run(args...)
		require.Equal(t, cli.ExitUsage, code, args)
	}
}
