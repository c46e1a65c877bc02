// Package edgefiles reads the files that package routes writes, and the objects for external-dns, by
// libraries that share no code with the writer.
package edgefiles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/haproxycfg/routes"
)

var (
	ipv4 = netip.MustParseAddr("192.0.2.1")
	ipv6 = netip.MustParseAddr("2001:db8::1")
)

// table has hosts and paths of every kind: the origin of the zone, wildcards, an internationalised
// name, a name with an underscore, and random names.
func table(t testing.TB) routes.Table {
	backends := []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"}, Weight: 100}}
	declared := []routes.Route{
		{Host: "example.com"},
		{Host: "*.example.com"},
		{Host: "api.example.com", Path: "/a&b"},
		{Host: "api.example.com", Path: "/a", Exact: true},
		{Host: "api.example.com", Path: "/%E2%9C%93/x(y)"},
		{Host: "api.example.com", Path: "/dir/", Exact: true},
		{Host: "a.b.example.com"},
		{Host: "bücher.example.com"},
		{Host: "_x.example.com"},
		{Host: "*.deep.er.example.com"},
		{Host: "example.org"},
		{Host: strings.Repeat("a", 63) + ".example.com"},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		name := make([]byte, 1+random.IntN(20))
		for i := range name {
			name[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[random.IntN(36)]
		}
		declared = append(declared, routes.Route{Host: string(name) + ".example.com", Path: "/" + string(name), Exact: random.IntN(2) == 0})
	}
	for i := range declared {
		declared[i].Backends = backends
		if declared[i].Path == "" {
			declared[i].Path = "/"
		}
	}
	got, problems := routes.New(declared...)
	for _, p := range problems {
		require.Contains(t, p.Message, "is declared alike", "a random name may occur twice")
	}
	require.Greater(t, len(got.Hosts()), 200)
	return got
}

func readZone(t testing.TB, text []byte) (records []dns.RR) {
	parser := dns.NewZoneParser(bytes.NewReader(text), "", "dns.zone")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	require.NoError(t, parser.Err())
	return records
}

// TestZone: a name server that includes dns.zone has exactly the records of the declared hosts.
func TestZone(t *testing.T) {
	for name, o := range map[string]routes.ZoneOptions{
		"addresses": {Origin: "example.com", Addrs: []netip.Addr{ipv4, ipv6}},
		"target":    {Origin: "example.com", Addrs: []netip.Addr{ipv4}, Target: "edge.example.net"},
	} {
		t.Run(name, func(t *testing.T) {
			published, _ := o.Publishable(table(t))
			text, err := routes.AppendZone(nil, published, o)
			require.NoError(t, err)
			got := map[string][]string{}
			for _, rr := range readZone(t, text) {
				h := rr.Header()
				_, ok := dns.IsDomainName(h.Name)
				require.True(t, ok, h.Name)
				require.EqualValues(t, routes.DefaultTTL.Seconds(), h.Ttl)
				require.EqualValues(t, dns.ClassINET, h.Class)
				switch rr := rr.(type) {
				case *dns.A:
					got[h.Name] = append(got[h.Name], rr.A.String())
				case *dns.AAAA:
					got[h.Name] = append(got[h.Name], rr.AAAA.String())
				case *dns.CNAME:
					got[h.Name] = append(got[h.Name], rr.Target)
				default:
					require.Fail(t, "a record of another type", rr)
				}
			}
			for _, host := range published.Hosts() {
				if host != "example.com" && !strings.HasSuffix(host, ".example.com") {
					require.NotContains(t, got, host+".")
					continue
				}
				want := []string{ipv4.String(), ipv6.String()}
				if o.Target != "" {
					want = []string{"edge.example.net."}
					if host == "example.com" {
						want = []string{ipv4.String()}
					}
				}
				require.Equal(t, want, got[host+"."], host)
			}
		})
	}
}

func compile(t testing.TB, schema any) *jsonschema.Schema {
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", schema))
	compiled, err := c.Compile("schema.json")
	require.NoError(t, err)
	return compiled
}

func readJSON(t testing.TB, data []byte) any {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	return value
}

// TestCDN: cdn.json is valid by the schema, and the schema refuses files with a fault.
func TestCDN(t *testing.T) {
	text, err := os.ReadFile("../../../haproxycfg/routes/cdn.schema.json")
	require.NoError(t, err)
	schema := compile(t, readJSON(t, text))
	for _, routesOf := range []routes.Table{{}, table(t)} {
		file, err := routes.AppendCDN(nil, routesOf, routes.CDNOptions{Origin: "edge.example.net"})
		require.NoError(t, err)
		require.NoError(t, schema.Validate(readJSON(t, file)))
	}

	const good = `{"distributions": [{"host": "*.example.com", "origin": "edge.example.net", "behaviours": [
		{"path": "/a", "exact": true, "patterns": ["/a"]}, {"path": "/", "exact": false, "patterns": ["/*"]}]}]}`
	require.NoError(t, schema.Validate(readJSON(t, []byte(good))))
	for _, change := range [][2]string{
		{`"distributions"`, `"Distributions"`},
		{`"host": "*.example.com"`, `"host": "*example.com"`},
		{`"host": "*.example.com", `, ``},
		{`"edge.example.net"`, `"https://edge.example.net"`},
		{`"edge.example.net"`, `"edge.example.net."`},
		{`"path": "/a"`, `"path": "a"`},
		{`"exact": true`, `"exact": "true"`},
		{`["/a"]`, `["/a", "/a/*"]`},
		{`["/a"]`, `[]`},
		{`["/*"]`, `["/"]`},
		{`["/a"]`, `["/a b"]`},
		{`"exact": false, `, `"exact": false, "ttl": 1, `},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		require.NotEqual(t, good, bad)
		require.Error(t, schema.Validate(readJSON(t, []byte(bad))), bad)
	}
}

// endpointSchema returns the schema of external-dns. It also refuses unknown fields, as an API
// server does for kubectl, which requests strict field validation.
func endpointSchema(t testing.TB) *jsonschema.Schema {
	text, err := os.ReadFile("testdata/dnsendpoints.externaldns.k8s.io.yaml")
	require.NoError(t, err)
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &definition))
	require.Len(t, definition.Spec.Versions, 1)
	require.Equal(t, "v1alpha1", definition.Spec.Versions[0].Name)
	schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	var forbidUnknown func(node map[string]any)
	forbidUnknown = func(node map[string]any) {
		if properties, ok := node["properties"].(map[string]any); ok {
			node["additionalProperties"] = false
			for _, p := range properties {
				forbidUnknown(p.(map[string]any))
			}
		}
		if items, ok := node["items"].(map[string]any); ok {
			forbidUnknown(items)
		}
	}
	forbidUnknown(schema)
	data, err := json.Marshal(schema)
	require.NoError(t, err)
	return compile(t, readJSON(t, data))
}

