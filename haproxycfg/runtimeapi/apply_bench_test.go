package runtimeapi_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// BenchmarkApply adds 1,000 servers with health checks to the newest HAProxy on the machine, and
// removes them again. Before 3.0, it fills 1,000 slots instead of adding servers.
func BenchmarkApply(b *testing.B) {
	const servers = 1000
	binaries := haproxytest.Binaries(b)
	dir := haproxytest.Dir(b)
	socket := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}
	empty, full := runtimeapi.Backend{Name: "a"}, runtimeapi.Backend{Name: "a"}
	for i := range servers {
		s := runtimeapi.Server{Name: fmt.Sprintf("s%d", i), Addr: netip.MustParseAddrPort("127.0.0.1:1"), Weight: 100, Maint: true, Check: true}
		s.Add = fmt.Sprintf("add server a/%s %s weight 100 check inter 1h", s.Name, s.Addr)
		empty.Servers = append(empty.Servers, s)
		s.Addr, s.Maint = netip.AddrPortFrom(s.Addr.Addr(), 2), false
		full.Servers = append(full.Servers, s)
	}
	file := filepath.Join(dir, haproxytest.ConfigFile)
	if err := os.WriteFile(file, []byte(planConfig(dir, []runtimeapi.Backend{empty})), 0o600); err != nil {
		b.Fatal(err)
	}
	h, err := haproxyproc.Start(b.Context(), haproxyproc.Options{Path: slices.Max(binaries), Config: file, StatsSocket: socket.Path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(h.Stop)
	before := []runtimeapi.Backend{empty}
	change := func(wanted []runtimeapi.Backend) {
		actual, err := socket.Actual(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		plan := actual.Plan(before, wanted)
		if _, err := socket.Apply(b.Context(), plan); err != nil || len(plan.Reload) > 0 {
			b.Fatal(err, plan.Reload)
		}
		before = wanted
	}
	none := []runtimeapi.Backend{empty}
	if v, err := socket.Actual(b.Context()); err == nil && v.Version.DeletesServers() {
		none = []runtimeapi.Backend{{Name: "a"}}
	}
	change(none)
	b.ReportAllocs()
	for b.Loop() {
		change([]runtimeapi.Backend{full})
		b.StopTimer()
		change(none)
		b.StartTimer()
	}
}
