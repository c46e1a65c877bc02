package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/manifesttest"
)

// BenchmarkOnce runs the binary as a user does, on manifests as kubectl prints
// them: n services on 20 of 1,000 nodes each, without HAProxy's own check. Peak
// memory is that of the largest run.
func BenchmarkOnce(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "terminator")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, services := range []int{500, 1000, 2000, 4000} {
		b.Run(fmt.Sprintf("services=%d/nodes=1000", services), func(b *testing.B) {
			dir := b.TempDir()
			writeScale(b, dir, 1000, services)
			var peak int64
			run := 0
			for b.Loop() {
				run++
				cmd := exec.Command(binary, "-once", "-routes", filepath.Join(dir, "routes.yaml"),
					"-cluster", "eu-1=dir:"+filepath.Join(dir, "eu-1"),
					"-out", filepath.Join(dir, fmt.Sprint("out", run)), "-http", ":80")
				out, err := cmd.CombinedOutput()
				require.NoError(b, err, "%s", out)
				peak = max(peak, maxRSS(cmd.ProcessState))
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MB")
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/float64(services), "us/service")
		})
	}
}

// writeScale writes a cluster and a route for each of its services.
func writeScale(tb testing.TB, dir string, nodes, services int) {
	tb.Helper()
	write := func(name string, data []byte) {
		require.NoError(tb, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	require.NoError(tb, os.Mkdir(filepath.Join(dir, "eu-1"), 0o755))
	write("eu-1/nodes.yaml", manifesttest.YAML(manifesttest.Nodes(nodes)))
	write("eu-1/services.yaml", manifesttest.YAML(manifesttest.Services(services)))
	var routes bytes.Buffer
	routes.WriteString("routes:\n")
	for i := range services {
		namespace, name := manifesttest.ServiceName(i)
		fmt.Fprintf(&routes, "- host: s%d.example.com\n  path: /api\n  backends:\n  - {cluster: eu-1, namespace: %s, service: %s, port: http}\n", i, namespace, name)
	}
	write("routes.yaml", routes.Bytes())
}
