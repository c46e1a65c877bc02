package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// visit is a request that a node has answered.
type visit struct {
	node, service string // service is "cluster/namespace/name"
	// sent is the time at which the client began the request. The scenario uses it to skip the
	// requests that began before a change.
	sent time.Time
}

// journal collects the results of the requests.
type journal struct {
	mu       sync.Mutex
	visits   []visit
	sent     int
	failures []string // errors, and statuses other than 200
}

func (j *journal) answered(v visit) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent++
	j.visits = append(j.visits, v)
}

func (j *journal) failed(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent++
	j.failures = append(j.failures, why)
}

// The method "since" returns the visits whose requests began at the time "start" or later. If the
// caller passes services ("cluster/namespace/name"), the method returns only the visits to these
// services.
func (j *journal) since(start time.Time, services ...string) []visit {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []visit
	for _, v := range j.visits {
		if !v.sent.Before(start) && (len(services) == 0 || slices.Contains(services, v.service)) {
			found = append(found, v)
		}
	}
	return found
}

// total returns the number of requests, and the reason for each request that failed.
func (j *journal) total() (sent int, failures []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sent, slices.Clone(j.failures)
}

// client is an HTTP client that connects to the same address for every request, whatever the host
// in the URL is.
type client struct {
	http    http.Client
	journal *journal
}

func newClient(addr string, j *journal) *client {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &client{journal: j, http: http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, addr)
			},
			MaxIdleConnsPerHost: 8,
		},
	}}
}

// answer is the response to a request: its status, and the service and node that sent it.
type answer struct {
	status        int
	service, node string
}

func (a answer) String() string {
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	return a.service
}

func (c *client) get(ctx context.Context, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header.Get("X-Service"), resp.Header.Get("X-Node")}, nil
}

// stream sends a request in each interval, to one URL after the other, and adds the results to the
// journal. It returns when ctx ends.
func (c *client) stream(ctx context.Context, interval time.Duration, urls ...string) {
	tick := time.Tick(interval)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		url, sent := urls[i%len(urls)], time.Now()
		got, err := c.get(ctx, url)
		switch {
		case ctx.Err() != nil:
			return // the end of ctx interrupted the request
		case err != nil:
			c.journal.failed(err.Error())
		case got.status != http.StatusOK:
			c.journal.failed(url + ": " + got.String())
		default:
			c.journal.answered(visit{got.node, got.service, sent})
		}
	}
}
