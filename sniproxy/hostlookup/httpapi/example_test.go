package httpapi_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// A server that publishes hosts, and a router's cache that follows their changes.
func Example() {
	api := &httpapi.Handler{}
	server := httptest.NewServer(api)
	defer server.Close()
	publish := func(addr string) {
		hosts, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{"a.com": {App: "shop", Addr: addr}})
		if err != nil {
			panic(err)
		}
		update, err := api.Publish(hosts)
		fmt.Println(update.Set, "changed,", update.Removed, "removed,", err)
	}
	publish("10.0.0.24")

	client := &httpapi.Client{URL: server.URL + "/hosts/{host}"}
	defer client.CloseIdleConnections()
	cache := &hostlookup.Cache{Source: client}
	defer cache.Close()
	show := func() {
		answer, err := cache.LookupHost(context.Background(), "a.com")
		fmt.Println(answer.App, answer.Addr, answer.Level, err)
	}
	show()
	show()

	feed := &httpapi.Feed{URL: server.URL + "/changes"}
	defer feed.CloseIdleConnections()
	for change, err := range feed.Changes(context.Background()) {
		if change.Host == "" { // the first answer of the feed: any host may have changed
			publish("10.0.0.9")
			continue
		}
		fmt.Println("change:", change.Host, change.Endpoint.Addr, err, cache.Apply(change))
		break
	}
	show()
	// Output:
	// 0 changed, 0 removed, <nil>
	// shop 10.0.0.24 miss <nil>
	// shop 10.0.0.24 hit <nil>
	// 1 changed, 0 removed, <nil>
	// change: a.com 10.0.0.9 <nil> <nil>
	// shop 10.0.0.9 hit <nil>
}
