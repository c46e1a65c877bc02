package kube_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// randomEntry returns an entry of a file with routes.
func randomEntry(r *rand.Rand) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- host: h%d.example.com\n  path: /p%d\n", r.IntN(20), r.IntN(4))
	b.WriteString([]string{"", "", "  exact: true\n"}[r.IntN(3)])
	b.WriteString([]string{"", "", "", "  timeouts: {server: 7s}\n", "  check: {path: /health}\n", "  protocol: grpc\n", "  limits: {requests: 5}\n"}[r.IntN(7)])
	b.WriteString("  backends:\n")
	cluster := r.IntN(3)
	fmt.Fprintf(&b, "  - {cluster: eu-%d, namespace: media, service: s%d, port: http, weight: %d}\n", cluster+1, r.IntN(3), r.IntN(3)*50)
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "  - {cluster: eu-%d, namespace: media, service: s%d, port: http, weight: %d}\n", (cluster+1)%3+1, r.IntN(4), r.IntN(3)*50)
		b.WriteString([]string{"", "", "  shift: true\n", fmt.Sprintf("  prefer:\n  - {clusters: [eu-%d]}\n", cluster+1)}[r.IntN(4)])
	}
	return b.String()
}

// TestBuildAfterRandomChanges: a Builder with Groups returns the same as one without, whatever
// tables it had before.
func TestBuildAfterRandomChanges(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	built := 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		var clusters []kube.Cluster
		for i := range 2 { // eu-3 is missing
			clusters = append(clusters, kube.Cluster{Name: fmt.Sprintf("eu-%d", i+1), Objects: objects(nil,
				testService("s0", 30000, nil), testService("s1", 30001, map[string]string{"headgate.dev/agent-port": "9801"}), testService("s2", 0, nil))})
		}
		plain := kube.Builder{Edge: edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}}
		if seed%3 == 0 {
			plain.FileLimits.Servers = 60
		}
		remembering := plain
		remembering.Groups = &edge.Grouper{}
		var parser routes.Parser
		var entries []string
		for i := range 40 {
			for range 1 + r.IntN(3) {
				switch at := r.IntN(len(entries) + 1); {
				case len(entries) > 0 && r.IntN(4) == 0:
					entries = slices.Delete(entries, min(at, len(entries)-1), min(at, len(entries)-1)+1)
				case len(entries) > 0 && r.IntN(4) == 0:
					entries[min(at, len(entries)-1)] = randomEntry(r)
				default:
					entries = slices.Insert(entries, at, randomEntry(r))
				}
			}
			table, _ := parser.Parse("routes.yaml", []byte("routes:\n"+strings.Join(entries, "")))
			if r.IntN(5) == 0 {
				table, _ = routes.New(table.Routes()...) // the same routes in other memory
			}
			if r.IntN(5) == 0 {
				table = table.Without(func(*routes.Route) bool { return r.IntN(3) == 0 })
			}
			what := fmt.Sprintf("seed %d, change %d", seed, i)
			require.Equal(t, edge.GroupRoutes(table), remembering.Groups.Group(table), what)
			require.Equal(t, table.Refs(), edge.GroupRoutes(table).FirstRoutes().Refs(), what)
			wantConfig, wantReport := plain.Build(table, clusters, now)
			config, report := remembering.Build(table, clusters, now)
			require.Equal(t, wantConfig, config, what)
			require.Equal(t, wantReport, report, what)
			built += len(config.Backends)
		}
	}
	require.Greater(t, built, 3000)
}
