package change_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// service returns a Service of the namespace media as YAML. The argument "ports" has entries such
// as "http:80:30080": name, number and node port.
func service(name, kind, ports string, extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: media%s}\nspec:\n  type: %s\n", name, strings.Join(extra, ""), kind)
	if ports == "" {
		return b.String()
	}
	b.WriteString("  ports:\n")
	for p := range strings.FieldsSeq(ports) {
		parts := strings.Split(p, ":")
		fmt.Fprintf(&b, "  - {name: %s, port: %s", parts[0], parts[1])
		if len(parts) > 2 && parts[2] != "" {
			fmt.Fprintf(&b, ", nodePort: %s", parts[2])
		}
		if len(parts) > 3 {
			fmt.Fprintf(&b, ", targetPort: %s", parts[3])
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// allow is the annotation with some words.
func allow(words string) string {
	return fmt.Sprintf(", annotations: {headgate.dev/allow-change: %q}", words)
}

func deployment(name, selector, labels, port string) string {
	return fmt.Sprintf("---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: media}\n"+
		"spec: {selector: {matchLabels: {app: %s}}, template: {metadata: {labels: {app: %s}}, spec: {containers: [{name: a, ports: [{name: %s, containerPort: 1}]}]}}}\n",
		name, selector, labels, port)
}

const selectsTracks = "  selector: {app: tracks}\n"

func use(service, port string) change.Use {
	return change.Use{Ref: nodeselect.Ref{Namespace: "media", Service: service, Port: port}, Route: service + ".example.com/ (routes.yaml:1)"}
}

func parse(t *testing.T, text string) change.Objects {
	t.Helper()
	objects, problems := change.Parse("test", []byte(text))
	require.Empty(t, problems)
	return objects
}

func TestCheck(t *testing.T) {
	published := service("tracks", "NodePort", "http:80:30080 admin:90:30090")
	used := []change.Use{use("tracks", "http")}
	for _, test := range []struct {
		name     string
		old, new string
		prune    bool
		uses     []change.Use
		want     []string // object, field, change, kind, words that allow it, routes
	}{
		{name: "nothing", old: published, new: published, uses: used},
		{name: "a new service", new: published},
		{name: "a new port", old: published, new: service("tracks", "NodePort", "http:80:30080 admin:90:30090 more:91:30091"), uses: used},
		{name: "ports in another order", old: published, new: service("tracks", "NodePort", "admin:90:30090 http:80:30080"), uses: used},
		{name: "the API server keeps open node ports", old: published, new: service("tracks", "NodePort", "http:80 admin:90"), uses: used},
		{name: "of a port with another number", old: published, new: service("tracks", "NodePort", "http:81 admin:90"), uses: used},
		{name: "also of a LoadBalancer", old: published, new: service("tracks", "LoadBalancer", "http:80 admin:90"), uses: used},
		{name: "a service of another type", old: service("tracks", "ClusterIP", "http:80"), new: service("tracks", "ClusterIP", "www:81")},
		{name: "a service that stays", old: published, new: deployment("a", "a", "a", "http")},

		{
			name: "dropped", old: published, new: service("tracks", "NodePort", "http:80:30080"),
			want: []string{"Service media/tracks: spec.ports[admin].nodePort: 30090 is dropped (node-port-dropped) [30090] []"},
		},
		{
			name: "changed", old: published, new: service("tracks", "NodePort", "http:80:30081 admin:90:30090"), uses: used,
			want: []string{"Service media/tracks: spec.ports[http].nodePort: 30080 → 30081 (node-port-changed) [30080] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{
			name: "changed and renamed", old: published, new: service("tracks", "NodePort", "www:80:30081 admin:90:30090"), uses: used,
			want: []string{
				`Service media/tracks: spec.ports[http]: the name "http" → "www" (port-renamed) [http] [tracks.example.com/ (routes.yaml:1)]`,
				"Service media/tracks: spec.ports[http].nodePort: 30080 → 30081 (node-port-changed) [30080] [tracks.example.com/ (routes.yaml:1)]",
			},
		},
		{
			name: "changed places", old: published, new: service("tracks", "NodePort", "http:80:30090 admin:90:30080"),
			want: []string{
				"Service media/tracks: spec.ports[admin].nodePort: port http of the same Service gets 30090 (node-port-taken) [30090] []",
				"Service media/tracks: spec.ports[http].nodePort: port admin of the same Service gets 30080 (node-port-taken) [30080] []",
			},
		},
		{
			name: "given to the other port", old: published, new: service("tracks", "NodePort", "http:80 admin:90:30080"),
			want: []string{
				"Service media/tracks: spec.ports[admin].nodePort: 30090 → 30080 (node-port-changed) [30090] []",
				"Service media/tracks: spec.ports[http].nodePort: port admin of the same Service gets 30080 (node-port-taken) [30080] []",
			},
		},
		{
			name: "type", old: published, new: service("tracks", "ClusterIP", "http:80 admin:90"), uses: used,
			want: []string{"Service media/tracks: spec.type: NodePort → ClusterIP drops node ports 30080, 30090 (type-changed) [30080 30090] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{
			name: "no type", old: published, new: service("tracks", `""`, "http:80 admin:90"),
			want: []string{"Service media/tracks: spec.type: NodePort → ClusterIP drops node ports 30080, 30090 (type-changed) [30080 30090] []"},
		},
		{
			name: "another protocol", old: published, new: strings.Replace(published, "nodePort: 30090", "protocol: UDP, nodePort: 30090", 1),
			want: []string{"Service media/tracks: spec.ports[admin].nodePort: 30090 is dropped (node-port-dropped) [30090] []"},
		},
		{name: "LoadBalancer without declarations", old: service("tracks", "LoadBalancer", "http:80:30080"), new: service("tracks", "ClusterIP", "http:80")},
		{
			name: "LoadBalancer with declarations", old: service("tracks", "LoadBalancer", "http:80:30080"), new: service("tracks", "ClusterIP", "http:80"), uses: used,
			want: []string{"Service media/tracks: spec.type: LoadBalancer → ClusterIP drops node port 30080 (type-changed) [30080] [tracks.example.com/ (routes.yaml:1)]"},
		},

		{name: "missing and not deleted", old: published, new: service("art", "ClusterIP", "http:80")},
		{
			name: "deleted", old: published, new: "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: media}\n", prune: true,
			want: []string{"Service media/tracks: metadata.name: the Service is deleted, with node ports 30080, 30090 (service-deleted) [30080 30090] []"},
		},
		{
			name: "deleted while a declaration uses it", old: service("tracks", "ClusterIP", "http:80"), new: service("art", "ClusterIP", "http:80"), prune: true, uses: used,
			want: []string{"Service media/tracks: metadata.name: the Service is deleted (service-deleted) [service-deleted] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{name: "deleted and unused", old: service("tracks", "ClusterIP", "http:80"), new: service("art", "ClusterIP", "http:80"), prune: true},
		{name: "of another namespace", old: strings.ReplaceAll(published, "namespace: media", "namespace: other"), new: service("art", "ClusterIP", "http:80"), prune: true},

		{name: "renamed and unused", old: published, new: service("tracks", "NodePort", "www:80:30080 admin:90:30090")},
		{name: "used by number", old: published, new: service("tracks", "NodePort", "www:80:30080 admin:90:30090"), uses: []change.Use{use("tracks", "80")}},
		{name: "used by an unknown name", old: published, new: service("tracks", "NodePort", "www:80:30080 admin:90:30090"), uses: []change.Use{use("tracks", "web")}},
		{
			name: "renamed", old: published, new: service("tracks", "NodePort", "www:80:30080 admin:90:30090"), uses: used,
			want: []string{`Service media/tracks: spec.ports[http]: the name "http" → "www" (port-renamed) [http] [tracks.example.com/ (routes.yaml:1)]`},
		},
		{
			name: "renumbered", old: published, new: service("tracks", "NodePort", "http:81:30080 admin:90:30090"), uses: []change.Use{use("tracks", "80")},
			want: []string{"Service media/tracks: spec.ports[http]: the number 80 → 81 (port-renamed) [80] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{
			name: "removed", old: service("tracks", "ClusterIP", "http:80 admin:90"), new: service("tracks", "ClusterIP", "admin:90"), uses: used,
			want: []string{"Service media/tracks: spec.ports[http]: port http is removed (port-removed) [http] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{
			name: "removed with its node port", old: published, new: service("tracks", "NodePort", "admin:90:30090"), uses: used,
			want: []string{"Service media/tracks: spec.ports[http].nodePort: 30080 is dropped (node-port-dropped) [30080] [tracks.example.com/ (routes.yaml:1)]"},
		},

		{
			name: "taken", old: published, new: service("art", "NodePort", "http:80:30080"),
			want: []string{"Service media/art: spec.ports[http].nodePort: 30080 belongs to Service media/tracks (node-port-taken) [] []"},
		},
		{
			name: "taken as a health check", old: service("tracks", "LoadBalancer", "http:80:30080") + "  externalTrafficPolicy: Local\n  healthCheckNodePort: 30085\n", new: service("art", "NodePort", "http:80:30085"),
			want: []string{"Service media/art: spec.ports[http].nodePort: 30085 belongs to Service media/tracks (node-port-taken) [] []"},
		},
		{name: "the same number of another protocol", old: published, new: strings.Replace(service("art", "NodePort", "http:80:30080"), "nodePort", "protocol: UDP, nodePort", 1)},
		{
			name: "two new ones", new: service("art", "NodePort", "http:80:30080") + published,
			want: []string{
				"Service media/art: spec.ports[http].nodePort: 30080 belongs to Service media/tracks (node-port-taken) [] []",
				"Service media/tracks: spec.ports[http].nodePort: 30080 belongs to Service media/art (node-port-taken) [] []",
			},
		},
		{
			name: "released and taken", old: service("tracks", "NodePort", "http:80:30080", allow("30080")),
			new: service("tracks", "ClusterIP", "http:80", allow("30080")) + service("art", "NodePort", "http:80:30080"), uses: used,
			want: []string{
				"Service media/art: spec.ports[http].nodePort: 30080 belonged to Service media/tracks until now (node-port-taken) [30080] [tracks.example.com/ (routes.yaml:1)]",
				"allowed",
			},
		},

		{name: "allowed before", old: service("tracks", "NodePort", "http:80:30080", allow("30080")), new: service("tracks", "ClusterIP", "http:80"), want: []string{"allowed"}},
		{name: "allowed after", old: service("tracks", "NodePort", "http:80:30080"), new: service("tracks", "ClusterIP", "http:80", allow("1, 30080")), want: []string{"allowed"}},
		{name: "deletion allowed", old: service("tracks", "NodePort", "http:80:30080 admin:90:30090", allow("30080,30090")), new: service("art", "ClusterIP", "http:80"), prune: true, want: []string{"allowed"}},
		{name: "rename allowed", old: published, new: service("tracks", "NodePort", "www:80:30080 admin:90:30090", allow("http")), uses: used, want: []string{"allowed"}},
		{
			name: "half allowed", old: service("tracks", "NodePort", "http:80:30080 admin:90:30090", allow("30080")), new: service("tracks", "ClusterIP", "http:80"),
			want: []string{"Service media/tracks: spec.type: NodePort → ClusterIP drops node ports 30080, 30090 (type-changed) [30080 30090] []"},
		},
		{
			name: "another number allowed", old: published, new: service("tracks", "NodePort", "http:80:30080", allow("30091,true,3009")),
			want: []string{"Service media/tracks: spec.ports[admin].nodePort: 30090 is dropped (node-port-dropped) [30090] []"},
		},

		{
			name: "policy", old: published, new: published + "  externalTrafficPolicy: Local\n", uses: used,
			want: []string{"Service media/tracks: spec.externalTrafficPolicy: Cluster → Local (external-traffic-policy) [external-traffic-policy] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{name: "policy stays", old: published + "  externalTrafficPolicy: Local\n", new: published + "  externalTrafficPolicy: Local\n"},

		{
			name: "selector of a Deployment", old: deployment("tracks", "tracks", "tracks", "http"), new: deployment("tracks", "t2", "t2", "http"),
			want: []string{"Deployment media/tracks: spec.selector: app=tracks → app=t2 (selector-changed) [] []"},
		},
		{
			name: "labels of pods", old: published + selectsTracks + deployment("tracks", "tracks", "tracks", "http"), new: deployment("tracks", "tracks", "other", "http"), uses: used,
			want: []string{"Service media/tracks: spec.selector: app=tracks selects the pods of no Deployment (no-pods) [no-pods] [tracks.example.com/ (routes.yaml:1)]"},
		},
		{
			name: "a Deployment is deleted", old: published + selectsTracks + deployment("tracks", "tracks", "tracks", "http"), new: published + selectsTracks, prune: true,
			want: []string{"Service media/tracks: spec.selector: app=tracks selects the pods of no Deployment (no-pods) [no-pods] []"},
		},
		{name: "pods of something else", old: published + selectsTracks, new: published + selectsTracks + deployment("a", "a", "a", "http")},
		{name: "two Deployments", old: published + selectsTracks + deployment("a", "tracks", "tracks", "http") + deployment("b", "tracks", "tracks", "http"), new: deployment("a", "tracks", "other", "http")},
		{
			name: "target port", old: service("tracks", "NodePort", "http:80:30080:web") + selectsTracks + deployment("tracks", "tracks", "tracks", "web"), new: deployment("tracks", "tracks", "tracks", "http"),
			want: []string{"Service media/tracks: spec.ports[http].targetPort: the pods of Deployment tracks have no port web (target-port-missing) [target-port-missing] []"},
		},
		{
			name: "target port of a new service", old: deployment("tracks", "tracks", "tracks", "web"), new: service("tracks", "NodePort", "http:80:30080:http") + selectsTracks,
			want: []string{"Service media/tracks: spec.ports[http].targetPort: the pods of Deployment tracks have no port http (target-port-missing) [target-port-missing] []"},
		},
		{name: "target port that was missing", old: service("tracks", "NodePort", "http:80:30080:http") + selectsTracks + deployment("tracks", "tracks", "tracks", "web"), new: deployment("tracks", "tracks", "tracks", "web")},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := change.Change{Old: parse(t, test.old), New: parse(t, test.new), Prune: test.prune, Uses: test.uses}
			findings := c.Check()
			var got []string
			for _, f := range findings {
				require.NotEmpty(t, f.Effect)
				require.NotEmpty(t, f.Instead)
				if f.Allowed {
					got = append(got, "allowed")
					require.Contains(t, f.String(), "allowed by the annotation headgate.dev/allow-change")
					continue
				}
				require.Contains(t, f.String(), "instead: "+f.Instead)
				got = append(got, fmt.Sprintf("%s: %s: %s (%s) %v %v", f.Object, f.Field, f.Change, f.Kind, f.Allow, f.Routes))
			}
			require.Equal(t, test.want, got)
			require.Len(t, change.Refused(findings), len(got)-strings.Count(strings.Join(got, "\n"), "allowed"))
			require.Equal(t, findings, c.Check(), "the same findings each time")
		})
	}
}

// The annotation that a finding names permits the finding.
func TestAllowPermits(t *testing.T) {
	old := service("tracks", "NodePort", "http:80:30080 admin:90:30090 more:91:30091")
	after := func(words string) string {
		return service("tracks", "NodePort", "www:80:30082 admin:90:30091 more:91:30090", allow(words)) + "  externalTrafficPolicy: Local\n"
	}
	c := change.Change{Old: parse(t, old), New: parse(t, after("")), Uses: []change.Use{use("tracks", "http")}}
	findings := change.Refused(c.Check())
	require.Len(t, findings, 5)
	var words []string
	for _, f := range findings {
		words = append(words, f.Allow...)
	}
	c.New = parse(t, after(strings.Join(words, ",")))
	require.Len(t, c.Check(), 5)
	require.Empty(t, change.Refused(c.Check()))
}