type endpoint struct {
	DNSName          string   `json:"dnsName"`
	RecordType       string   `json:"recordType"`
	RecordTTL        uint32   `json:"recordTTL"`
	Targets          []string `json:"targets"`
	SetIdentifier    string   `json:"setIdentifier"`
	ProviderSpecific []struct{ Name, Value string }
}

// TestDNSEndpoints: the schema of external-dns accepts the objects, as sigs.k8s.io/yaml and so
// kubectl read them. Their records are the records of dns.zone, as miekg/dns reads them. Each object
// is small enough for an API server.
func TestDNSEndpoints(t *testing.T) {
	schema := endpointSchema(t)
	for name, zone := range map[string]routes.ZoneOptions{
		"addresses": {Origin: "example.com", Addrs: []netip.Addr{ipv4, ipv6}},
		"target":    {Origin: "example.com", Addrs: []netip.Addr{ipv4}, Target: "edge.example.net"},
	} {
		t.Run(name, func(t *testing.T) {
			published, _ := zone.Publishable(table(t))
			text, err := routes.AppendDNSEndpoints(nil, published, zone, routes.DNSEndpointOptions{
				Namespace: "dns", Name: "edge", Objects: 3, SetIdentifier: "0x1e3", Weight: 60,
			})
			require.NoError(t, err)
			var got []string
			documents := bytes.Split(text, []byte("---\n"))[1:]
			require.Len(t, documents, 3)
			for _, document := range documents {
				object, err := yaml.YAMLToJSONStrict(document)
				require.NoError(t, err)
				require.NoError(t, schemaOfObject(t, schema, object))
				var typed struct {
					Spec struct{ Endpoints []endpoint }
				}
				require.NoError(t, json.Unmarshal(object, &typed))
				for _, e := range typed.Spec.Endpoints {
					require.Equal(t, "0x1e3", e.SetIdentifier)
					require.Equal(t, []struct{ Name, Value string }{{"aws/weight", "60"}}, e.ProviderSpecific)
					for _, target := range e.Targets {
						if e.RecordType == "CNAME" {
							target += "."
						}
						got = append(got, fmt.Sprintf("%s. %d %s %s", e.DNSName, e.RecordTTL, e.RecordType, target))
					}
				}
			}
			lines, err := routes.AppendZone(nil, published, zone)
			require.NoError(t, err)
			var want []string
			for _, rr := range readZone(t, lines) {
				h := rr.Header()
				want = append(want, fmt.Sprintf("%s %d %s %s", h.Name, h.Ttl, dns.TypeToString[h.Rrtype], strings.TrimPrefix(rr.String(), h.String())))
			}
			require.ElementsMatch(t, want, got)
		})
	}
	bad := []byte(`{"apiVersion": "externaldns.k8s.io/v1alpha1", "kind": "DNSEndpoint", "metadata": {}, "spec": {"endpoints": [{"dnsname": "a.example.com"}]}}`)
	require.Error(t, schemaOfObject(t, schema, bad), "an unknown field")
}

func schemaOfObject(t testing.TB, schema *jsonschema.Schema, object []byte) error {
	return schema.Validate(readJSON(t, object))
}
