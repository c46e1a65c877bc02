//go:build !linux || !(amd64 || arm64)

package relay

import (
	"net"
	"time"
)

// events is absent here: the portable implementation does everything.
type events struct{}

func newEvents(*shared) *events { return nil }

func (*events) serve(*net.TCPListener, func(Conn) Session) error        { return ErrClosed }
func (*events) relay(client, backend *net.TCPConn, _ []byte, _ Session) {}
func (*events) closeWithin(time.Duration)                               {}
func (*events) stop()                                                   {}
func (*events) pipes() int64                                            { return 0 }
