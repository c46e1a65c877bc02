package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// journal keeps what nodes and clients saw.
type journal struct {
	mu       sync.Mutex
	arrivals []arrival
	sent     int
	failures []string // of requests that had to be answered 200
}

func (j *journal) arrived(a arrival) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arrivals = append(j.arrivals, a)
}

func (j *journal) finished(failure error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent++
	if failure != nil {
		j.failures = append(j.failures, failure.Error())
	}
}

// since returns the requests that services ("cluster/namespace/name"), all of them
// if none is named, got from some time on.
func (j *journal) since(from time.Time, services ...string) []arrival {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []arrival
	for _, a := range j.arrivals {
		if !a.at.Before(from) && (len(services) == 0 || slices.Contains(services, a.service)) {
			found = append(found, a)
		}
	}
	return found
}

// total returns the number of requests that had to be answered, and the failures.
func (j *journal) total() (sent int, failures []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sent, append([]string(nil), j.failures...)
}

// client sends requests for any host to one address.
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

// answer is what came back: the service that answered, or the status of an error.
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

// stream sends requests for the urls in turn until ctx ends, and notes each one
// that is not answered 200.
func (c *client) stream(ctx context.Context, interval time.Duration, urls ...string) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		url := urls[i%len(urls)]
		got, err := c.get(ctx, url)
		switch {
		case ctx.Err() != nil:
			return // the request was cut off, it did not fail
		case err != nil:
			c.journal.finished(err)
		case got.status != http.StatusOK:
			c.journal.finished(errors.New(url + ": " + got.String()))
		default:
			c.journal.finished(nil)
		}
	}
}
