package controller

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Traffic describes the load of servers with given IP addresses: how many such servers HAProxy has,
// and how many requests to them are in flight.
type Traffic struct {
	// Servers is the number of servers with one of the addresses, in the worker that serves new
	// connections. Accepting is how many of these servers get new requests.
	Servers   int `json:"servers"`
	Accepting int `json:"accepting"`
	// Sessions is the number of requests and tunnels in flight to the addresses, in the present
	// worker and all old workers of HAProxy.
	Sessions uint64 `json:"sessions"`
	// OldWorkers is the number of old workers.
	OldWorkers int `json:"oldWorkers"`
}

// NewTraffic computes the Traffic of addresses. workers has the rows of "show stat" of each worker.
// The first element is for the worker that serves new connections.
func NewTraffic(workers [][]runtimeapi.Stat, addrs []netip.Addr) Traffic {
	t := Traffic{OldWorkers: max(0, len(workers)-1)}
	for i, rows := range workers {
		for _, row := range rows {
			at, err := netip.ParseAddrPort(row.Addr)
			if err != nil || !slices.Contains(addrs, at.Addr().Unmap()) {
				continue
			}
			t.Sessions += row.Sessions
			if i > 0 {
				continue // old workers get no new connections
			}
			t.Servers++
			// "UP 1/3" is a server that is about to become down, and it still gets requests.
			if strings.HasPrefix(row.Status, "UP") || row.Status == "no check" {
				t.Accepting++
			}
		}
	}
	return t
}

// maxTrafficAddrs is the largest number of addresses in a request to TrafficHandler.
const maxTrafficAddrs = 16

// TrafficHandler returns a handler of GET /traffic?addr=ADDR, with one or more addr. It answers
// with the Traffic of these addresses in JSON. stats returns the rows of "show stat" of each worker
// (see NewTraffic); if it fails, for example because HAProxy does not answer, the status is 503.
func TrafficHandler(stats func(context.Context) ([][]runtimeapi.Stat, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /traffic", func(w http.ResponseWriter, r *http.Request) {
		var addrs []netip.Addr
		texts := r.URL.Query()["addr"]
		for _, text := range texts {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				http.Error(w, "addr: "+err.Error(), http.StatusBadRequest)
				return
			}
			addrs = append(addrs, addr.Unmap())
		}
		if len(texts) == 0 || len(texts) > maxTrafficAddrs {
			http.Error(w, "the request needs 1 to 16 times addr=ADDR", http.StatusBadRequest)
			return
		}
		workers, err := stats(r.Context())
		if err != nil {
			w.Header().Set("Retry-After", "2")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(NewTraffic(workers, addrs))
	})
	return mux
}
