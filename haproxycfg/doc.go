// Package haproxycfg renders HAProxy configurations. From typed values, it makes the text of
// haproxy.cfg and of its maps.
//
//	config := haproxycfg.Config{Frontends: …, Backends: …}
//	files, err := config.Render("/etc/haproxy")
//
// [Config.Render] first validates the [Config]. [Config.Validate] only validates. The same Config
// always gives the same bytes. So a caller can compare the new files with the old ones: if they are
// the same, HAProxy needs no reload. HAProxy 2.6 and all later versions accept the text. If
// [Global.Version] is a later version, the text uses features of that version, and earlier versions
// may refuse it.
//
// # Quoting
//
// Each value becomes exactly one word of the text, or Validate rejects it. Names consist of
// letters, digits and "-_.:". Render quotes other values where necessary. Validate rejects line
// ends and NUL, because no quotes can contain them. No field reaches the text unchecked. Otherwise
// a tenant could write HAProxy directives into an annotation, and so change the configuration of
// other tenants.
//
// # Names of servers
//
// [Server.Name] makes the name of a server from its address, port and agent port. The reason is
// HAProxy's state file: at a start, HAProxy gives each server the address and port that the state
// file contains for the name of the server. If a server with a new address kept its name, HAProxy
// would give it the old address again.
//
// # Other packages
//
// Package edge makes a Config from declared routes. Package deploy lets HAProxy check a Config and
// puts it into force. Package runtimeapi sends commands to a running HAProxy. Package kube makes a
// Config from declared routes and Kubernetes clusters.
//
// # What it does not do
//
// The package parses no configuration and fetches no certificates. It renders only what an HAProxy
// in HTTP mode at the edge of clusters needs.
package haproxycfg
