//go:build !linux

package freeport

import (
	"fmt"
	"net"
	"strconv"
)

// Hold returns a port on which nobody listened a moment ago, 0 being any, on an
// address, "" being all of them. Other systems than Linux do not share a port in the
// way that holding one takes.
func Hold(host string, port int) (held int, release func(), err error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return 0, nil, fmt.Errorf("freeport: %w", err)
	}
	held = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, nil, fmt.Errorf("freeport: %w", err)
	}
	return held, func() {}, nil
}
