package hostlookup_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// A cache in front of an API. While the API is down, the cache serves known hosts as stale, and an
// unknown host gets an error that is not ErrNotFound.
func Example() {
	down := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down:
			http.Error(w, "database is away", http.StatusServiceUnavailable)
		case r.URL.Path == "/hosts/a.com":
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprintln(w, `{"app": "A Simple App", "host": "a.com", "endpoint": "10.0.0.24"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer api.Close()

	now := time.Now()
	cache := &hostlookup.Cache{
		Source: &httpapi.Client{URL: api.URL + "/hosts/{host}"},
		Clock:  func() time.Time { return now }, // makes the output the same at each run
	}
	defer cache.Close()

	show := func(host string) {
		ep, err := cache.LookupHost(context.Background(), host)
		level := ep.Level
		switch {
		case err == nil:
			addr, _ := ep.DialAddr(443)
			fmt.Println(host, level, addr)
		case errors.Is(err, hostlookup.ErrNotFound):
			fmt.Println(host, level, "no such host")
		default:
			fmt.Println(host, level, err)
		}
	}
	show("a.com")
	show("a.com")
	show("b.com")
	show("b.com")
	down = true
	now = now.Add(3 * time.Hour)
	show("a.com")
	show("c.com")
	// Output:
	// a.com miss 10.0.0.24:443
	// a.com hit 10.0.0.24:443
	// b.com miss no such host
	// b.com negative no such host
	// a.com stale 10.0.0.24:443
	// c.com miss httpapi: API answered 503 Service Unavailable: "database is away\n"
}

// A function as the source of a cache. The function also sets how long the cache may keep its
// answers.
func ExampleFunc() {
	source := hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
		if host != "a.com" {
			return hostlookup.Endpoint{}, &hostlookup.Error{Err: hostlookup.ErrNotFound, TTL: time.Minute}
		}
		return hostlookup.Endpoint{Host: host, Addr: "[2001:db8::1]:8443", TTL: time.Hour}, nil
	})
	cache := &hostlookup.Cache{Source: source, Jitter: -1}
	defer cache.Close()
	for _, host := range []string{"a.com", "b.com"} {
		_, err := cache.LookupHost(context.Background(), host)
		entry, _ := cache.Entry(host)
		fmt.Println(host, err, entry.Level, entry.Left.Round(time.Minute))
	}
	// Output:
	// a.com <nil> hit 1h0m0s
	// b.com hostlookup: host not found negative 1m0s
}

// A file with exceptions comes first, then an API with its cache, then a default.
func ExampleChain() {
	file, problems, err := hostlookup.ParseHosts("hosts.json", []byte(`[
		{"app": "blog", "host": "blog.example.com", "endpoint": "10.0.0.7"},
		{"app": "shops", "host": "*.example.com", "endpoint": "10.0.0.8:8443"},
		{"app": "typo", "host": "typo.com", "endpoint": "10.0.0.9:https"}
	]`))
	fmt.Println(problems, err)
	api := hostlookup.Func(func(_ context.Context, host string) (hostlookup.Endpoint, error) {
		return hostlookup.Endpoint{}, hostlookup.ErrNotFound
	})
	cache := &hostlookup.Cache{Source: api}
	defer cache.Close()
	hosts := hostlookup.Default(hostlookup.Chain(file, cache), hostlookup.Endpoint{App: "fallback", Addr: "10.0.0.1"})
	for _, host := range []string{"blog.example.com", "x.example.com", "other.org"} {
		ep, err := hosts.LookupHost(context.Background(), host)
		fmt.Println(host, ep.App, ep.Addr, err)
	}
	// Output:
	// [hosts.json:4: entry 2: endpoint: "10.0.0.9:https": port is not a number from 1 to 65535] <nil>
	// blog.example.com blog 10.0.0.7 <nil>
	// x.example.com shops 10.0.0.8:8443 <nil>
	// other.org fallback 10.0.0.1 <nil>
}

// A fixed set of hosts.
func ExampleNewHosts() {
	hosts, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{
		"a.com":         {Addr: "10.0.0.24"},
		"*.example.com": {App: "shops", Addr: "10.0.0.25:8443"},
	})
	if err != nil {
		panic(err)
	}
	for _, host := range []string{"a.com", "one.example.com", "example.com"} {
		ep, err := hosts.LookupHost(context.Background(), host)
		fmt.Println(host, ep.Addr, err)
	}
	// Output:
	// a.com 10.0.0.24 <nil>
	// one.example.com 10.0.0.25:8443 <nil>
	// example.com  hostlookup: host not found
}

// A hosts file that Watch reads again after each change.
func ExampleFile() {
	path := writeHosts(`[{"app": "A", "host": "a.com", "endpoint": "10.0.0.24"}]`)
	defer os.Remove(path)
	file := &hostlookup.File{
		Path: path,
		Loaded: func(hosts *hostlookup.Hosts, problems []hostlookup.Problem, err error) {
			if err != nil {
				fmt.Println("still the old hosts:", err)
				return
			}
			fmt.Println(hosts.Len(), "hosts,", len(problems), "problems")
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan error)
	go func() { watched <- file.Watch(ctx) }()
	cancel()
	fmt.Println(<-watched)
	// Output:
	// 1 hosts, 0 problems
	// context canceled
}

func writeHosts(data string) string {
	f, err := os.CreateTemp("", "hosts-*.json")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(data); err != nil {
		panic(err)
	}
	return f.Name()
}

// After a restart, a cache serves the hosts that it had before the restart, while its source is
// down.
func ExampleCache_SetAll() {
	before := &hostlookup.Cache{}
	_ = before.Set("a.com", hostlookup.Endpoint{Host: "a.com", Addr: "10.0.0.24"})
	saved := maps.Collect(before.All()) // a program can store them in its own format; Save writes a file
	before.Close()

	after := &hostlookup.Cache{Source: hostlookup.Func(func(context.Context, string) (hostlookup.Endpoint, error) {
		return hostlookup.Endpoint{}, errors.New("down")
	})}
	defer after.Close()
	err := after.SetAll(maps.All(saved))
	ep, lookupErr := after.LookupHost(context.Background(), "a.com")
	level := ep.Level
	fmt.Println(err, ep.Addr, level, lookupErr)
	// Output: <nil> 10.0.0.24 stale <nil>
}
