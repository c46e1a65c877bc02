package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
)

// manyRoutes declares the hosts h01.example.com and further, and the service of each.
func manyRoutes(from, to int, service func(i int) string) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "- host: h%02d.example.com\n  path: /\n  backends: [{cluster: eu-1, namespace: ns, service: %s, port: http}]\n", i, service(i))
	}
	return b.String()
}

// manyServices are the manifests of a cluster with 3 nodes and services s01, s02 and further.
func manyServices(n int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	for i := range 3 {
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Node, metadata: {name: n%d}, status: {addresses: [{type: InternalIP, address: 192.0.2.%d}]}}\n", i, i+1)
	}
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Service, metadata: {namespace: ns, name: s%02d}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", i, 30080+i)
	}
	return b.String()
}

// TestMaxChangeCountsWhatClientsLose makes two kinds of changes: changes that remove hosts or paths
// while most servers stay, and changes that add more than they remove. With the default
// -max-change, the terminator refuses each of these changes.
func TestMaxChangeCountsWhatClientsLose(t *testing.T) {
	one := func(int) string { return "s01" }
	each := func(i int) string { return fmt.Sprintf("s%02d", i) }
	all := "routes:\n" + manyRoutes(1, 24, one)
	eachOf := "routes:\n" + manyRoutes(1, 24, each)
	other := "routes:\n- {host: other.example.com, backends: [{cluster: eu-1, namespace: ns, service: s01, port: http}]}\n"
	for _, c := range []struct {
		name          string
		before, after string
		further       bool // other.yaml is a second file
		want          string
	}{
		{"hosts deleted", all, "routes:\n" + manyRoutes(1, 5, one), false, "79.2% of the hosts and 79.2% of the paths would go"},
		{"a typo in a field", all, strings.Replace(strings.ReplaceAll(all, "host:", "hots:"), "hots:", "host:", 3), false, "87.5% of the hosts"},
		{"renamed hosts", all, strings.ReplaceAll(all, "example", "exmaple"), false, "100.0% of the hosts"},
		{"moved paths", all, strings.ReplaceAll(all, "path: /", "path: /x"), false, "100.0% of the hosts and 100.0% of the paths"},
		{"added more than removed", all, "routes:\n" + manyRoutes(10, 99, one), false, "37.5% of the hosts"},
		{"nothing in one of two files", all, "routes:\n# - host: h01.example.com\n", true, "96.0% of the hosts"},
		{"an empty list in one of two files", all, "routes: []\n", true, "96.0% of the hosts"},
		{"a typo in the name of the service", all, strings.ReplaceAll(all, "s01", "x01"), false, "100.0% of the hosts, 100.0% of the paths, 100.0% of the backends and 50.0% of the servers"},
		{"exact in place of prefix", all, strings.ReplaceAll(all, "path: /", "path: /\n  exact: true"), false, "100.0% of the hosts and 100.0% of the paths"},
		{"another service", all, strings.ReplaceAll(all, "s01", "s02"), false, "100.0% of the paths, 100.0% of the backends"},
		{"many small services", eachOf, strings.ReplaceAll(eachOf, "service: s0", "service: x0"), false, "37.5% of the hosts, 37.5% of the paths, 37.5% of the backends and 36.0% of the servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("eu-1/objects.yaml", manyServices(24))
			w.write("routes.yaml", c.before)
			args := []string{"-once"}
			if c.further {
				w.write("other.yaml", other)
				args = append(args, "-routes", w.path("other.yaml"))
			}
			code, _, stderr := w.run(args...)
			require.Equal(t, cli.ExitOK, code, stderr)
			before := w.read("out/haproxy.cfg")

			w.write("routes.yaml", c.after)
			code, _, stderr = w.run(args...)
			require.Equal(t, cli.ExitFailed, code, stderr)
			require.Contains(t, stderr, c.want)
			require.Regexp(t, `the largest losses are .*\(.*\(change [0-9a-f]{16}\).*-force applies it`, stderr)
			require.Equal(t, before, w.read("out/haproxy.cfg"))
			// The limit does not depend on the report.
			require.NoError(t, os.Remove(w.path("out/report.json")))
			code, _, stderr = w.run(args...)
			require.Equal(t, cli.ExitFailed, code, stderr)
			require.Contains(t, stderr, c.want)
			code, _, stderr = w.run(append(args, "-force")...)
			require.Equal(t, cli.ExitOK, code, stderr)
		})
	}
	t.Run("a file that is not given any more", func(t *testing.T) {
		w := newWorld(t)
		w.write("eu-1/objects.yaml", manyServices(24))
		w.write("routes.yaml", other)
		w.write("all.yaml", all)
		code, _, stderr := w.run("-once", "-routes", w.path("all.yaml"))
		require.Equal(t, cli.ExitOK, code, stderr)
		code, _, stderr = w.run("-once")
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, stderr, "96.0% of the hosts")
	})
	t.Run("small changes and additions", func(t *testing.T) {
		w := newWorld(t)
		w.write("eu-1/objects.yaml", manyServices(24))
		for _, text := range []string{manyRoutes(1, 20, one), manyRoutes(1, 90, one), manyRoutes(20, 90, each)} {
			w.write("routes.yaml", "routes:\n"+text)
			w.run("-once")
			require.Contains(t, w.read("out/haproxy.cfg"), "s01")
		}
	})
}

