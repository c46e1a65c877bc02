//go:build !linux

package relay

import "net"

// unsentBytes cannot find out how many bytes the peer has not acknowledged, because this system
// offers no portable way. So the result "known" is false.
func unsentBytes(net.Conn) (n int, known bool) { return 0, false }

// discardUnread does nothing: this system offers no portable way to read without waiting.
func discardUnread(net.Conn) {}
