package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// fragment is an HAProxy with a haproxy.cfg of somebody else, and the files of a terminator in the
// directory "out".
type fragment struct {
	*world
	dir, out        string // of the foreign haproxy.cfg, and of the fragment
	foreign         string // the path of the foreign haproxy.cfg
	web, edge, node int    // ports: of the foreign frontend, of the terminator, and of the service
	args            []string
}

// newFragment makes a world with one service on the node 127.0.0.1. Its foreign haproxy.cfg has
// defaults that would be visible in the answers of the terminator's routes.
func newFragment(t *testing.T) *fragment {
	w := newWorld(t)
	ports := haproxytest.Ports(t, 3)
	f := &fragment{world: w, dir: haproxytest.Dir(t), web: ports[0], edge: ports[1], node: ports[2]}
	f.out = filepath.Join(f.dir, "out")
	f.foreign = filepath.Join(f.dir, haproxytest.ConfigFile)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", f.node))
	require.NoError(t, err)
	service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "service of "+r.Host)
	})}
	go func() { _ = service.Serve(l) }()
	t.Cleanup(func() { _ = service.Close() })
	w.write("routes.yaml", f.routes("one.example.com"))
	w.write("eu-1/objects.yaml", "apiVersion: v1\nkind: List\nitems:\n"+
		fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", f.node)+
		"- {apiVersion: v1, kind: Node, metadata: {name: n0}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}\n")
	f.args = []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", f.edge), "-haproxy", w.haproxy(), "-max-change", "100%", "-max-interval", "0",
		"-fragment", f.foreign, "-reload", filepath.Join(f.dir, haproxytest.MasterSocket), "-node-health", "kube-proxy",
	}
	return f
}

// routes returns declarations of hosts. Each host is served by the service "web" with a check: a
// host after the first one has another interval, so that it needs a backend of its own.
func (f *fragment) routes(hosts ...string) string {
	text := "routes:\n"
	for i, host := range hosts {
		text += fmt.Sprintf("- host: %s\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: %dms}\n", host, 100+i)
	}
	return text
}

// config returns a foreign haproxy.cfg. The argument "more" is its end.
func (f *fragment) config(more string) string {
	return fmt.Sprintf(`global
    stats socket %s/%s level admin
    hard-stop-after 1h
defaults
    mode http
    timeout client 7s
    timeout server 7s
    timeout connect 7s
    option httpclose
    retries 0
frontend web
    bind 127.0.0.1:%d
    default_backend app
backend app
    http-request return status 200 content-type text/plain string 'the app'
%s`, f.dir, haproxytest.StatsSocket, f.web, more)
}

func (f *fragment) master() runtimeapi.Socket {
	return runtimeapi.Socket{Path: filepath.Join(f.dir, haproxytest.MasterSocket)}
}

func (f *fragment) replaceForeign(text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(f.foreign+".new", []byte(text), 0o600))
	require.NoError(f.t, os.Rename(f.foreign+".new", f.foreign))
}

// get returns the status and the body of the answer for a host at a port.
func (f *fragment) get(port int, host string) string {
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), http.NoBody)
	if err != nil {
		return err.Error()
	}
	r.Host, r.Close = host, true
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(response.StatusCode, " ", string(body))
}

// serves waits until a request for the host gets the answer.
func (w *watcher) serves(f *fragment, host, answer string) {
	w.t.Helper()
	w.eventually(host+" gets "+answer, func() bool { return f.get(f.edge, host) == answer })
}

// load sends requests to the foreign frontend until the test calls the result. It fails the test if
// a request fails.
func (f *fragment) load() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var failed atomic.Pointer[string]
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if answer := f.get(f.web, "app.example.com"); answer != "200 the app" && failed.CompareAndSwap(nil, &answer) {
				return
			}
			sent.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() {
		f.t.Helper()
		cancel()
		<-done
		if answer := failed.Load(); answer != nil {
			f.t.Fatalf("after %d requests, the foreign frontend answers %s", sent.Load(), *answer)
		}
		require.Positive(f.t, sent.Load())
	}
}

