// Package deploy puts a configuration of package haproxycfg into force: HAProxy checks it, a directory
// holds it, and HAProxy reloads it without a gap.
package deploy
