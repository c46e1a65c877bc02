// Package haproxycfg renders HAProxy configurations. From typed values, it makes the text of
// haproxy.cfg and of its maps.
//
//	config := haproxycfg.Config{Frontends: …, Backends: …}
//	files, err := config.Render("/etc/haproxy")
//
// [Config.Render] first validates the [Config]. The same Config always makes the same bytes, so
// HAProxy needs no reload if the new files are the same as the old ones. HAProxy 2.6 and all later
// versions accept the text. If [Global.Version] is set, only this version and later versions must
// accept it.
//
// # Quoting
//
// Each value becomes exactly one word of the text, or Validate rejects it. Otherwise a tenant could
// write HAProxy directives into an annotation. Names consist of letters, digits and "-_.:"; Render
// quotes other values where necessary. Validate rejects line ends and NUL, because no quotes can
// contain them.
//
// # Names of servers
//
// [Server.Name] makes the name of a server from its address, port and agent port. If a server with
// a new address kept its name, HAProxy would restore the old address from the state file at its
// start.
//
// # Other packages
//
// Package edge makes a Config from declared routes. Package deploy lets HAProxy check a Config and
// puts it into force. Package runtimeapi sends commands to a running HAProxy. Package kube makes a
// Config from declared routes and Kubernetes clusters.
//
// # What it does not do
//
// The package parses no configuration. It renders only what an HAProxy in HTTP mode at the edge of
// clusters needs.
package haproxycfg
