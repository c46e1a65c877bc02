//go:build !linux || !(amd64 || arm64)

package relay

import (
	"net"
	"time"
)

// epollEngine is a placeholder: this system has no epoll. The implementation with goroutines serves
// everything.
type epollEngine struct{}

func newEpollEngine(*engineState) *epollEngine { return nil }

func (*epollEngine) serve(*net.TCPListener, func(Conn) Session) error        { return ErrClosed }
func (*epollEngine) relay(client, backend *net.TCPConn, _ []byte, _ Session) {}
func (*epollEngine) closeWithin(time.Duration)                               {}
func (*epollEngine) ping() []chan struct{}                                   { return nil }
func (*epollEngine) stop()                                                   {}
func (*epollEngine) pipes() int64                                            { return 0 }