// TestMaxChangeSmallServices checks that a backend without servers counts as lost, even if the
// other backends have all their servers.
func TestMaxChangeSmallServices(t *testing.T) {
	w := newWorld(t)
	w.write("eu-1/objects.yaml", manyServices(3))
	w.write("routes.yaml", "routes:\n"+manyRoutes(1, 3, func(i int) string { return fmt.Sprintf("s%02d", i) }))
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	w.edit("eu-1/objects.yaml", "name: s03}", "name: x03}")
	w.edit("eu-1/objects.yaml", "30083", "31083")
	code, _, stderr = w.run("-once")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "33.3% of the hosts, 33.3% of the paths and 33.3% of the backends would go or change")
	require.Contains(t, stderr, "hosts 1 of 3 (h03.example.com); paths 1 of 3 (h03.example.com/); backends 1 of 3 (eu-1.ns.s03.http)")
}

// TestMaxChangeMisdirectedServers checks that -max-change does not count the loss of a server if
// its node port now belongs to another Service.
func TestMaxChangeMisdirectedServers(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		refused        bool
	}{
		{"another Service has the port", "nodePort: 30081}]}}", "nodePort: 31111}]}}\n" + service("other", 30081), false},
		{"another port of the Service has it", "ports: [{name: http, port: 80, nodePort: 30081}]", "ports: [{name: http, port: 80, nodePort: 31111}, {name: admin, port: 81, nodePort: 30081}]", false},
		{"the port checks the health of a Service", "nodePort: 30081}]}}", "nodePort: 31111}]}}\n" + strings.ReplaceAll(service("other", 32000), "spec: {", "spec: {healthCheckNodePort: 30081, "), false},
		{"the Service is gone", "name: s01}", "name: other}", false},
		{"nothing has the port", "30081", "31111", true},
		{"UDP has the port", "nodePort: 30081}]}}", "nodePort: 31111}]}}\n" + strings.ReplaceAll(service("other", 30081), "port: 80,", "port: 80, protocol: UDP,"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("eu-1/objects.yaml", manyServices(1))
			w.write("routes.yaml", "routes:\n"+manyRoutes(1, 1, func(int) string { return "s01" }))
			code, _, stderr := w.run("-once")
			require.Equal(t, cli.ExitOK, code, stderr)
			w.edit("eu-1/objects.yaml", c.old, c.new)
			code, _, stderr = w.run("-once")
			if c.refused {
				require.Equal(t, cli.ExitFailed, code)
				require.Contains(t, stderr, "of the servers would go or change")
				return
			}
			require.Equal(t, cli.ExitOK, code, stderr)
			require.NotContains(t, w.read("out/haproxy.cfg"), ":30081")
		})
	}
}

func service(name string, port int) string {
	return fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: ns, name: %s}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}", name, port)
}

