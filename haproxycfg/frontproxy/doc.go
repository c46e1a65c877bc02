// Package frontproxy makes the HAProxy configuration of a front proxy. A front proxy is an HTTP
// proxy in front of the pods of one service, for the clients of one zone. It chooses a pod for each
// request. A TCP balancer chooses a pod only once for each connection, so the pods that were ready
// first keep most of the connections.
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
//     checks nor ejects them. HAProxy uses this backend while few pods are up
//     (Settings.PanicBelow): then the pods probably share one fault, such as a failed database.
//
// # What changes without a reload
//
// If only the pods or the expected number of pods change, the new configuration differs from the
// old one only in its servers and in Global.Variables. A controller can then change a running
// HAProxy without a reload. It changes servers with haproxycfg.Backend.AddServer and package
// runtimeapi, and variables with runtimeapi.Socket.SetVariable. It writes the new files as well,
// because HAProxy reads them at its next start.
//
// From HAProxy 3.0 on, the name of a server is its address. HAProxy before 3.0 can crash when it
// deletes a server. So for such a version, each backend has servers named s1, s2 and so on, the
// slots, some of which are empty. The number of slots changes only at a reload; see [Slots].
//
// # The expected number
//
// The expected number is the number of pods that the zone has while no pod is missing. The share of
// requests that stays in the zone depends on this number. Config cannot compute this number from
// the pods that are in service. A controller computes it in one of two ways:
//
//   - A controller that reads the Deployment adds two numbers: the pods of the zone that get
//     requests now, and the zone's part of the replicas that are missing.
//   - A controller that does not read the Deployment uses the largest number of pods that the zone
//     had within the last 10 minutes. So if an autoscaler removes pods of one zone only, some
//     requests of this zone go to other zones for at most 10 minutes.
//
// If a zone loses pods, its expected number stays the same, so the front proxy sends requests to
// other zones at once. If the other zones have lost pods too, they have no room for these requests.
// So the controller should then lower the expected number in the same proportion. For example, if
// the other zones have only half of their expected pods, it should halve the expected number of
// this zone.
//
// # What it does not do
//
// The package reads no files, follows no cluster and starts no HAProxy. Package policy reads
// [Settings] from a file.
package frontproxy
