package frontproxy_test

import (
	"fmt"
	"net/netip"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

func Example() {
	proxy := frontproxy.Proxy{
		Service: "shop.web", Zone: "eu-1a",
		Binds:  []haproxycfg.Bind{{Address: ":8080"}},
		Global: haproxycfg.Global{Version: haproxycfg.Version{Major: 3}},
	}
	pods := []frontproxy.Pod{
		{Addr: netip.MustParseAddrPort("10.0.1.7:8080"), Zone: "eu-1a"},
		{Addr: netip.MustParseAddrPort("10.0.2.9:8080"), Zone: "eu-1b"},
	}
	config, _, err := proxy.Config(pods, 2, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, b := range config.Backends {
		for _, s := range b.Servers {
			fmt.Println(b.Name, s.Name())
		}
	}
	// The zone expects two pods and has one. So the pod of the other zone gets a share of the
	// requests.
	fmt.Println(config.Global.Variables[1])
	// Output:
	// shop.web:local 10.0.1.7:8080
	// shop.web:other 10.0.2.9:8080
	// shop.web:panic 10.0.1.7:8080
	// {expected_pods 2}
}
