//go:build !linux

package relay

import "net"

// unsentBytes returns how many bytes in the send queue of a socket the peer has not acknowledged.
// This system offers no portable way to find out, so known is false.
func unsentBytes(net.Conn) (n int, known bool) { return 0, false }

// discardUnread does nothing: this system offers no portable way to read without waiting.
func discardUnread(net.Conn) {}
