package controller

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

func TestTraffic(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	one, two := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[fd00::2]:80")
	row := func(server string, addr netip.AddrPort, status string, total, errors, failures, sessions uint64) runtimeapi.Stat {
		return runtimeapi.Stat{
			Proxy: "local", Server: server, Addr: addr.String(), Status: status, Total: total,
			Responses: [6]uint64{5: errors}, ConnErrors: failures, Sessions: sessions,
		}
	}
	var traffic Traffic
	traffic.Name(one, "pod-1", "a", now)
	update := func(rows ...runtimeapi.Stat) {
		now = now.Add(time.Minute)
		traffic.Update(rows, now)
	}
	update(runtimeapi.Stat{Proxy: "local", Server: "BACKEND", Total: 9}, row("s1", one, "UP", 10, 1, 2, 3), row("s2", netip.MustParseAddrPort("127.0.0.1:1"), "MAINT", 0, 0, 0, 0))
	require.Equal(t, []PodTraffic{{Pod: "pod-1", Zone: "a", Requests: 10, Errors: 1, Failures: 2, InFlight: 3, Up: true}}, traffic.Pods())

	// Another pod gets the slot. The name of this pod is not known yet.
	update(row("s1", two, "UP 1/3", 14, 1, 2, 1))
	pod2 := PodTraffic{Pod: "[fd00::2]:80", InFlight: 1, Up: true}
	pod1 := PodTraffic{Pod: "pod-1", Zone: "a", Requests: 14, Errors: 1, Failures: 2}
	require.Equal(t, []PodTraffic{pod2, pod1}, traffic.Pods())

	// A reload: the counters begin at 0. The pod is a server of two backends.
	traffic.Name(two, "pod-2", "b", now)
	other := row("s1", two, "no check", 5, 0, 0, 0)
	other.Proxy = "panic"
	update(row("s1", two, "DOWN", 2, 0, 0, 0), other)
	pod2 = PodTraffic{Pod: "pod-2", Zone: "b", Requests: 7, Up: true}
	require.Equal(t, []PodTraffic{pod1, pod2}, traffic.Pods())

	// A pod that has gone stays for some minutes.
	update()
	pod2.Up = false
	require.Equal(t, []PodTraffic{pod1, pod2}, traffic.Pods())
	for range 6 {
		update()
	}
	require.Empty(t, traffic.Pods())

	// The address belongs to another pod.
	traffic.Name(one, "pod-1", "a", now)
	update(row("s1", one, "UP", 5, 0, 0, 0))
	traffic.Name(one, "pod-3", "a", now)
	require.Equal(t, []PodTraffic{{Pod: "pod-3", Zone: "a"}}, traffic.Pods())
}

// An empty slot is not a pod. The requests since a pod got an empty slot count for this pod, and the
// requests until a pod lost its slot count for the pod that was there.
func TestTrafficOfEmptySlots(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var traffic Traffic
	update := func(addr, status string, total uint64) []PodTraffic {
		traffic.Update([]runtimeapi.Stat{{Proxy: "local", Server: "s1", Addr: addr, Status: status, Total: total}}, now)
		return traffic.Pods()
	}
	const empty, one, two = "127.0.0.1:1", "10.0.0.1:80", "10.0.0.2:80"
	require.Empty(t, update(empty, "MAINT", 0))
	require.Equal(t, []PodTraffic{{Pod: one, Requests: 5, Up: true}}, update(one, "UP", 5))
	require.Equal(t, []PodTraffic{{Pod: one, Requests: 7}}, update(empty, "MAINT", 7))
	require.Equal(t, []PodTraffic{{Pod: one, Requests: 7}}, update(empty, "MAINT", 7))
	require.Equal(t, []PodTraffic{{Pod: one, Requests: 7}, {Pod: two, Requests: 3, Up: true}}, update(two, "UP", 10))
}

// A pod of a StatefulSet starts again with the same name and another address.
func TestTrafficOfAPodWithAnotherAddress(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	one, two := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	row := func(addr netip.AddrPort, total uint64) runtimeapi.Stat {
		return runtimeapi.Stat{Proxy: "local", Server: addr.String(), Addr: addr.String(), Status: "UP", Total: total}
	}
	var traffic Traffic
	traffic.Name(one, "web-0", "a", now)
	traffic.Update([]runtimeapi.Stat{row(one, 10)}, now)
	for minute := range uint64(8) { // longer than Traffic keeps the old address
		traffic.Name(two, "web-0", "a", now)
		traffic.Update([]runtimeapi.Stat{row(two, minute)}, now)
		require.Equal(t, []PodTraffic{{Pod: "web-0", Zone: "a", Requests: 10 + minute, Up: true}}, traffic.Pods(), "after %d minutes", minute)
		now = now.Add(time.Minute)
	}
}

func BenchmarkTraffic(b *testing.B) {
	const pods = 1000
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var traffic Traffic
	var rows []runtimeapi.Stat
	for i := range pods {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		traffic.Name(addr, fmt.Sprint("pod-", i), "a", now)
		for _, backend := range []string{"local", "panic"} {
			rows = append(rows, runtimeapi.Stat{Proxy: backend, Server: fmt.Sprint("s", i), Addr: addr.String(), Status: "UP"})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range rows {
			rows[i].Total++
		}
		traffic.Update(rows, now)
	}
}
