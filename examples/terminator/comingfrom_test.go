package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	networkingv1 "k8s.io/api/networking/v1"
	kyaml "sigs.k8s.io/yaml"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// shopManifests has the Services that the pages about other ingress controllers use.
const shopManifests = `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: NET.1}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30081}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web-canary}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30082}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: shop, name: api}, spec: {type: NodePort, ports: [{name: http, port: 8080, nodePort: 30083}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: ingress, name: controller}, spec: {type: LoadBalancer, ports: [{name: http, port: 80, nodePort: 30084}]}}
`

// newShop returns a world with the clusters eu-1 and eu-2 and a certificate.
func newShop(t *testing.T) *world {
	w := newWorld(t)
	require.NoError(t, os.Mkdir(w.path("eu-2"), 0o755))
	w.write("eu-1/objects.yaml", strings.ReplaceAll(shopManifests, "NET", "10.1.0"))
	w.write("eu-2/objects.yaml", strings.ReplaceAll(shopManifests, "NET", "10.2.0"))
	require.NoError(t, os.Mkdir(w.path("certs"), 0o755))
	w.write("certs/shop.pem", issue(t, nextMonth(), "shop.example.com").file())
	return w
}

// render runs terminator -once, and returns the text of haproxy.cfg, the maps and the other files
// that it writes, without the report.
func (w *world) render(args ...string) string {
	t := w.t
	t.Helper()
	require.NoError(t, os.RemoveAll(w.path("out")))
	if slices.Contains(args, "-reload") { // no HAProxy runs
		code, stdout, stderr := w.runAlone(append([]string{"-diff", "-strict", "-out", w.path("out"), "-cluster", "eu-2=dir:" + w.path("eu-2")}, args...)...)
		require.Equal(t, cli.ExitDiffer, code, "%v: %s", args, stderr)
		return stdout
	}
	code, _, stderr := w.runAlone(append([]string{"-once", "-strict", "-out", w.path("out"), "-cluster", "eu-2=dir:" + w.path("eu-2")}, args...)...)
	require.Equal(t, cli.ExitOK, code, "%v: %s", args, stderr)
	var text strings.Builder
	require.NoError(t, filepath.WalkDir(w.path("out"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "report.json" {
			return err
		}
		data, err := os.ReadFile(name)
		text.Write(data)
		return err
	}))
	return text.String()
}

// TestComingFrom renders each setting in the tables of the pages about other ingress controllers.
// A setting is a flag of the terminator, or fields of a route in YAML.
func TestComingFrom(t *testing.T) {
	for _, page := range comingFrom {
		t.Run(page, func(t *testing.T) {
			w := newShop(t)
			clitest.CheckMappings(t, page, func(t testing.TB, settings []string) string {
				route := map[string]any{"host": "shop.example.com", "backends": []any{
					map[string]any{"cluster": "eu-1", "namespace": "shop", "service": "web", "port": "http"},
				}}
				flags := []string{"-http", ":80", "-https", ":443", "-certificates", w.path("certs")}
				for _, s := range settings {
					if strings.HasPrefix(s, "-") {
						flags = append(flags, strings.Fields(s)...)
						continue
					}
					fields := map[string]any{}
					require.NoError(t, yaml.Unmarshal([]byte(s), &fields), s)
					maps.Copy(route, fields)
				}
				text, err := yaml.Marshal(map[string]any{"routes": []any{route}})
				require.NoError(t, err)
				w.write("routes.yaml", string(text))
				return w.render(flags...)
			})
		})
	}
}

// TestComingFromExample checks the examples of the pages. The declarations send each host and path
// of the Ingress to the same service, and HAProxy accepts the configuration. The flags of the page
// are flags of the terminator.
func TestComingFromExample(t *testing.T) {
	for _, page := range comingFrom {
		t.Run(page, func(t *testing.T) {
			w := newShop(t)
			haproxy, err := haproxyproc.Find()
			require.NoError(t, err)
			var ingresses []networkingv1.Ingress
			var tables []routes.Table
			for _, block := range clitest.CodeBlocks(t, page, "yaml") {
				if strings.Contains(block, "kind: Ingress") {
					var ingress networkingv1.Ingress
					require.NoError(t, kyaml.UnmarshalStrict([]byte(block), &ingress))
					ingresses = append(ingresses, ingress)
					continue
				}
				table, problems := routes.Parse(page, []byte(block))
				require.Empty(t, problems)
				tables = append(tables, table)
				w.write("routes.yaml", block)
				require.Contains(t, w.render("-http", ":80", "-haproxy", haproxy), "frontend http")
			}
			require.NotEmpty(t, ingresses)
			require.NotEmpty(t, tables)
			declared := 0
			for _, ingress := range ingresses {
				for _, rule := range ingress.Spec.Rules {
					for _, path := range rule.HTTP.Paths {
						declared++
						route, ok := tables[0].Match(rule.Host, path.Path)
						require.True(t, ok, "%s%s", rule.Host, path.Path)
						require.Equal(t, path.Path, route.Path)
						require.Equal(t, *path.PathType == networkingv1.PathTypeExact, route.Exact)
						port := path.Backend.Service.Port.Name
						require.Contains(t, route.Backends, routes.Backend{
							Ref:    routes.Ref{Cluster: "eu-1", Namespace: ingress.Namespace, Service: path.Backend.Service.Name, Port: port},
							Weight: route.Backends[0].Weight,
						})
					}
				}
			}
			require.Len(t, tables[0].Routes(), declared)
			commands := 0
			for _, block := range clitest.CodeBlocks(t, page, "sh") {
				for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
					args := strings.Fields(line)
					if len(args) == 0 || args[0] != "terminator" || args[1] == "shift" || args[1] == "explain" {
						continue
					}
					_, _, done := parseSettings(cli.Invocation{Args: args[1:], Stdout: t.Output(), Stderr: t.Output()})
					require.False(t, done, line)
					commands++
				}
			}
			require.NotZero(t, commands)
		})
	}
}

// comingFrom are the pages about other ingress controllers.
var comingFrom = []string{"COMING-FROM-INGRESS-NGINX.md", "COMING-FROM-HAPROXY-INGRESS.md"}
