package hostcluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// services returns a cluster with services in the namespace ns. pairs contains the name and the
// annotations of each service in turn. "" means no annotations.
func services(t *testing.T, pairs ...string) nodeselect.Objects {
	t.Helper()
	if len(pairs) == 0 {
		return nodeselect.NewObjects(nil, nil)
	}
	text := ""
	for i := 0; i < len(pairs); i += 2 {
		text += fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {namespace: ns, name: '%s', annotations: {%s}}\n", pairs[i], pairs[i+1])
	}
	objects, problems := manifest.Parse("services.yaml", []byte(text))
	require.Empty(t, problems)
	return objects
}

func texts(problems []routes.Problem) (all []string) {
	for _, p := range problems {
		all = append(all, p.Error())
	}
	return all
}

func TestChoose(t *testing.T) {
	backend := func(cluster, service string, weight int) routes.Backend {
		return routes.Backend{Ref: routes.Ref{Cluster: cluster, Namespace: "ns", Service: service, Port: "http"}, Weight: weight}
	}
	route := func(path string, backends ...routes.Backend) routes.Route {
		return routes.Route{Host: "a.com", Path: path, Backends: backends, Position: routes.Position{File: "r.yaml", Line: 1}}
	}
	type clusters = map[string]nodeselect.Objects
	tests := []struct {
		name     string
		routes   []routes.Route
		clusters clusters
		want     string // cluster and app; "" means no choice
		problems []string
	}{
		{
			"the cluster with more weight",
			[]routes.Route{route("/", backend("a", "x", 50), backend("b", "y", 60))},
			nil, "b ns/y", nil,
		},
		{
			"the first of equals",
			[]routes.Route{route("/", backend("b", "y", 50), backend("a", "x", 50))},
			nil, "a ns/x", nil,
		},
		{
			"weights of a cluster add up",
			[]routes.Route{route("/", backend("a", "x", 50), backend("b", "y", 40), backend("b", "z", 41))},
			nil, "b ns/z", nil,
		},
		{
			"all routes before more weight",
			[]routes.Route{route("/", backend("a", "x", 256), backend("b", "y", 1)), route("/p", backend("b", "y", 1))},
			nil, "b ns/y", nil,
		},
		{
			"no cluster has all routes",
			[]routes.Route{route("/", backend("a", "x", 1)), route("/p", backend("b", "y", 2)), route("/q", backend("b", "z", 2))},
			nil, "b ns/y",
			[]string{"a.com: cluster b has 2 of the host's 3 routes, and no cluster has all; cluster b has to serve the others too"},
		},
		{
			"an annotation changes the weight",
			[]routes.Route{route("/", backend("a", "x", 100), backend("b", "y", 50))},
			clusters{"a": services(t, "x", `headgate.dev/weight: "40"`), "b": services(t, "y", "")},
			"b ns/y", nil,
		},
		{
			"drained",
			[]routes.Route{route("/", backend("a", "x", 100), backend("b", "y", 50))},
			clusters{"a": services(t, "x", `headgate.dev/drain: "true"`)},
			"b ns/y", nil,
		},
		{
			"drained everywhere",
			[]routes.Route{route("/", backend("a", "x", 100), backend("b", "y", 0))},
			clusters{"a": services(t, "x", `headgate.dev/drain: "true"`)},
			"a ns/x", nil,
		},
		{
			"a cluster without the service",
			[]routes.Route{route("/", backend("a", "x", 100), backend("b", "y", 50))},
			clusters{"a": services(t)},
			"b ns/y",
			[]string{"r.yaml:1: a.com: cluster a has no service ns/x"},
		},
		{
			"no cluster has the service",
			[]routes.Route{route("/", backend("a", "x", 100), backend("other", "y", 50))},
			clusters{"a": services(t)},
			"",
			[]string{
				"r.yaml:1: a.com: cluster a has no service ns/x",
				"r.yaml:1: a.com: there is no address for cluster other",
				"a.com: no cluster to choose from has a service of the host, so the host is not found",
			},
		},
		{
			"an annotation that cannot be read",
			[]routes.Route{route("/", backend("a", "x", 100), backend("b", "y", 50))},
			clusters{"a": services(t, "x", `headgate.dev/weight: lots`)},
			"a ns/x",
			[]string{`r.yaml:1: a.com: cluster a: Service ns/x: metadata.annotations[headgate.dev/weight]: "lots": want a weight in percent, 0 to 256`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table, problems := routes.New(tt.routes...)
			require.Empty(t, problems)
			choices, found := Chooser{Clusters: []string{"a", "b"}, Services: tt.clusters}.Choose(table)
			got := ""
			for _, c := range choices {
				require.Equal(t, "a.com", c.Host)
				got += c.Cluster + " " + c.App
			}
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.problems, texts(found))
		})
	}
}

func TestChooseKeepsHostsApart(t *testing.T) {
	table, problems := routes.Parse("r.yaml", []byte(`routes:
- {host: b.com, backends: [{cluster: a, namespace: n, service: x, port: http}]}
- {host: "*.b.com", path: /p, backends: [{cluster: b, namespace: n, service: y, port: http}]}
- {host: b.com, path: /p, backends: [{cluster: a, namespace: n, service: x, port: http}]}
`))
	require.Empty(t, problems)
	choices, found := Chooser{Clusters: []string{"a", "b"}}.Choose(table)
	require.Empty(t, found)
	require.ElementsMatch(t, []Choice{{"*.b.com", "b", "n/y"}, {"b.com", "a", "n/x"}}, choices)
}