// TestFileLimits checks that one file cannot use up the limits of all files together. The other
// file then loses no route, and routes in force stay.
func TestFileLimits(t *testing.T) {
	const shop = "routes:\n- {host: shop.example.com, backends: [{cluster: eu-1, namespace: ns, service: s01, port: http}]}\n"
	tenant := func(n int, fields string) string {
		var b strings.Builder
		b.WriteString("routes:\n")
		for i := range n {
			fmt.Fprintf(&b, "- {host: t.example.com, path: /%d, backends: [{cluster: eu-1, namespace: ns, service: s%02d, port: http}]%s}\n", i, 1+i%24, strings.ReplaceAll(fields, "I", fmt.Sprint(i)))
		}
		return b.String()
	}
	agents := strings.ReplaceAll(manyServices(24), "namespace: ns,", `namespace: ns, annotations: {headgate.dev/agent-port: "9801"},`)
	for i := 1; i <= 24; i++ { // each service needs a port of its own
		agents = strings.Replace(agents, `"9801"`, fmt.Sprintf(`"%d"`, 9900+i), 1)
	}
	for _, c := range []struct {
		name, manifests, first, then string
		args                         []string
		kept                         int // paths of the tenant
		want                         string
	}{
		{"routes", manyServices(24), tenant(5, ""), tenant(9, ""), []string{"-max-routes", "7"}, 7, "routes: t.example.com/7 is left out: with it, its file would have more than 7 routes"},
		{"servers", manyServices(24), tenant(5, ""), tenant(9, ""), []string{"-max-servers", "20"}, 6, "backends: t.example.com/6 is left out: with it, its file would have more than 20 servers"},
		{"checks", manyServices(24), tenant(5, ", check: {path: /I, interval: 1s}"), tenant(9, ", check: {path: /I, interval: 1s}"), []string{"-max-checks", "30"}, 6, "check: t.example.com/6 is left out: with it, its file would have more than 30 checks a second"},
		{"agent ports", agents, tenant(5, ""), tenant(9, ""), []string{"-max-agent-ports", "8"}, 8, "backends: t.example.com/8 is left out: with it, its file would have more than 8 agent ports"},
		{"sources", manyServices(24), tenant(5, ", limits: {source: {requests: 9}}"), tenant(9, ", limits: {source: {requests: 9}}"), []string{"-max-sources", "28672"}, 7, "limits.source: t.example.com/7 is left out: with it, its file would have more than 28672 sources in tables"},
		{"a limit below what is in force", manyServices(24), tenant(5, ""), tenant(9, ""), []string{"-max-routes", "3"}, 5, "routes: t.example.com/5 is left out: with it, its file would have more than 3 routes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("eu-1/objects.yaml", c.manifests)
			w.write("routes.yaml", c.first)
			w.write("shop.yaml", shop)
			code, _, stderr := w.run("-once", "-routes", w.path("shop.yaml"))
			require.Equal(t, cli.ExitOK, code, stderr)
			require.Empty(t, stderr)
			w.write("routes.yaml", c.then)
			// A restart without a report makes no difference.
			require.NoError(t, os.Remove(w.path("out/report.json")))
			code, _, stderr = w.run(append(c.args, "-once", "-routes", w.path("shop.yaml"))...)
			require.Equal(t, cli.ExitOK, code, stderr)
			require.Contains(t, stderr, c.want)
			require.Regexp(t, `routes\.yaml:\d+: `, stderr)
			require.Equal(t, c.kept, w.paths("t.example.com"))
			require.Equal(t, 1, w.paths("shop.example.com"))
		})
	}
	t.Run("routes that were declared before their service", func(t *testing.T) {
		w := newWorld(t)
		w.write("eu-1/objects.yaml", manyServices(0))
		w.write("routes.yaml", tenant(9, ""))
		args := []string{"-once", "-max-servers", "20"}
		args = append(args, "-force") // no route has a server yet
		code, _, stderr := w.run(args...)
		require.Equal(t, cli.ExitOK, code, stderr)
		require.Equal(t, 9, w.paths("t.example.com"))
		w.write("eu-1/objects.yaml", manyServices(24))
		_, _, stderr = w.run(args...)
		require.Contains(t, stderr, "its file would have more than 20 servers")
		require.Equal(t, 6, w.paths("t.example.com"))
	})
	t.Run("services that get an agent port after their routes", func(t *testing.T) {
		w := newWorld(t)
		w.write("eu-1/objects.yaml", manyServices(24))
		w.write("routes.yaml", tenant(9, ""))
		args := []string{"-once", "-max-agent-ports", "2"}
		code, _, stderr := w.run(args...)
		require.Equal(t, cli.ExitOK, code, stderr)
		w.write("eu-1/objects.yaml", agents)
		_, _, stderr = w.run(append(args, "-force")...)
		require.Contains(t, stderr, "routes.yaml:4: backends: the agent port of eu-1/ns/s03:http is left out: with it, its file would have more than 2 agent ports")
		require.Equal(t, 9, w.paths("t.example.com"))
		require.Equal(t, 2*3, strings.Count(w.read("out/haproxy.cfg"), "agent-port 99"))
	})
	t.Run("a share with several files only", func(t *testing.T) {
		w := newWorld(t)
		w.write("eu-1/objects.yaml", manyServices(24))
		// 0.5% of the limit of all files together is 100 checks a second.
		w.write("routes.yaml", tenant(40, ", check: {path: /I, interval: 1s}"))
		w.write("shop.yaml", shop)
		code, _, stderr := w.run("-once", "-file-share", "0.5%", "-routes", w.path("shop.yaml"))
		require.Equal(t, cli.ExitOK, code, stderr)
		require.Contains(t, stderr, "its file would have more than 100 checks a second")
		require.Equal(t, 22, w.paths("t.example.com")) // each path needs 3 health checks and 1.5 agent checks a second
		require.Equal(t, 1, w.paths("shop.example.com"))
		code, _, stderr = w.run("-once", "-file-share", "0.5%", "-force")
		require.Equal(t, cli.ExitOK, code, stderr)
		require.Equal(t, 40, w.paths("t.example.com"))
	})
}

