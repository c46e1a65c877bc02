package discovery

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// BenchmarkWatchers has 1,000 clients, each with a connection of its own, that wait for a change of
// one service of 75 pods. Each iteration changes the service, and waits until all clients have the
// change. Server and clients are in one process, so the figures of memory include both.
//
//	go test -run '^$' -bench Watchers -benchtime 10x ./discovery
func BenchmarkWatchers(b *testing.B) {
	for _, watchers := range []int{100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) { benchmarkWatchers(b, watchers) })
	}
}

// patience is the longest time to wait until all clients have a change and wait for the next one.
const patience = time.Minute

func benchmarkWatchers(b *testing.B, watchers int) {
	before := memory()
	h := &httpapi.Handler{}
	states := []endpoints.Services{services(75, "tracks"), services(74, "tracks")}
	h.Publish(states[0], httpapi.Source{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()

	ctx, cancel := context.WithCancel(b.Context())
	arrived := make(chan time.Time, watchers)
	var clients sync.WaitGroup
	for range watchers {
		clients.Go(func() { watch(ctx, b, "http://"+l.Addr().String()+"/v1/pods/media/tracks/http?wait=60s", arrived) })
	}
	defer clients.Wait()
	defer cancel()
	await := func() (times []time.Time) {
		deadline := time.After(patience)
		for range watchers {
			select {
			case at := <-arrived:
				times = append(times, at)
			case <-deadline:
				b.Fatalf("%d of %d clients have the change after %s", len(times), watchers, patience)
			}
		}
		for tick := time.Tick(time.Millisecond); h.Waiting() < watchers; {
			select {
			case <-tick:
			case <-deadline:
				b.Fatalf("%d of %d clients wait after %s", h.Waiting(), watchers, patience)
			}
		}
		return times
	}
	await()
	used := memory() - before

	var half, full []time.Duration
	for i := 1; b.Loop(); i++ {
		began := time.Now()
		h.Publish(states[i%2], httpapi.Source{})
		times := await()
		slices.SortFunc(times, time.Time.Compare)
		half, full = append(half, times[watchers/2].Sub(began)), append(full, times[watchers-1].Sub(began))
	}
	slices.Sort(half)
	slices.Sort(full)
	b.ReportMetric(float64(half[len(half)/2].Microseconds())/1000, "ms-until-half")
	b.ReportMetric(float64(full[len(full)/2].Microseconds())/1000, "ms-until-all")
	b.ReportMetric(float64(used)/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}

// watch sends requests that wait for a change, and reports the time of each new answer. It reads
// the answers and does not parse them, because real clients parse them on other machines.
func watch(ctx context.Context, b *testing.B, url string, arrived chan<- time.Time) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for tag := ""; ctx.Err() == nil; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			b.Error(err)
			return
		}
		req.Header.Set("If-None-Match", tag)
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err != nil {
			if ctx.Err() == nil {
				b.Error(err)
			}
			return
		}
		if next := resp.Header.Get("ETag"); resp.StatusCode == http.StatusOK && next != tag {
			tag = next
			arrived <- time.Now()
		}
	}
}

// memory returns the bytes in use by heap and stacks.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
