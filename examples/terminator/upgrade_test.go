package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// upgrades is a world in which the haproxy binary is a symbolic link. To install another version, a
// test replaces the link.
type upgrades struct {
	*world
	binaries      []versioned // all haproxies of this machine, the oldest first
	dir, link     string
	http          string
	stats, master string
	args          []string
}

// versioned is a haproxy binary.
type versioned struct {
	path    string
	version haproxycfg.Version
}

func newUpgrades(t *testing.T) *upgrades {
	u := &upgrades{world: newWorld(t), dir: haproxytest.Dir(t)} // the path of a socket must be short
	for _, path := range haproxytest.Binaries(t) {
		v, err := deploy.Checker{Haproxy: path}.Version(t.Context())
		require.NoError(t, err)
		u.binaries = append(u.binaries, versioned{path, v})
	}
	slices.SortFunc(u.binaries, func(a, b versioned) int {
		return cmp.Or(cmp.Compare(a.version.Major, b.version.Major), cmp.Compare(a.version.Minor, b.version.Minor))
	})
	u.link = filepath.Join(u.dir, "haproxy")
	u.stats, u.master = filepath.Join(u.dir, haproxytest.StatsSocket), filepath.Join(u.dir, haproxytest.MasterSocket)
	ports := haproxytest.Ports(t, 2)
	u.http = fmt.Sprintf("127.0.0.1:%d", ports[0])
	serve(t, fmt.Sprintf("127.0.0.1:%d", ports[1]), "web")
	u.write("eu-1/objects.yaml", "apiVersion: v1\nkind: List\nitems:\n"+
		fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", ports[1])+
		"- {apiVersion: v1, kind: Node, metadata: {name: n0}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}\n")
	u.write("routes.yaml", "routes:\n")
	u.addRoute("/")
	u.args = []string{
		"-http", u.http, "-haproxy", u.link, "-stats-socket", u.stats, "-reload", u.master,
		"-state-file", filepath.Join(u.dir, "state"), "-node-health", "kube-proxy",
	}
	return u
}

func (u *upgrades) install(b versioned) {
	u.t.Helper()
	require.NoError(u.t, os.Symlink(b.path, u.link+".new"))
	require.NoError(u.t, os.Rename(u.link+".new", u.link))
}

// addRoute adds a route. This starts the next attempt of the terminator now. Without a change, the
// attempt would begin after up to 30 s.
func (u *upgrades) addRoute(path string) {
	u.t.Helper()
	routes := u.read("routes.yaml")
	// No other route has this interval, so the route has a backend of its own, and needs a reload.
	interval := 100 + strings.Count(routes, "- host")
	u.replace("routes.yaml", routes+"- host: www.example.com\n  path: "+path+
		fmt.Sprintf("\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: %dms}\n", interval))
}

func (u *upgrades) start() *haproxyproc.Process {
	u.t.Helper()
	h, err := haproxyproc.Start(u.t.Context(), haproxyproc.Options{
		Path: u.link, Config: filepath.Join(u.dir, "haproxy.cfg"), Dir: u.dir, StatsSocket: u.stats, MasterSocket: u.master,
		ReadyTimeout: time.Minute,
	})
	require.NoError(u.t, err)
	u.t.Cleanup(h.Stop)
	return h
}

// config returns the text of haproxy.cfg.
func (u *upgrades) config() string {
	u.t.Helper()
	text, err := os.ReadFile(filepath.Join(u.dir, "haproxy.cfg"))
	require.NoError(u.t, err)
	return string(text)
}

// runs reports whether an HAProxy of this version runs.
func (u *upgrades) runs(v haproxycfg.Version) bool {
	info, err := runtimeapi.Socket{Path: u.stats}.Do(u.t.Context(), "show info")
	return err == nil && strings.Contains(info, "\nVersion: "+v.String()+".")
}

const since32 = "option http-drop-request-trailers" // a line for HAProxy 3.2 and later

// TestUpgradeOfHAProxy replaces the haproxy binary while HAProxy runs and a client sends requests.
// It starts with the oldest haproxy of this machine and continues with each later one. The
// terminator makes the configuration for the new version, and its reload starts the new binary. No
// request fails.
func TestUpgradeOfHAProxy(t *testing.T) {
	t.Parallel()
	u := newUpgrades(t)
	u.install(u.binaries[0])
	v := u.watchIn(u.dir, u.args...)
	v.waitLog(deploy.ErrNoMaster.Error())
	u.start()
	v.waitReady()
	client := startClient(t, "http://"+u.http+"/", "www.example.com")
	client.waitFor("web")
	for i, b := range u.binaries {
		u.install(b)
		added := fmt.Sprintf("/added-%d", i)
		u.addRoute(added)
		v.eventually("HAProxy "+b.version.String(), func() bool { return u.runs(b.version) })
		v.waitLog(added + ": added")
		require.Equal(t, b.version.AtLeast(3, 2), strings.Contains(u.config(), since32), b.version)
		client.more(50)
	}
	require.Equal(t, cli.ExitOK, v.stop())
	require.Zero(t, client.stop(), "failed requests")
}

// TestDowngradeOfHAProxy replaces the haproxy binary by the oldest one of this machine while
// HAProxy is stopped. The oldest HAProxy may refuse the configuration of the newest one. The
// terminator makes a new configuration. HAProxy starts with it, although no reload was possible.
func TestDowngradeOfHAProxy(t *testing.T) {
	t.Parallel()
	u := newUpgrades(t)
	oldest, newest := u.binaries[0], u.binaries[len(u.binaries)-1]
	u.install(newest)
	v := u.watchIn(u.dir, u.args...)
	v.waitLog(deploy.ErrNoMaster.Error())
	h := u.start()
	v.waitReady()
	require.Equal(t, newest.version.AtLeast(3, 2), strings.Contains(u.config(), since32))
	v.eventually("a reload", func() bool { return strings.Contains(v.log.String(), "msg=applied") })

	attempts := func() int { return strings.Count(v.log.String(), deploy.ErrNoMaster.Error()) }
	h.Stop()
	u.install(oldest)
	before, failed := u.config(), attempts() // HAProxy may have started slowly
	u.addRoute("/added")
	v.eventually("an attempt", func() bool { return attempts() > failed })
	require.Equal(t, oldest.version.AtLeast(3, 2), strings.Contains(u.config(), since32))
	require.NotEqual(t, before, u.config(), "the last good configuration is not put back")
	u.start()
	v.waitLog("/added: added")
	require.True(t, u.runs(oldest.version))
	require.Equal(t, cli.ExitOK, v.stop())
}
