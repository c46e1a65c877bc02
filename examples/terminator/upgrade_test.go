package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestUpgradeOfHAProxy replaces the haproxy binary while HAProxy runs and a client sends requests.
// It starts with the oldest haproxy of this machine and continues with each later one. The
// terminator makes the configuration for the new version, and its reload starts the new binary. No
// request fails.
func TestUpgradeOfHAProxy(t *testing.T) {
	t.Parallel()
	type binary struct {
		path    string
		version haproxycfg.Version
	}
	var binaries []binary
	for _, path := range haproxytest.Binaries(t) {
		v, err := deploy.Checker{Haproxy: path}.Version(t.Context())
		require.NoError(t, err)
		binaries = append(binaries, binary{path, v})
	}
	slices.SortFunc(binaries, func(a, b binary) int {
		return cmp.Or(cmp.Compare(a.version.Major, b.version.Major), cmp.Compare(a.version.Minor, b.version.Minor))
	})
	w := newWorld(t)
	dir := haproxytest.Dir(t) // the path of a socket must be short
	link := filepath.Join(dir, "haproxy")
	install := func(b binary) {
		require.NoError(t, os.Symlink(b.path, link+".new"))
		require.NoError(t, os.Rename(link+".new", link))
	}
	ports := haproxytest.Ports(t, 2)
	serve(t, fmt.Sprintf("127.0.0.1:%d", ports[1]), "web")
	nodes := func(n int) string {
		text := "apiVersion: v1\nkind: List\nitems:\n" +
			fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", ports[1])
		for i := range n {
			text += fmt.Sprintf("- {apiVersion: v1, kind: Node, metadata: {name: n%d}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}\n", i)
		}
		return text
	}
	w.write("eu-1/objects.yaml", nodes(1))
	route := func(path string) string {
		return "- host: www.example.com\n  path: " + path + "\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: 100ms}\n"
	}
	w.write("routes.yaml", "routes:\n"+route("/"))
	stats := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	master := filepath.Join(dir, haproxytest.MasterSocket)
	args := []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[0]), "-haproxy", link, "-stats-socket", stats.Path,
		"-reload", master, "-state-file", filepath.Join(dir, "state"), "-node-health", "kube-proxy",
	}
	install(binaries[0])
	v := w.watchIn(dir, args...)
	v.waitLog("the change is not in force") // HAProxy does not run yet, so the reload fails
	h, err := haproxyproc.Start(t.Context(), haproxyproc.Options{
		Path: link, Config: filepath.Join(dir, "haproxy.cfg"), Dir: dir, StatsSocket: stats.Path, MasterSocket: master,
	})
	require.NoError(t, err)
	t.Cleanup(h.Stop)
	v.waitReady()
	client := startClient(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), "www.example.com")
	client.waitFor("web")
	for i, b := range binaries {
		install(b)
		// A change starts the next attempt now. Without a change, it would begin after up to 30 s.
		w.replace("routes.yaml", w.read("routes.yaml")+route(fmt.Sprintf("/added-%d", i)))
		v.eventually("HAProxy "+b.version.String(), func() bool {
			info, err := stats.Do(t.Context(), "show info")
			return err == nil && strings.Contains(info, "\nVersion: "+b.version.String()+".")
		})
		v.waitLog(fmt.Sprintf("/added-%d: added", i))
		text, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
		require.NoError(t, err)
		require.Equal(t, b.version.AtLeast(3, 2), strings.Contains(string(text), "option http-drop-request-trailers"))
		client.more(50)
	}
	require.Equal(t, cli.ExitOK, v.stop())
	require.Zero(t, client.stop(), "failed requests")
}
