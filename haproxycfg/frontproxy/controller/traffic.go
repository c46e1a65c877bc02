package controller

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// PodTraffic is the traffic of one pod since the start of the controller.
type PodTraffic struct {
	Pod  string // name of the Pod object, or its address if the name is unknown
	Zone string // "" if unknown
	// Requests is the number of requests that HAProxy has sent to the pod. Errors is the number of
	// answers of the pod with a status of 500 to 599. Failures is the number of failed connections
	// and broken answers.
	Requests, Errors, Failures uint64
	// InFlight is the current number of requests without a complete answer.
	InFlight uint64
	// Up is true while HAProxy sends requests to a server with the address of the pod.
	Up bool
}

// Traffic adds up HAProxy's counters of servers for each pod. A counter of HAProxy alone does not
// show the traffic of a pod: a slot (a server with a fixed name) can contain several pods one after
// another, a pod can be in several backends, and a reload resets all counters.
//
// The zero value has no traffic. A Traffic is not safe for concurrent use.
type Traffic struct {
	servers map[string]serverCounters // the last counters of each server, by "backend/server"
	pods    map[netip.AddrPort]*podEntry
}

type serverCounters struct {
	addr                       string
	requests, errors, failures uint64
}

type podEntry struct {
	PodTraffic
	seen time.Time
}

// forgetAfter is how long Traffic keeps a pod that no longer has a server. It is longer than the
// usual interval between two scrapes of the metrics, so that a scrape still reads the last numbers.
const forgetAfter = 5 * time.Minute

// Name sets the name and zone of the pod with the address addr. Without a call of Name, the name of
// a pod is its address.
func (t *Traffic) Name(addr netip.AddrPort, pod, zone string, now time.Time) {
	t.entry(addr, now).set(pod, zone)
}

func (t *Traffic) entry(addr netip.AddrPort, now time.Time) *podEntry {
	if t.pods == nil {
		t.pods = map[netip.AddrPort]*podEntry{}
	}
	e := t.pods[addr]
	if e == nil {
		e = &podEntry{PodTraffic: PodTraffic{Pod: addr.String()}}
		t.pods[addr] = e
	}
	e.seen = now
	return e
}

// set sets the name of the entry. If the entry already had another name, the address now belongs to
// a new pod, so the counters begin at 0.
func (e *podEntry) set(pod, zone string) {
	if pod == "" {
		pod = e.Pod
	}
	if e.Pod != pod && !strings.Contains(e.Pod, ":") {
		e.PodTraffic = PodTraffic{}
	}
	e.Pod, e.Zone = pod, zone
}

// Update reads the counters of the servers from the rows of "show stat". An increase counts for the
// pod that the server had at the last Update. If the server was an empty slot then, without a pod,
// the increase counts for the present pod. So call Update also just before each change of the
// servers.
func (t *Traffic) Update(rows []runtimeapi.Stat, now time.Time) {
	for _, e := range t.pods {
		e.InFlight, e.Up = 0, false
	}
	servers := make(map[string]serverCounters, len(t.servers))
	for _, row := range rows {
		addr, err := netip.ParseAddrPort(row.Addr)
		if err != nil || row.Server == "FRONTEND" || row.Server == "BACKEND" {
			continue
		}
		key := row.Proxy + "/" + row.Server
		present := serverCounters{row.Addr, row.Total, row.Responses[5], row.ConnErrors + row.RespErrors}
		before, known := t.servers[key]
		if !known || present.requests < before.requests || present.failures < before.failures {
			before = serverCounters{addr: row.Addr}
		}
		servers[key] = present
		maintenance := strings.HasPrefix(row.Status, "MAINT")
		if maintenance && present == before {
			continue // an empty slot
		}
		from, err := netip.ParseAddrPort(before.addr)
		if err == nil && frontproxy.IsEmptySlot(from) {
			from = addr // an empty slot gets no requests, so the present pod has got them
		}
		if err == nil && !frontproxy.IsEmptySlot(from) {
			e := t.entry(from, now)
			e.Requests += present.requests - before.requests
			e.Errors += present.errors - min(before.errors, present.errors)
			e.Failures += present.failures - before.failures
		}
		if frontproxy.IsEmptySlot(addr) {
			continue
		}
		e := t.entry(addr, now)
		e.InFlight += row.Sessions
		e.Up = e.Up || strings.HasPrefix(row.Status, "UP") || row.Status == "no check"
	}
	t.servers = servers
	t.forget(now)
}

// forget removes addresses that have had no server for forgetAfter. If the pod of a removed address
// has another address now, forget adds the old counters to the counters of the present address, so
// that the sum of the pod's counters does not fall.
func (t *Traffic) forget(now time.Time) {
	var old []*podEntry
	maps.DeleteFunc(t.pods, func(_ netip.AddrPort, e *podEntry) bool {
		if now.Sub(e.seen) <= forgetAfter {
			return false
		}
		old = append(old, e)
		return true
	})
	if len(old) == 0 {
		return
	}
	kept := make(map[podKey]*podEntry, len(t.pods))
	for _, e := range t.pods {
		kept[e.key()] = e
	}
	for _, e := range old {
		if k := kept[e.key()]; k != nil {
			k.add(e.PodTraffic)
		}
	}
}

// podKey is the key of a pod in the map with which Pods adds up the traffic of each pod.
type podKey struct{ zone, pod string }

func (p PodTraffic) key() podKey { return podKey{p.Zone, p.Pod} }

func (p *PodTraffic) add(o PodTraffic) {
	p.Requests += o.Requests
	p.Errors += o.Errors
	p.Failures += o.Failures
	p.InFlight += o.InFlight
	p.Up = p.Up || o.Up
}

// Pods returns the traffic of all pods, sorted by zone and pod. If a pod has had several addresses,
// it appears once: a pod of a StatefulSet keeps its name when it gets another address.
func (t *Traffic) Pods() []PodTraffic {
	all := make([]PodTraffic, 0, len(t.pods))
	at := make(map[podKey]int, len(t.pods))
	for _, e := range t.pods {
		if i, ok := at[e.key()]; ok {
			all[i].add(e.PodTraffic)
			continue
		}
		at[e.key()] = len(all)
		all = append(all, e.PodTraffic)
	}
	slices.SortFunc(all, func(a, b PodTraffic) int {
		return cmp.Or(strings.Compare(a.Zone, b.Zone), strings.Compare(a.Pod, b.Pod))
	})
	return all
}
