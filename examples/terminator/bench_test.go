package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/internal/manifesttest"
)

// BenchmarkOnce runs the binary with -once on manifests as kubectl prints them. It does not run
// haproxy -c. Each service has 20 of 1,000 nodes. peak-MB is the largest memory of a run.
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

// writeScale writes the manifests of cluster eu-1, and routes.yaml with a route for each service.
func writeScale(tb testing.TB, dir string, nodes, services int) {
	tb.Helper()
	write := func(name string, data []byte) {
		require.NoError(tb, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	require.NoError(tb, os.Mkdir(filepath.Join(dir, "eu-1"), 0o755))
	write("eu-1/nodes.yaml", manifesttest.YAML(manifesttest.Nodes(nodes)))
	write("eu-1/services.yaml", manifesttest.YAML(manifesttest.Services(services)))
	write("routes.yaml", manifesttest.Routes(services))
}

// BenchmarkFollow runs the binary with an API server that has 1,000 nodes and 2,000 services. It
// measures the time from a node event to the new configuration on disk, including the quiet time of
// 100 ms, and the resident memory. The API server of the benchmark sends JSON. A real API server
// sends protobuf, and the terminator needs less time for protobuf.
func BenchmarkFollow(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "terminator")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	dir := b.TempDir()
	writeScale(b, dir, 1, 2000)
	server := kubewatchtest.New(b)
	nodes := manifesttest.Nodes(1000)
	for _, n := range nodes {
		server.Set(n)
	}
	for _, svc := range manifesttest.Services(2000) {
		server.Set(svc)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	require.NoError(b, os.WriteFile(kubeconfig, kubeconfigOf(server.Config().Host), 0o600))
	out := filepath.Join(dir, "out")
	cmd := exec.Command(binary, "-routes", filepath.Join(dir, "routes.yaml"), "-cluster", "eu-1=kubeconfig:"+kubeconfig, "-out", out, "-http", ":80", "-min-interval", "0")
	log := &bytes.Buffer{}
	cmd.Stderr = log
	require.NoError(b, cmd.Start())
	defer func() {
		require.NoError(b, cmd.Process.Signal(os.Interrupt))
		require.NoError(b, cmd.Wait(), log)
	}()
	modified := func() time.Time {
		info, err := os.Stat(filepath.Join(out, "report.json"))
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	waitChange := func(before time.Time) {
		require.Eventually(b, func() bool { return modified().After(before) }, 30*time.Second, time.Millisecond)
	}
	waitChange(time.Time{})
	var took []time.Duration
	away := false
	for i := 0; b.Loop(); i++ {
		n := nodes[(i/2*37)%len(nodes)]
		before, begin := modified(), time.Now()
		if away = !away; away {
			server.Delete(n)
		} else {
			server.Set(n)
		}
		waitChange(before)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(rssOf(cmd.Process.Pid), "rss-MB")
}

// rssOf returns the resident memory of a process in MiB. It returns 0 if /proc does not show it.
func rssOf(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0
	}
	return resident * float64(os.Getpagesize()) / (1 << 20)
}
