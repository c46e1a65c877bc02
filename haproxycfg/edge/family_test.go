package edge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/routes"
)

func splitRoute(host string, weights ...int) routes.Route {
	r := routes.Route{Host: host, Path: "/"}
	for i, weight := range weights {
		r.Backends = append(r.Backends, routes.Backend{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: fmt.Sprint("s", i), Port: "http"}, Weight: weight})
	}
	return r
}

// TestFamilies makes random weights. Each ratio has one backend, and at least as many backends are
// spare. The number of backends changes only if the number of ratios exceeds a power of two.
func TestFamilies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		ratios := map[string]bool{}
		var declared []routes.Route
		for i := range 1 + random.IntN(12) {
			r := splitRoute(fmt.Sprintf("h%02d.example.com", i), 1+random.IntN(4), random.IntN(4))
			ratios[string(appendWeights(nil, &r))] = true
			declared = append(declared, r)
		}
		table, problems := routes.New(declared...)
		require.Empty(t, problems)
		config, _ := Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(table, nil)
		require.NoError(t, config.Validate())
		size := 4
		for size < 2*len(ratios) {
			size *= 2
		}
		require.Len(t, config.Backends, size+1, "and the backend not-found")
		used := map[string]string{}
		for i, e := range config.Maps[1].Entries {
			r := &table.Routes()[i]
			require.Equal(t, r.Host+"/", e.Key)
			require.True(t, new(Edge).IsBackendOf(r, e.Value), e.Value)
			ratio := string(appendWeights(nil, r))
			if other, ok := used[e.Value]; ok {
				require.Equal(t, ratio, other)
			}
			used[e.Value] = ratio
			if len(ratios) == 1 {
				name, _ := new(Edge).BackendOf(r)
				require.Equal(t, name, e.Value, "a single ratio keeps its backend")
			}
		}
		require.Len(t, used, len(ratios))
	}
}

func TestIsBackendOf(t *testing.T) {
	split, alone := splitRoute("a.example.com", 1, 2), splitRoute("a.example.com", 1)
	limited := splitRoute("a.example.com", 1, 2)
	limited.Limits.Requests = 5
	for _, r := range []*routes.Route{&split, &alone, &limited} {
		name, _ := new(Edge).BackendOf(r)
		require.True(t, new(Edge).IsBackendOf(r, name))
		require.Equal(t, r == &split, new(Edge).IsBackendOf(r, name+"-1"))
		for _, other := range []string{"", "-", "-x", "-1-1"} {
			require.Equal(t, other == "", new(Edge).IsBackendOf(r, name+other), other)
		}
		require.False(t, new(Edge).IsBackendOf(r, "x"))
	}
}