// TestFragment runs an HAProxy with a foreign haproxy.cfg and a fragment. The terminator adds,
// changes and removes routes, with and without reloads, while the foreign frontend gets requests.
func TestFragment(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	f.replaceForeign(f.config(""))
	// HAProxy runs without the fragment: the terminator writes its files, and does not reload.
	process := haproxytest.StartMaster(t, f.dir, f.config(""))
	v := f.watchIn(f.out, f.args...)
	v.waitLog("HAProxy does not load the fragment after the foreign files")
	require.Contains(t, v.log.String(), "Start HAProxy with -f "+f.foreign+" -f "+filepath.Join(f.out, "haproxy.cfg"))
	require.FileExists(t, filepath.Join(f.out, "haproxy.cfg"))
	list, err := f.master().Do(t.Context(), "show proc")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^\d+\s+master\s+0 `, list, "the master has not reloaded")
	process.Stop()

	haproxytest.StartMasterFiles(t, f.dir, f.config(""), filepath.Join(f.out, "haproxy.cfg"))
	stop := f.load()
	v.waitReady()
	v.serves(f, "one.example.com", "200 service of one.example.com")

	t.Log("a new backend, which needs a reload")
	f.replace("routes.yaml", f.routes("one.example.com", "two.example.com"))
	v.serves(f, "two.example.com", "200 service of two.example.com")
	t.Log("a new host of a known service, without a reload")
	f.replace("routes.yaml", strings.ReplaceAll(f.routes("one.example.com", "two.example.com", "three.example.com"), "102ms", "101ms"))
	v.serves(f, "three.example.com", "200 service of three.example.com")
	v.waitLog(`"without reload"=true added=0 removed=0 changed=0 servers=2 services=0 causes="Route three.example.com/: added"`)
	t.Log("removed")
	f.replace("routes.yaml", f.routes("one.example.com"))
	v.serves(f, "two.example.com", "404 404 not found")

	// The fragment has its own defaults, and the foreign frontend keeps the foreign ones.
	require.False(t, f.closes(f.edge), "option httpclose is a foreign default")
	require.True(t, f.closes(f.web))
	stop()
}

// closes reports whether HAProxy closes the connection after one answer at the port.
func (f *fragment) closes(port int) bool {
	f.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(f.t, err)
	defer conn.Close()
	require.NoError(f.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: one.example.com\r\n\r\n")
	require.NoError(f.t, err)
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	require.NoError(f.t, err)
	return strings.Contains(strings.ToLower(string(buffer[:n])), "connection: close")
}

// TestFragmentAndAFaultOfTheForeignFile: while the foreign file has a fault, changes that need no
// reload are still applied. A change that needs a reload waits, and the message names the foreign
// file.
func TestFragmentAndAFaultOfTheForeignFile(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	f.replaceForeign(f.config(""))
	code, _, stderr := f.runAlone(append(f.args, "-once", "-out", f.out)...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "no HAProxy listens")
	haproxytest.StartMasterFiles(t, f.dir, f.config(""), f.out) // the directory
	v := f.watchIn(f.out, f.args...)
	v.waitReady()
	v.serves(f, "one.example.com", "200 service of one.example.com")

	f.replaceForeign(f.config("    bogus\n"))
	f.replace("routes.yaml", strings.ReplaceAll(f.routes("one.example.com", "two.example.com"), "101ms", "100ms"))
	v.serves(f, "two.example.com", "200 service of two.example.com")
	v.waitReportIn(f.out, "in force", func(r kube.Report) bool { return r.Refused == nil })

	f.replace("routes.yaml", f.routes("one.example.com", "two.example.com"))
	report := v.waitReportIn(f.out, "refused", func(r kube.Report) bool { return r.Refused != nil })
	require.Contains(t, report.Refused.Reason, "the fault is not in the fragment")
	require.Contains(t, report.Refused.Reason, f.foreign+":")
	require.Contains(t, report.Refused.Reason, "unknown keyword 'bogus'")
	require.Equal(t, "200 service of two.example.com", f.get(f.edge, "two.example.com"))

	f.replaceForeign(f.config(""))
	v.waitReportIn(f.out, "repaired", func(r kube.Report) bool { return r.Refused == nil })
	v.serves(f, "two.example.com", "200 service of two.example.com")
}

// TestFragmentFlags runs the terminator once or with -diff.
func TestFragmentFlags(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	once := func(flags ...string) (code int, stdout, stderr string) {
		args := append([]string{"-once", "-out", f.out, "-haproxy", f.haproxy(), "-fragment", f.foreign, "-http", fmt.Sprintf("127.0.0.1:%d", f.edge)}, flags...)
		return f.runAlone(args...)
	}
	f.replaceForeign(f.config("backend shared-x\n"))
	code, _, stderr := once("-fragment-prefix", "shared-")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, `backend "shared-x" begins with "shared-", the prefix of all names in `+filepath.Join(f.out, "haproxy.cfg"))
	require.Contains(t, stderr, f.foreign+":")
	require.NoFileExists(t, filepath.Join(f.out, "haproxy.cfg"))

	code, _, stderr = once("-buffer-size", "32768")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "haproxy warns: "+f.foreign+": the section global has no tune.bufsize, and the fragment needs at least 32768")
	code, stdout, stderr := f.runAlone("-diff", "-out", f.out, "-haproxy", f.haproxy(), "-fragment", f.foreign, "-http", ":8080")
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Contains(t, stdout, "frontend headgate-http")

	for _, tc := range []struct {
		flags []string
		want  string
	}{
		{[]string{"-haproxy", ""}, "-fragment needs -haproxy"},
		{[]string{"-fragment-prefix", ""}, "-fragment-prefix must not be empty"},
		{[]string{"-fragment-prefix", "a b"}, `prefix "a b"`},
		{[]string{"-user", "haproxy"}, "no User"},
	} {
		code, _, stderr := once(tc.flags...)
		require.Equal(t, cli.ExitUsage, code, stderr)
		require.Contains(t, stderr, tc.want)
	}
}

// TestFragmentPage uses the sections "global" and the frontend of FRAGMENT.md in a foreign file.
func TestFragmentPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("FRAGMENT.md")
	require.NoError(t, err)
	block := func(first string) string {
		_, text, ok := strings.Cut(string(page), "```\n"+first+"\n")
		require.True(t, ok, first)
		text, _, ok = strings.Cut(text, "```")
		require.True(t, ok, first)
		return first + "\n" + text
	}
	f := newFragment(t)
	replace := func(text string, pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			require.Contains(t, text, pairs[i])
		}
		return strings.NewReplacer(pairs...).Replace(text)
	}
	stats, state := filepath.Join(f.dir, haproxytest.StatsSocket), filepath.Join(f.dir, "state")
	global := replace(block("global"), "/run/haproxy/admin.sock", stats, "/var/lib/headgate/state", state)
	front := replace(block("frontend web"), "bind :443 ssl crt /etc/haproxy/site.pem", fmt.Sprintf("bind 127.0.0.1:%d", f.web),
		"127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", f.edge), ".apps.example.com", "one.example.com")
	_, rest, _ := strings.Cut(f.config(""), "defaults\n")
	rest, app, _ := strings.Cut(rest, "frontend web\n")
	_, app, _ = strings.Cut(app, "\nbackend app\n")
	config := global + "defaults\n" + rest + front + "backend app\n" + app
	f.replaceForeign(config)
	args := append(f.args, "-out", f.out, "-once", "-trusted-proxies", "127.0.0.0/8", "-stats-socket", stats, "-state-file", state,
		"-buffer-size", "32768", "-max-headers", "200", "-hard-stop-after", "24h")
	code, _, stderr := f.runAlone(args...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "no HAProxy listens")
	require.NotContains(t, stderr, "haproxy warns")
	haproxytest.StartMasterFiles(t, f.dir, config, f.out)
	code, _, stderr = f.runAlone(args...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NotContains(t, stderr, "haproxy warns")
	require.Equal(t, "200 service of one.example.com", f.get(f.web, "one.example.com"))
	require.Equal(t, "200 the app", f.get(f.web, "app.example.com"))
	require.FileExists(t, state)
}

