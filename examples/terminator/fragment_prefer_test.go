package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestFragmentPrefer changes the preferences and the regions of a fragment. The foreign frontend uses a
// map of networks with the same file name in another directory, and sends the requests for headgate's
// host to the fragment. No change needs a reload, and no change affects the foreign map.
func TestFragmentPrefer(t *testing.T) {
	t.Parallel()
	const near, far = "127.9.0.0/16", "192.0.2.0/24"
	w, plain := prepareShiftWorld(t, preferRoutes, "-trusted-proxies", "127.0.0.1/32", "-max-interval", "0")
	f := &fragment{world: plain, dir: w.dir, out: filepath.Join(w.dir, "out"), foreign: filepath.Join(w.dir, haproxytest.ConfigFile), web: haproxytest.Ports(t, 1)[0]}
	region := func(network string) { f.replace("regions.yaml", "regions: [{name: near, networks: ["+network+"]}]\n") }
	region(near)
	f.replaceForeign(f.config(""))
	w.dir, w.flags = f.out, append(w.flags, "-regions", f.path("regions.yaml"), "-fragment", f.foreign)
	w.watcher = plain.watchIn(w.dir, w.flags...)
	w.waitLog("the change is not in force") // HAProxy does not run yet

	fragmentMap := func(name string) string {
		files, err := filepath.Glob(filepath.Join(f.out, "maps", name+"-*.map"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		return files[0]
	}
	foreignMap := filepath.Join(f.dir, filepath.Base(fragmentMap("regions")))
	require.NoError(t, os.WriteFile(foreignMap, []byte("127.0.0.0/8 foreign\n"), 0o600))
	direct, err := url.Parse(w.url)
	require.NoError(t, err)
	config := strings.Replace(f.config(""), "    default_backend app\n", fmt.Sprintf(`    http-request set-var(txn.region) src,map_ip(%s)
    http-request deny if !{ var(txn.region) -m str foreign }
    use_backend to-fragment if { req.hdr(host) -m str api.example.com }
    default_backend app
backend to-fragment
    option forwardfor
    server fragment %s
`, foreignMap, direct.Host), 1)
	f.replaceForeign(config)
	haproxytest.StartMasterFiles(t, f.dir, config, f.out)
	w.waitReady()
	stop := f.load()
	w.url = fmt.Sprintf("http://127.0.0.1:%d/tracks", f.web)
	w.client.Transport = &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, 9, 9)}}).DialContext}

	w.eventually("the client is in the region near", w.only("eu-2"))
	worker, err := (&deploy.Runtime{Master: f.master()}).Worker(t.Context())
	require.NoError(t, err)
	entries, err := worker.Map(t.Context(), fragmentMap("prefer"))
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.Regexp(t, "^headgate-", e.Key)
		list, ok := edge.ParsePreferred(e.Value)
		require.True(t, ok, e.Value)
		for _, p := range list {
			require.Regexp(t, "^headgate-", p.Backend)
		}
	}
	code, text := w.explain("-admin", w.admin, "http://api.example.com/tracks")
	require.Equal(t, cli.ExitOK, code, text)
	require.Contains(t, text, "Now eu-2 serves them")

	region(far)
	w.eventually("the client is in no region", w.only("eu-1"))
	f.substitute("routes.yaml", "- {clusters: [eu-1]}", "- {clusters: [eu-2]}")
	w.eventually("another preference of clients in no region", w.only("eu-2"))
	f.substitute("routes.yaml", "clusters: [eu-2, eu-1]", "clusters: [eu-1, eu-2]")
	f.replaceForeign(config + "    bogus\n")
	region(near)
	w.eventually("the foreign file has a fault, and the client is in the region near", w.only("eu-1"))
	region(far)
	w.eventually("the client is in no region again", w.only("eu-2"))
	now, err := (&deploy.Runtime{Master: f.master()}).Worker(t.Context())
	require.NoError(t, err)
	require.Equal(t, worker, now, "no reload")
	entries, err = now.Map(t.Context(), foreignMap)
	require.NoError(t, err)
	require.Equal(t, []runtimeapi.MapEntry{{Key: "127.0.0.0/8", Value: "foreign"}}, entries)
	stop()
}
