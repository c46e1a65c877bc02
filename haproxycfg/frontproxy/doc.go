// Package frontproxy makes the HAProxy configuration of a front proxy: an HTTP proxy in front of
// the pods of one service, for the clients of one zone. It chooses a pod for each request, and not,
// like a TCP balancer, once for each connection.
//
//	proxy := frontproxy.Proxy{
//		Service: "shop.web", Zone: "eu-1a",
//		Binds:  []haproxycfg.Bind{{Address: ":8080"}},
//		Global: haproxycfg.Global{Version: version},
//	}
//	config, slots, err := proxy.Config(pods, expected, slots)
//	files, err := config.Render("/etc/haproxy")
//
// Config is a pure function: the same arguments give the same configuration.
//
// # Backends
//
// A service has up to three backends; [Backends] returns their names:
//
//   - local contains the pods of the zone of the proxy;
//   - other contains the pods of all other zones;
//   - panic contains the pods of local, or the pods of other if local has no pods. HAProxy neither
//     checks nor ejects the pods in panic. HAProxy uses panic while few pods are up
//     (Settings.PanicBelow): then the pods probably share one fault, such as a failed database.
//
// # What changes without a reload
//
// If only the pods or the expected number of pods change, only servers and Global.Variables differ,
// which a controller can change without a reload.
//
// From HAProxy 3.0 on, the name of a server is its address. HAProxy before 3.0 can crash when it
// deletes a server. So each backend then has slots: servers named s1, s2 and so on, some of which
// are empty; see [Slots].
//
// # The expected number
//
// The expected number is the number of pods that the zone has while no pod is missing. The share of
// requests that stays in the zone depends on this number. A controller computes the number in one
// of two ways:
//
//   - A controller that reads the Deployment adds two numbers: the pods of the zone that get
//     requests now, and the zone's part of the replicas that are missing.
//   - A controller that does not read the Deployment uses the largest number of pods that the zone
//     had within the last 10 minutes. After a scale-down of one zone only, some requests go to
//     other zones for at most 10 minutes.
//
// If a zone loses pods, its expected number stays the same, so the front proxy sends requests to
// other zones at once. If the other zones have only half of their expected pods too, the controller
// should halve the expected number of this zone.
//
// # What it does not do
//
// The package follows no cluster and starts no HAProxy. Package policy reads [Settings] from a
// file.
package frontproxy
