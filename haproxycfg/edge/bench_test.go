package edge_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// manyServices returns n routes, each to a service of its own. Each service has an agent and runs
// on 20 of 1,000 nodes.
func manyServices(n int) (routes.Table, []edge.Upstream) {
	declared := make([]routes.Route, n)
	upstreams := make([]edge.Upstream, n)
	for i := range n {
		r := routes.Ref{Cluster: "eu-1", Namespace: "ns-" + strconv.Itoa(i%50), Service: fmt.Sprintf("service-%05d", i), Port: "http"}
		declared[i] = routes.Route{Host: fmt.Sprintf("www-%05d.example.com", i), Path: "/", Backends: []routes.Backend{{Ref: r, Weight: 100}}}
		u := edge.Upstream{Ref: r, NodePort: uint16(30000 + i%2768), AgentPort: uint16(20000 + i)}
		for j := range 20 {
			node := (i*7919 + j*53) % 1000
			u.Nodes = append(u.Nodes, edge.Node{Addr: netip.AddrFrom4([4]byte{10, 20, byte(node >> 8), byte(node)})})
		}
		upstreams[i] = u
	}
	table, problems := routes.New(declared...)
	if len(problems) > 0 {
		panic(problems[0])
	}
	return table, upstreams
}

var benchEdge = edge.Edge{
	HTTP:   []haproxycfg.Bind{{Address: ":80"}},
	HTTPS:  []haproxycfg.Bind{{Address: ":443", TLS: &haproxycfg.TLS{Certificates: "/etc/haproxy/certs"}}},
	Global: haproxycfg.Global{StatsSocket: "/run/haproxy/stats.sock", StateFile: "/var/lib/haproxy/state", Descriptors: 1 << 20},
}

func BenchmarkRender(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 4000} {
		b.Run("services="+strconv.Itoa(n), func(b *testing.B) {
			config, _ := benchEdge.Config(manyServices(n))
			b.ReportAllocs()
			for b.Loop() {
				files, err := config.Render("/etc/haproxy")
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(files[len(files)-1].Data)))
			}
		})
	}
}

func BenchmarkEdgeConfig(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 4000} {
		b.Run("services="+strconv.Itoa(n), func(b *testing.B) {
			table, upstreams := manyServices(n)
			b.ReportAllocs()
			for b.Loop() {
				if config, problems := benchEdge.Config(table, upstreams); len(problems) > 0 || len(config.Backends) != n+2 {
					b.Fatal(problems)
				}
			}
		})
	}
}

// BenchmarkGroups divides 10,000 routes of 1,000 services into groups, after a change of one route.
// A Grouper knows the routes before the change, and GroupRoutes does not.
func BenchmarkGroups(b *testing.B) {
	table, _ := manyServices(1000)
	var declared []routes.Route
	for i := range 10 {
		for _, r := range table.Routes() {
			r.Host = strconv.Itoa(i) + "." + r.Host
			declared = append(declared, r)
		}
	}
	before, _ := routes.New(declared...)
	removed := 0
	after := before.Without(func(*routes.Route) bool { removed++; return removed == 5000 })
	b.Run("grouper", func(b *testing.B) {
		b.ReportAllocs()
		var g edge.Grouper
		for i := 0; b.Loop(); i++ {
			if n := g.Group([]routes.Table{before, after}[i%2]).Len(); n != 1000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n := edge.GroupRoutes(after).Len(); n != 1000 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkRenderer validates and renders 1,000 backends with 20 servers each, after a change of one
// entry of a map.
func BenchmarkRenderer(b *testing.B) {
	table, upstreams := manyServices(1000)
	render := func(b *testing.B, valid func(*haproxycfg.Config) (haproxycfg.Valid, error)) {
		config, _ := benchEdge.Config(table, upstreams)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			config.Maps[1].Entries[7].Value = config.Maps[1].Entries[i%2].Value
			v, err := valid(config)
			if err == nil {
				_, err = v.Render("/etc/haproxy")
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("renderer", func(b *testing.B) {
		var r haproxycfg.Renderer
		render(b, r.Valid)
	})
	b.Run("fresh", func(b *testing.B) { render(b, (*haproxycfg.Config).Valid) })
}

// withoutNode returns the upstreams after the loss of a node. Each service on that node has another
// node instead.
func withoutNode(upstreams []edge.Upstream) []edge.Upstream {
	gone := upstreams[len(upstreams)/2].Nodes[0]
	out := slices.Clone(upstreams)
	for i := range out {
		if j := slices.Index(out[i].Nodes, gone); j >= 0 {
			out[i].Nodes = slices.Clone(out[i].Nodes)
			out[i].Nodes[j].Addr = netip.AddrFrom4([4]byte{10, 21, byte(i >> 8), byte(i)})
		}
	}
	return out
}

// BenchmarkApply applies two configurations in turn: one before and one after the loss of a node.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{500, 2000} {
		b.Run("services="+strconv.Itoa(n), func(b *testing.B) {
			table, upstreams := manyServices(n)
			before, _ := benchEdge.Config(table, upstreams)
			after, _ := benchEdge.Config(table, withoutNode(upstreams))
			dir := deploy.Dir{Path: b.TempDir()}
			configs := [2]*haproxycfg.Config{before, after}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if changed, err := dir.Apply(b.Context(), configs[i%2]); err != nil || !changed {
					b.Fatal(changed, err)
				}
			}
		})
	}
}

// BenchmarkDiff compares the configurations before and after the loss of a node.
func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{500, 2000} {
		b.Run("services="+strconv.Itoa(n), func(b *testing.B) {
			table, upstreams := manyServices(n)
			before, _ := benchEdge.Config(table, upstreams)
			after, _ := benchEdge.Config(table, withoutNode(upstreams))
			dir := deploy.Dir{Path: b.TempDir()}
			if _, err := dir.Apply(b.Context(), before); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if d, err := dir.Diff(after); err != nil || d.Empty() {
					b.Fatal(err)
				}
			}
		})
	}
}
