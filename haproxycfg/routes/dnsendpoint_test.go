package routes

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func TestAppendDNSEndpoints(t *testing.T) {
	addrs := ZoneOptions{Origin: "Example.com.", Addrs: terminators}
	for _, c := range []struct {
		name string
		zone ZoneOptions
		o    DNSEndpointOptions
	}{
		{"plain", addrs, DNSEndpointOptions{Namespace: "dns", Name: "edge"}},
		{"weighted", addrs, DNSEndpointOptions{Namespace: "dns", Name: "edge-eu", SetIdentifier: "eu", Weight: 60}},
		{"weight0", ZoneOptions{Origin: "er.example.com", Target: "edge.example.net"}, DNSEndpointOptions{Namespace: "null", Name: "edge-us", SetIdentifier: "1e3", Objects: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AppendDNSEndpoints([]byte("# before\n"), renderTable(t), c.zone, c.o)
			require.NoError(t, err)
			golden(t, got)

			// The objects have the records of the zone.
			zone, err := AppendZone(nil, renderTable(t), c.zone)
			require.NoError(t, err)
			var lines []string
			objects := readDNSEndpoints(t, got)
			require.Len(t, objects, max(c.o.Objects, 1))
			for _, object := range objects {
				require.Equal(t, c.o.Namespace, object.Metadata.Namespace)
				for _, r := range object.Spec.Endpoints {
					require.Equal(t, c.o.SetIdentifier, r.SetIdentifier)
					if c.o.SetIdentifier == "" {
						require.Empty(t, r.ProviderSpecific)
					} else {
						require.Equal(t, []property{{"aws/weight", fmt.Sprint(c.o.Weight)}}, r.ProviderSpecific)
					}
					for _, target := range r.Targets {
						require.False(t, strings.HasSuffix(target, "."), "external-dns refuses a final dot")
						if r.RecordType == "CNAME" {
							target += "."
						}
						lines = append(lines, fmt.Sprintf("%s.\t%d\tIN\t%s\t%s\n", r.DNSName, r.RecordTTL, r.RecordType, target))
					}
				}
			}
			require.ElementsMatch(t, strings.SplitAfter(string(zone), "\n"), append(lines, ""))
		})
	}
}

// TestDNSEndpointsKeepTheirHosts: a new host moves no other host to another object. After the
// removal of its only host, an object stays, without records.
func TestDNSEndpointsKeepTheirHosts(t *testing.T) {
	o := DNSEndpointOptions{Namespace: "dns", Name: "edge", Objects: 4}
	zone := ZoneOptions{Origin: "example.com", Target: "edge.example.net"}
	places := func(hosts ...string) map[string]string {
		out, err := AppendDNSEndpoints(nil, tableOf(t, hosts...), zone, o)
		require.NoError(t, err)
		at := map[string]string{}
		objects := readDNSEndpoints(t, out)
		require.Len(t, objects, 4)
		for _, object := range objects {
			for _, r := range object.Spec.Endpoints {
				at[r.DNSName] = object.Metadata.Name
			}
		}
		return at
	}
	all := places("a.example.com/", "b.example.com/", "c.example.com/", "d.example.com/", "e.example.com/")
	some := places("c.example.com/", "e.example.com/")
	require.Len(t, some, 2)
	for host, object := range some {
		require.Equal(t, all[host], object)
	}
	require.Empty(t, places())
	names := map[string]bool{}
	for _, object := range all {
		names[object] = true
	}
	require.Greater(t, len(names), 1, "the hosts are in several objects")
}

// TestAppendDNSEndpointsErrors: with an error, AppendDNSEndpoints returns dst unchanged.
func TestAppendDNSEndpointsErrors(t *testing.T) {
	good := DNSEndpointOptions{Namespace: "dns", Name: "edge"}
	zone := ZoneOptions{Origin: "example.com", Addrs: terminators}
	for _, c := range []struct {
		name   string
		change func(*ZoneOptions, *DNSEndpointOptions)
		want   string
	}{
		{"namespace", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.Namespace = "a.b" }, `routes: dns endpoints: namespace: "a.b" is not the name of a namespace`},
		{"name", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.Name = "A" }, `name: "A" is not the name of an object`},
		{"objects", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.Objects = 1001 }, "the number of objects 1001 is not from 1 to 1000"},
		{"set identifier", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.SetIdentifier = `e"u` }, "set identifier: \"e\\\"u\" is not 1 to 128"},
		{"weight alone", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.Weight = 1 }, "a weight needs a set identifier"},
		{"weight", func(_ *ZoneOptions, o *DNSEndpointOptions) { o.SetIdentifier, o.Weight = "eu", 256 }, "the weight 256 is not from 0 to 255"},
		{"zone", func(z *ZoneOptions, _ *DNSEndpointOptions) { z.Origin = "" }, `routes: dns endpoints: origin: "" is not a host name`},
		{"records", func(z *ZoneOptions, _ *DNSEndpointOptions) {
			z.Addrs, z.Target = nil, "edge.example.net"
		}, "example.com is the origin, which cannot be an alias"},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone, o := zone, good
			c.change(&zone, &o)
			got, err := AppendDNSEndpoints([]byte("before"), renderTable(t), zone, o)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, "before", string(got))
		})
	}
}

type property struct{ Name, Value string }

type endpointObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		Endpoints []struct {
			DNSName          string `yaml:"dnsName"`
			RecordType       string `yaml:"recordType"`
			RecordTTL        int    `yaml:"recordTTL"`
			Targets          []string
			SetIdentifier    string     `yaml:"setIdentifier"`
			ProviderSpecific []property `yaml:"providerSpecific"`
		}
	}
}

func readDNSEndpoints(t testing.TB, data []byte) (objects []endpointObject) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	for {
		var o endpointObject
		err := dec.Decode(&o)
		if err == io.EOF {
			return objects
		}
		require.NoError(t, err)
		if o.Kind != "" { // the comment before the first object
			objects = append(objects, o)
		}
	}
}

// BenchmarkAppendDNSEndpoints writes the records of 10,000 hosts.
func BenchmarkAppendDNSEndpoints(b *testing.B) {
	hosts := make([]string, 10_000)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%d.example.com/", i)
	}
	table := tableOf(b, hosts...)
	zone := ZoneOptions{Origin: "example.com", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	o := DNSEndpointOptions{Namespace: "dns", Name: "edge", Objects: 8, SetIdentifier: "eu", Weight: 60}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = AppendDNSEndpoints(out[:0], table, zone, o); err != nil {
			b.Fatal(err)
		}
	}
}
