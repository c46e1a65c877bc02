// Package edge turns declared routes and the addresses of their services into a configuration of
// package haproxycfg.
package edge
