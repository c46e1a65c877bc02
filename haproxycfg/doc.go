// Package haproxycfg renders HAProxy configurations: typed values become the text of haproxy.cfg
// and of its maps.
//
//	config := haproxycfg.Config{Frontends: …, Backends: …}
//	files, err := config.Render("/etc/haproxy")
//
// [Config.Render] validates a [Config] first; [Config.Validate] does only that. The same Config
// gives the same bytes. So a caller can compare files, and needs no reload if they are the same.
// HAProxy 2.4 to 3.x accept the text, unless a field's comment names a later version.
//
// # Quoting
//
// Each value becomes exactly one word in its place, or an error. Names consist of letters, digits
// and "-_.:". All other values are quoted if they need it. Values that no quotes can hold (line
// ends, NUL) are rejected. No field holds raw text, on purpose: through such a field, the
// annotation of one tenant could change the configuration of another.
//
// # Names of servers
//
// A server has no name of its own: [Server.Name] derives the name from address, port and agent
// port. HAProxy's state file restores the address and port of each server whose name it finds, so a
// server that changes its address must change its name.
//
// # Other packages
//
// Package edge makes a Config of declared routes. Package deploy lets HAProxy check a Config and
// puts it into force. Package runtimeapi sends commands to a running HAProxy. Package kube makes a
// Config of Kubernetes clusters.
//
// # What it does not do
//
// The package parses no configuration and fetches no certificates. It renders only what an HAProxy
// in HTTP mode at the edge of clusters needs.
package haproxycfg
