package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/headgate/headgate/examples/internal/systemd"
)

// systemdPrefix begins the value of a flag that names a socket of systemd instead of an address.
const systemdPrefix = "systemd:"

// CheckAddress returns an error if addr is neither HOST:PORT nor systemd:NAME.
func CheckAddress(addr string) error {
	if name, ok := strings.CutPrefix(addr, systemdPrefix); ok {
		if name == "" {
			return fmt.Errorf("%q: want systemd:NAME", addr)
		}
		return nil
	}
	_, _, err := net.SplitHostPort(addr)
	return err
}

// Listen opens a TCP listener for addr. If addr is systemd:NAME, Listen returns all sockets with
// FileDescriptorName=NAME that systemd has passed to the process. They must be TCP sockets.
func Listen(ctx context.Context, addr string) ([]net.Listener, error) {
	name, ok := strings.CutPrefix(addr, systemdPrefix)
	if !ok {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	list, err := systemd.FromContext(ctx).Listeners(name)
	for _, l := range list {
		if _, ok := l.(*net.TCPListener); !ok {
			err = fmt.Errorf("systemd: socket %q: want a TCP socket, and it is %s %s", name, l.Addr().Network(), l.Addr())
		}
	}
	if err != nil {
		closeAll(list)
		return nil, err
	}
	return list, nil
}

// ListenUDP opens a UDP socket for addr. If addr is systemd:NAME, ListenUDP returns all sockets with
// FileDescriptorName=NAME that systemd has passed to the process. They must be UDP sockets.
func ListenUDP(ctx context.Context, addr string) ([]*net.UDPConn, error) {
	if name, ok := strings.CutPrefix(addr, systemdPrefix); ok {
		return systemd.FromContext(ctx).UDPConns(name)
	}
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	return []*net.UDPConn{c.(*net.UDPConn)}, nil
}

// listenAdmin returns the listeners for addr, as Listen does, but addr may also name Unix sockets
// of systemd. Whoever can connect to a Unix socket may send every request, so other users must not
// be able to connect to it.
func listenAdmin(ctx context.Context, addr string) ([]net.Listener, error) {
	name, ok := strings.CutPrefix(addr, systemdPrefix)
	if !ok {
		return Listen(ctx, addr)
	}
	list, err := systemd.FromContext(ctx).Listeners(name)
	for _, l := range list {
		if addr, ok := l.Addr().(*net.UnixAddr); ok {
			if info, statErr := os.Stat(addr.Name); statErr != nil {
				err = fmt.Errorf("systemd: socket %q: %w", name, statErr)
			} else if info.Mode()&0o002 != 0 {
				err = fmt.Errorf("systemd: socket %q: every user may connect to %s; set SocketMode=0600 or 0660 in the .socket unit", name, addr.Name)
			}
		}
	}
	if err != nil {
		closeAll(list)
		return nil, err
	}
	return list, nil
}

func closeAll(list []net.Listener) {
	for _, l := range list {
		l.Close()
	}
}
