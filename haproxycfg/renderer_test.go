package haproxycfg_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// requireSame requires that the Renderer, which has rendered other configurations before, returns
// the same for c as a new rendering.
func requireSame(t *testing.T, r *haproxycfg.Renderer, c *haproxycfg.Config, what string) (ok bool) {
	t.Helper()
	want, wantErr := c.Render("/etc/haproxy")
	valid, err := r.Valid(c)
	if wantErr != nil {
		require.EqualError(t, err, wantErr.Error(), what)
		return false
	}
	require.NoError(t, err, what)
	got, err := valid.Render("/etc/haproxy")
	require.NoError(t, err, what)
	require.Equal(t, want, got, what)
	return true
}

// randomChange changes one part of the configuration in place. Some results are invalid.
func randomChange(r *rand.Rand, c *haproxycfg.Config) (what string) {
	at := r.IntN(len(c.Backends))
	b := &c.Backends[at]
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}), 80)
	switch n := r.IntN(17); n {
	case 0:
		b.Servers = append(b.Servers, haproxycfg.Server{Addr: addr, Track: []string{"", "nodes/" + netip.AddrPortFrom(addr.Addr(), 10256).String()}[r.IntN(2)]})
		return "add a server to " + b.Name
	case 1, 2:
		if len(b.Servers) > 0 {
			b.Servers = slices.Delete(b.Servers, 0, 1)
		}
		return "remove a server of " + b.Name
	case 3:
		if len(b.Servers) > 0 {
			b.Servers[0].Weight = r.IntN(3) + 1
		}
		return "another weight in " + b.Name
	case 4:
		b.Balance = []haproxycfg.Balance{haproxycfg.RoundRobin, haproxycfg.URI, haproxycfg.LeastConn}[r.IntN(3)]
		return "another balance of " + b.Name
	case 5:
		b.Health.Path = []string{"", "/health"}[r.IntN(2)]
		return "another check of " + b.Name
	case 6:
		b.Timeouts.Server = time.Duration(r.IntN(3)) * time.Second
		return "another time-out of " + b.Name
	case 7:
		c.Global.Version = haproxycfg.Version{Major: 2 + r.IntN(2), Minor: 6}
		return "another version"
	case 8:
		c.Global.Variables = []haproxycfg.Variable{{Name: "n", Value: r.IntN(3)}}
		b.QueueLimit = []string{"", "n"}[r.IntN(2)]
		return "a variable"
	case 9:
		c.Global.Variables = nil
		return "no variable"
	case 10:
		c.Backends = append(c.Backends, haproxycfg.Backend{Name: fmt.Sprintf("new%d", r.IntN(9)), Servers: []haproxycfg.Server{{Addr: addr}}})
		return "a new backend"
	case 11:
		if at > 1 {
			c.Backends = slices.Delete(c.Backends, at, at+1)
		}
		return "a backend less"
	case 12:
		if at > 1 {
			b.Name = fmt.Sprintf("named%d", r.IntN(9))
		}
		return "another name of a backend"
	case 13:
		c.Backends[0].Servers = []haproxycfg.Server{{Addr: netip.AddrPortFrom(addr.Addr(), 10256), Check: true}}
		return "another node"
	case 14:
		c.Backends[1].Response.Body = fmt.Sprint(r.IntN(3))
		return "another answer"
	case 15:
		c.Frontends[0].Router = []*haproxycfg.Router{nil, {Hosts: "hosts", Exact: "exact", Prefix: "prefix"}}[r.IntN(2)]
		return "a router"
	default:
		c.Maps[0].Entries = []haproxycfg.MapEntry{{Key: fmt.Sprint(r.IntN(5)), Value: b.Name}}
		return "a map"
	}
}

