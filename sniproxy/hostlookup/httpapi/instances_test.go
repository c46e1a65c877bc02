package httpapi_test

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// Each of several caches follows the changes of one API. A change and a removal reach all of them,
// although their answers would not expire.
func TestChangesReachEveryInstance(t *testing.T) {
	api := &httpapi.Handler{}
	publish := func(hosts map[string]hostlookup.Endpoint) {
		t.Helper()
		all, err := hostlookup.NewHosts(hosts)
		require.NoError(t, err)
		_, err = api.Publish(all)
		require.NoError(t, err)
	}
	publish(map[string]hostlookup.Endpoint{"a.com": {Addr: "10.0.0.1"}, "b.com": {Addr: "10.0.0.2"}, "c.com": {Addr: "10.0.0.3"}})
	server := httptest.NewServer(api)
	defer server.Close()

	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	caches := make([]*hostlookup.Cache, 3)
	for i := range caches {
		client := &httpapi.Client{URL: server.URL + "/hosts/{host}"}
		defer client.CloseIdleConnections()
		caches[i] = &hostlookup.Cache{Source: client, TTL: hostlookup.Forever, StaleFor: -1}
		defer caches[i].Close()
		feed := &httpapi.Feed{URL: server.URL + "/changes"}
		defer feed.CloseIdleConnections()
		following.Go(func() { _ = caches[i].Follow(ctx, feed, nil) })
	}
	// await looks up the host in each cache until it has the address; "" means not found.
	await := func(host, addr string) {
		t.Helper()
		for _, c := range caches {
			require.Eventually(t, func() bool {
				answer, err := c.LookupHost(t.Context(), host)
				return answer.Addr == addr && (err == nil) == (addr != "")
			}, 30*time.Second, 5*time.Millisecond)
		}
	}
	await("a.com", "10.0.0.1")
	await("b.com", "10.0.0.2")
	publish(map[string]hostlookup.Endpoint{"a.com": {Addr: "10.0.0.9"}, "c.com": {Addr: "10.0.0.3"}})
	await("a.com", "10.0.0.9")
	await("b.com", "")
	await("c.com", "10.0.0.3")
}
