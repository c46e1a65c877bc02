package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
)

// Traffic describes the requests that the HAProxy of a terminator sends to a node.
type Traffic struct {
	Source string `json:"source"` // names the terminator
	// Servers is the number of HAProxy's servers with an address of the node. Accepting is the
	// number of these servers to which HAProxy sends new requests.
	Servers   int `json:"servers"`
	Accepting int `json:"accepting"`
	// Sessions is the number of requests and tunnels to the node that have not ended. It includes
	// those of old HAProxy workers.
	Sessions   int `json:"sessions"`
	OldWorkers int `json:"oldWorkers"`
}

// String returns the Traffic in one line.
func (t Traffic) String() string {
	text := fmt.Sprintf("%s: %d of %d servers get new requests, %d requests", t.Source, t.Accepting, t.Servers, t.Sessions)
	if t.OldWorkers > 0 {
		text += fmt.Sprintf(", %d old workers", t.OldWorkers)
	}
	return text
}

// TrafficSource returns the Traffic of the node with these addresses. Any number of goroutines may
// call it.
type TrafficSource func(context.Context, []netip.Addr) (Traffic, error)

// maxTraffic is the largest size, in bytes, of the answer of a terminator to GET /traffic.
const maxTraffic = 64 << 10

// TrafficURL returns a TrafficSource that reads the page /traffic of a terminator's admin listener.
// report is the URL of the page /report.json of this listener. c is the HTTP client; nil means a
// new client.
func TrafficURL(report string, c *http.Client) (TrafficSource, error) {
	base, ok := strings.CutSuffix(report, "/report.json")
	if !ok {
		return nil, fmt.Errorf("%s: the URL does not end in /report.json", report)
	}
	if c == nil {
		c = apiclient.New(nil)
	}
	return func(ctx context.Context, addrs []netip.Addr) (t Traffic, err error) {
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		defer cancel()
		query := url.Values{}
		for _, a := range addrs {
			query.Add("addr", a.String())
		}
		resp, body, err := apiclient.Get(ctx, c, apiclient.Request{URL: base + "/traffic?" + query.Encode(), UserAgent: "headgate-nodegate", MaxBody: maxTraffic})
		if err != nil {
			return t, fmt.Errorf("%s: %w", base, err)
		}
		if resp.StatusCode != http.StatusOK {
			return t, fmt.Errorf("%s/traffic: %s: %.200q", base, resp.Status, body)
		}
		if err := json.Unmarshal(body, &t); err != nil {
			return t, fmt.Errorf("%s/traffic: %w", base, err)
		}
		t.Source = base
		return t, nil
	}, nil
}

// drainEvery is the pause after which WaitDrained reads the Traffic of the terminators again.
const drainEvery = 500 * time.Millisecond

// WaitDrained waits until the node with these addresses is drained: no HAProxy sends new requests
// to the node, and all HAProxy processes together have at most "most" open requests and tunnels to
// it. It returns the last Traffic of each source. If ctx ends first, the error says how many
// servers and requests are left.
func WaitDrained(ctx context.Context, addrs []netip.Addr, sources []TrafficSource, most int) ([]Traffic, error) {
	if len(addrs) == 0 || len(sources) == 0 {
		return nil, errors.New("keeper: there is no address or no terminator to ask")
	}
	for {
		all, err := look(ctx, addrs, sources, most)
		if err == nil || !apiclient.Sleep(ctx, drainEvery) {
			return all, err
		}
	}
}

// look reads the Traffic of the node with these addresses once from each source. The error is nil
// only if all sources have answered and the node is drained: no HAProxy sends new requests to the
// node, and the number of requests and tunnels to the node is not larger than the argument "most".
func look(ctx context.Context, addrs []netip.Addr, sources []TrafficSource, most int) ([]Traffic, error) {
	var all []Traffic
	var errs []error
	accepting, sessions := 0, 0
	for _, source := range sources {
		t, err := source(ctx, addrs)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all, accepting, sessions = append(all, t), accepting+t.Accepting, sessions+t.Sessions
	}
	if accepting > 0 || sessions > most {
		errs = append(errs, fmt.Errorf("not drained: %d servers get new requests, and there are %d requests", accepting, sessions))
	}
	return all, errors.Join(errs...)
}