// TestFragmentCommands explains, changes, rolls back and moves routes of a fragment with the
// subcommands of the terminator, while the foreign frontend gets requests.
func TestFragmentCommands(t *testing.T) {
	t.Parallel()
	w, plain := prepareShiftWorld(t, shiftRoutes)
	f := &fragment{world: plain, dir: w.dir, out: filepath.Join(w.dir, "out"), foreign: filepath.Join(w.dir, haproxytest.ConfigFile), web: haproxytest.Ports(t, 1)[0]}
	f.replaceForeign(f.config(""))
	w.dir, w.flags = f.out, append(w.flags, "-fragment", f.foreign, "-max-interval", "0")
	w.watcher = plain.watchIn(w.dir, w.flags...)
	w.waitLog("the change is not in force") // HAProxy does not run yet
	haproxytest.StartMasterFiles(t, f.dir, f.config(""), f.out)
	w.waitReady()
	stop := f.load()

	var text string
	w.eventually("explain shows the servers", func() bool {
		var code int
		code, text = w.explain("-admin", w.admin, "http://api.example.com/tracks/7")
		return code == cli.ExitOK && strings.Count(text, "; now UP, weight ") == 2
	})
	require.Contains(t, text, "headgate-eu-1.media.tracks.http:", text)
	w.share(0, 20)

	added := shiftRoutes + "- host: new.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: tracks, port: http}\n  check: {interval: 100ms}\n"
	w.replace("routes.yaml", added)
	w.eventually("HAProxy serves the new host", func() bool { return w.status("new.example.com") == 200 })
	w.eventually("the change is in the journal", func() bool {
		_, lines := w.journal("-admin", w.admin)
		return strings.Contains(lines[0], "new.example.com/: added")
	})
	_, text = w.order("rollback", "-reason", "errors of new") // as the release below
	require.Contains(t, text, "in force")
	w.eventually("HAProxy does not serve the new host", func() bool { return w.status("new.example.com") == 404 })
	_, text = w.order("release") // the reload may have to wait for the pause after the last one
	require.Contains(t, text, "in force")
	w.eventually("HAProxy serves the new host again", func() bool { return w.status("new.example.com") == 200 })

	code, text := w.shift("api.example.com/tracks", "-to", "eu-2:100", "-for", "1h", "-steps", "100", "-hold", "100ms")
	require.Equal(t, cli.ExitOK, code, text)
	w.share(100, 50)
	code, text = w.shift("api.example.com/tracks", "-undo")
	require.Equal(t, cli.ExitOK, code, text)
	w.share(0, 50)
	stop()
}