// paths counts the paths of a host in the maps in force.
func (w *world) paths(host string) int {
	w.t.Helper()
	inForce := 0
	names := regexp.MustCompile(`maps/(exact|prefix)-[0-9a-f]+\.map`).FindAllString(w.read("out/haproxy.cfg"), -1)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		inForce += strings.Count("\n"+w.read("out/"+name), "\n"+host+"/")
	}
	return inForce
}

// TestMaxConnFloor checks that the checks of declared routes use at most half of the descriptors.
func TestMaxConnFloor(t *testing.T) {
	for _, nodeHealth := range []string{"agent", "agent+kube-proxy", "kube-proxy"} {
		t.Run(nodeHealth, func(t *testing.T) {
			w := newWorld(t)
			w.write("eu-1/objects.yaml", manyServices(1))
			var b strings.Builder
			for i := range 750 {
				fmt.Fprintf(&b, "- {host: t%d.example.com, backends: [{cluster: eu-1, namespace: ns, service: s01, port: http}], check: {path: /%d, interval: 1h}}\n", i, i)
			}
			w.write("routes.yaml", "routes:\n"+b.String())
			code, _, stderr := w.run("-once", "-descriptors", "4096", "-node-health", nodeHealth, "-agent-inter", "1h")
			require.Equal(t, cli.ExitOK, code, stderr)
			require.Contains(t, stderr, "the edge would have more than")
			found := regexp.MustCompile(`(?m)^ *maxconn (\d+)$`).FindStringSubmatch(w.read("out/haproxy.cfg"))
			require.NotNil(t, found)
			maxconn, err := strconv.Atoi(found[1])
			require.NoError(t, err)
			require.GreaterOrEqual(t, maxconn, 1024)
			require.Less(t, maxconn, 1024+20, "no descriptor is wasted")
		})
	}
}

// TestAllWeightsZero checks that there is a warning with the line of the route if all weights of a
// route are 0, so that the route can serve nobody.
func TestAllWeightsZero(t *testing.T) {
	w := newWorld(t)
	w.edit("routes.yaml", "service: web, port: http}", "service: web, port: http, weight: 0}")
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "terminator: warning: "+w.path("routes.yaml")+":6: backends: www.example.com/ answers 503: all its weights are 0")
	require.Len(t, w.report().Problems, 1)
}

// TestSpecialNodeAddresses checks that a node object cannot direct traffic to the metadata service
// of a cloud. The terminator uses the other nodes of the cluster.
func TestSpecialNodeAddresses(t *testing.T) {
	w := newWorld(t)
	w.write("eu-1/objects.yaml", strings.Replace(manyServices(1), "192.0.2.2", "169.254.169.254", 1))
	w.write("routes.yaml", "routes:\n"+manyRoutes(1, 1, func(int) string { return "s01" }))
	code, _, stderr := w.run("-once")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stderr, "terminator: problem: eu-1: Node n1: status.addresses: 169.254.169.254 is a cloud metadata address (most clouds); the node is not used")
	require.NotContains(t, w.read("out/haproxy.cfg"), "169.254")
	require.Contains(t, w.read("out/haproxy.cfg"), "192.0.2.3:30081")
	code, _, stderr = w.run("-once", "-force", "-allow-nodes", "169.254.169.254")
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Empty(t, stderr)
	require.Contains(t, w.read("out/haproxy.cfg"), "169.254.169.254:30081")
}