// TestRendererAfterRandomChanges: what a Renderer remembers does not change its results, although
// the Config is changed in place.
func TestRendererAfterRandomChanges(t *testing.T) {
	valid, invalid := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		node := haproxycfg.Server{Addr: netip.MustParseAddrPort("10.0.0.1:10256"), Check: true}
		c := &haproxycfg.Config{
			Maps:      []haproxycfg.Map{{Name: "hosts", Stable: true}, {Name: "exact"}, {Name: "prefix"}},
			Frontends: []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: ":80"}}, DefaultBackend: "answer"}},
			Backends: []haproxycfg.Backend{
				{Name: "nodes", Servers: []haproxycfg.Server{node}},
				{Name: "answer", Response: &haproxycfg.FixedResponse{Status: 404}},
				{Name: "a", Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Track: "nodes/" + node.Name()}}},
				{Name: "b", Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.2:80")}}},
			},
		}
		var renderer haproxycfg.Renderer
		require.True(t, requireSame(t, &renderer, c, "first"))
		for i := range 60 {
			before := *c
			before.Backends = slices.Clone(c.Backends)
			for i := range before.Backends {
				before.Backends[i].Servers = slices.Clone(before.Backends[i].Servers)
			}
			what := fmt.Sprintf("seed %d, change %d: %s", seed, i, randomChange(r, c))
			if requireSame(t, &renderer, c, what) {
				valid++
				continue
			}
			invalid++
			if r.IntN(2) == 0 { // otherwise the next change is of an invalid configuration
				*c = before
			}
		}
	}
	require.Greater(t, valid, 500)
	require.Greater(t, invalid, 100)
}

// TestRendererSeesEachFieldOfABackend changes the fields of a backend one after the other.
func TestRendererSeesEachFieldOfABackend(t *testing.T) {
	config := func() *haproxycfg.Config {
		return &haproxycfg.Config{
			Global:    haproxycfg.Global{Variables: []haproxycfg.Variable{{Name: "x"}}, Version: haproxycfg.Version{Major: 3, Minor: 4}},
			Frontends: []haproxycfg.Frontend{{Name: "f", Binds: []haproxycfg.Bind{{Address: ":80"}}}},
			Backends: []haproxycfg.Backend{{
				Name: "b", Health: haproxycfg.Health{Path: "/h"}, Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Check: true, AgentPort: 1}},
			}},
		}
	}
	fields := 0
	var visit func(path []int, typ reflect.Type)
	visit = func(path []int, typ reflect.Type) {
		if typ.Kind() == reflect.Struct && typ != reflect.TypeFor[netip.AddrPort]() {
			for i := range typ.NumField() {
				visit(append(slices.Clone(path), i), typ.Field(i).Type)
			}
			return
		}
		c := config()
		field := reflect.ValueOf(&c.Backends[0]).Elem().FieldByIndex(path)
		switch field.Kind() {
		case reflect.String:
			field.SetString("x")
		case reflect.Bool:
			field.SetBool(!field.Bool())
		case reflect.Int, reflect.Int64:
			field.SetInt(int64(2 * time.Second))
			if field.Kind() == reflect.Int {
				field.SetInt(3)
			}
		case reflect.Slice:
			c.Backends[0].Servers[0].Weight = 7
		case reflect.Pointer:
			c.Backends[0].Servers = nil
			field.Set(reflect.ValueOf(&haproxycfg.FixedResponse{Status: 404}))
		default:
			require.FailNow(t, "a field of another kind", "%v", field.Type())
		}
		fields++
		var renderer haproxycfg.Renderer
		for range 2 { // the Renderer remembers the second configuration
			require.True(t, requireSame(t, &renderer, config(), "before"))
		}
		requireSame(t, &renderer, c, fmt.Sprintf("field %v of %v", path, typ))
	}
	visit(nil, reflect.TypeFor[haproxycfg.Backend]())
	require.Greater(t, fields, 25)
}

// TestRendererRemembersNoFirstConfiguration requires that the first configuration needs as many
// allocations as without a Renderer, and the second more.
func TestRendererRemembersNoFirstConfiguration(t *testing.T) {
	c := &haproxycfg.Config{Backends: []haproxycfg.Backend{{Name: "b", Servers: []haproxycfg.Server{{Addr: netip.MustParseAddrPort("10.0.0.1:80")}}}}}
	allocations := func(n int) float64 {
		return testing.AllocsPerRun(10, func() {
			var r haproxycfg.Renderer
			for range n {
				_, _ = r.Valid(c)
			}
		})
	}
	fresh := testing.AllocsPerRun(10, func() { _, _ = c.Valid() })
	require.LessOrEqual(t, allocations(1), fresh+1, "the first configuration; the Renderer itself may be an allocation")
	require.Greater(t, allocations(2), 2*fresh+2)
}
