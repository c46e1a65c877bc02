//go:build !linux

package freeport

import (
	"fmt"
	"net"
	"strconv"
)

// Hold returns a port on which no program listened a moment ago. Port 0 means any free port, and
// host "" all addresses. It does not reserve the port: outside Linux, this would also keep the
// program under test from listening on it.
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