// TestFragmentCertificates renews a certificate of a fragment. HAProxy serves the new certificate
// without a reload, although the list of a fragment contains absolute paths.
func TestFragmentCertificates(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	f.replaceForeign(f.config(""))
	https, certs := fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]), f.path("certificates")
	require.NoError(t, os.Mkdir(certs, 0o700))
	first, other, second := issue(t, nextMonth(), "one.example.com"), issue(t, nextMonth(), "two.example.com"), issue(t, nextMonth(), "one.example.com")
	f.write("certificates/one.pem", first.file())
	f.write("certificates/two.pem", other.file())
	args := append(f.args, "-https", https, "-certificates", certs)
	code, _, stderr := f.runAlone(append(args, "-once", "-out", f.out)...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "no HAProxy listens")
	haproxytest.StartMasterFiles(t, f.dir, f.config(""), f.out)
	w := &tlsWorld{f.watchIn(f.out, args...), f.out, https, certs, args}
	w.waitReady()
	w.waitServed("one.example.com", first)
	before, err := f.master().Do(t.Context(), "show proc")
	require.NoError(t, err)
	reloads := regexp.MustCompile(`(?m)^\d+\s+master\s+\d+ `)
	require.Regexp(t, reloads, before)

	w.put("one.pem", second.file())
	w.waitServed("one.example.com", second)
	w.waitServed("two.example.com", other)
	w.waitLog(`"without reload"=true`)
	after, err := f.master().Do(t.Context(), "show proc")
	require.NoError(t, err)
	require.Equal(t, reloads.FindString(before), reloads.FindString(after))
}

// TestFragmentCutsNoForeignStream reloads HAProxy while old processes have streams of the foreign
// frontend. The terminator waits at -max-old-workers, and then reloads without an end of a process.
func TestFragmentCutsNoForeignStream(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	echo, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", haproxytest.Ports(t, 1)[0]))
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(echoLines)}
	go func() { _ = server.Serve(echo) }()
	t.Cleanup(func() { _ = server.Close() })
	config := strings.ReplaceAll(f.config(""), "7s", "1m")
	config = strings.Replace(config, "    http-request return status 200 content-type text/plain string 'the app'\n", "    server echo "+echo.Addr().String()+"\n", 1)
	f.replaceForeign(config)
	args := append(f.args, "-max-old-workers", "1", "-max-reload-wait", "200ms")
	code, _, stderr := f.runAlone(append(args, "-once", "-out", f.out)...)
	require.Equal(t, cli.ExitFailed, code, stderr)
	haproxytest.StartMasterFiles(t, f.dir, config, f.out)
	v := f.watchIn(f.out, args...)
	v.waitReady()
	hosts := []string{"one.example.com"}
	var held []*stream
	for _, host := range []string{"two.example.com", "three.example.com", "four.example.com"} {
		held = append(held, openStream(t, fmt.Sprintf("127.0.0.1:%d", f.web)))
		hosts = append(hosts, host)
		f.replace("routes.yaml", f.routes(hosts...))
		v.serves(f, host, "200 service of "+host)
		haproxytest.AwaitOldWorkers(t, f.dir)
	}
	require.Contains(t, v.log.String(), "the reload waits for old workers")
	v.waitMetric("headgate_terminator_old_workers 3")
	v.waitMetric("headgate_terminator_old_workers_ended_total 0")
	for _, s := range held {
		require.NoError(t, s.echo())
	}
}
