// Package sniproxy routes connections by the host name that their first bytes carry.
package sniproxy
