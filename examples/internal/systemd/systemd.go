// Package systemd is the service's side of two protocols of systemd: socket activation, by which a
// process inherits listening sockets (sd_listen_fds(3)), and notification, by which a process tells
// systemd its state (sd_notify(3)).
//
//	service := systemd.Take(log)                 // once, before the process starts others
//	listeners, err := service.Listeners("https") // the sockets with FileDescriptorName=https
//	service.Ready("serving")                     // without systemd, this does nothing
//
// A nil *Service is ready to use: it has no sockets, and its notifications do nothing.
//
// The package does not use go-systemd, which ignores a faulty value of LISTEN_FDS, and leaves the
// address of systemd in the environment of child processes.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// firstFD is the number of the first descriptor that systemd passes (SD_LISTEN_FDS_START).
const firstFD = 3

// maxSockets bounds LISTEN_FDS. systemd passes a few sockets.
const maxSockets = 1024

// variables are the environment variables of the two protocols: the passing of sockets (LISTEN_…),
// and the notifications (NOTIFY_SOCKET, WATCHDOG_…).
var variables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}

// Service is what systemd has passed to this process. Several goroutines may call its methods.
type Service struct {
	address  string        // NOTIFY_SOCKET; "" for none
	watchdog time.Duration // 0 for none
	err      error         // why the sockets cannot be used

	mu      sync.Mutex
	sockets []*socket

	failed    func(error)
	notifying sync.Mutex // guards the fields below
	ready     bool       // READY=1 was sent
	lastErr   string     // the last error of a notification
}

// socket is one inherited descriptor.
type socket struct {
	name string
	fd   int
	used bool
}

// Take returns what systemd has passed to this process, and removes the variables of systemd from
// the environment, so that child processes do not use them. It marks the descriptors of systemd
// close-on-exec, so that child processes do not inherit them.
//
// If the function "failed" is not nil, the Service calls it when a notification fails, but not
// again for the same error.
func Take(failed func(error)) *Service {
	s := parse(os.Getenv, os.Getpid())
	s.failed = failed
	for _, name := range variables {
		os.Unsetenv(name)
	}
	for _, socket := range s.sockets {
		closeOnExec(socket.fd)
	}
	return s
}

// parse reads the variables. It ignores variables whose process ID is not pid: they are for a
// parent process, which has not removed them from the environment.
func parse(getenv func(string) string, pid int) *Service {
	s := &Service{address: getenv("NOTIFY_SOCKET")}
	if isFor(getenv("WATCHDOG_PID"), pid, true) {
		if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < int64(24*time.Hour/time.Microsecond) {
			s.watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	if count := getenv("LISTEN_FDS"); count != "" && isFor(getenv("LISTEN_PID"), pid, false) {
		s.sockets, s.err = parseSockets(count, getenv("LISTEN_FDNAMES"))
	}
	return s
}

// isFor reports whether a variable with the ID of a process names this process. The argument
// "missing" is the result if the variable is not set.
func isFor(value string, pid int, missing bool) bool {
	if value == "" {
		return missing
	}
	id, err := strconv.Atoi(value)
	return err == nil && id == pid
}

// parseSockets reads the values of LISTEN_FDS and LISTEN_FDNAMES. Without LISTEN_FDNAMES, each
// socket has the name "unknown", as in sd_listen_fds_with_names(3).
func parseSockets(count, names string) (list []*socket, err error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("systemd: LISTEN_FDS=%q: want a number up to %d", count, maxSockets)
	}
	split := strings.Split(names, ":")
	if names != "" && len(split) != n {
		return nil, fmt.Errorf("systemd: LISTEN_FDNAMES=%q has %d names, and LISTEN_FDS says %d", names, len(split), n)
	}
	for i := range n {
		name := "unknown"
		if names != "" {
			name = split[i]
		}
		list = append(list, &socket{name: name, fd: firstFD + i})
	}
	return list, nil
}

type contextKey struct{}

// NewContext returns a context from which FromContext returns s.
func NewContext(ctx context.Context, s *Service) context.Context {
	return context.WithValue(ctx, contextKey{}, s)
}

// FromContext returns the Service of a context, or nil.
func FromContext(ctx context.Context) *Service {
	s, _ := ctx.Value(contextKey{}).(*Service)
	return s
}

// Listeners returns a listener for each socket with this name. Each of these sockets must be a
// listening stream socket, of TCP or Unix. The caller must close the listeners. After that, systemd
// still holds the sockets open, so further clients wait for the next process.
func (s *Service) Listeners(name string) (list []net.Listener, err error) {
	err = s.use(name, func(file *os.File) error {
		if err := checkListening(int(file.Fd())); err != nil {
			return err
		}
		l, err := net.FileListener(file)
		if err != nil {
			return err
		}
		if unix, ok := l.(*net.UnixListener); ok {
			unix.SetUnlinkOnClose(false) // the file belongs to systemd
		}
		list = append(list, l)
		return nil
	})
	if err != nil {
		for _, l := range list {
			l.Close()
		}
		return nil, err
	}
	return list, nil
}

// UDPConns returns a connection for each socket with this name. All these sockets must be UDP
// sockets. The caller must close the connections.
func (s *Service) UDPConns(name string) (list []*net.UDPConn, err error) {
	err = s.use(name, func(file *os.File) error {
		c, err := net.FilePacketConn(file)
		if err != nil {
			return fmt.Errorf("want a UDP socket: %w", err)
		}
		udp, ok := c.(*net.UDPConn)
		if !ok {
			c.Close()
			return fmt.Errorf("want a UDP socket, and it is a socket of %s", c.LocalAddr().Network())
		}
		list = append(list, udp)
		return nil
	})
	if err != nil {
		for _, c := range list {
			c.Close()
		}
		return nil, err
	}
	return list, nil
}

// use calls the function "open" with each socket of this name. open must not keep the file.
func (s *Service) use(name string, open func(*os.File) error) error {
	if s == nil {
		s = &Service{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	found := false
	for _, socket := range s.sockets {
		if socket.name != name {
			continue
		}
		found = true
		if socket.used {
			return fmt.Errorf("systemd: socket %q: another flag uses it", name)
		}
		socket.used = true
		if err := socket.open(open); err != nil {
			return fmt.Errorf("systemd: socket %q (descriptor %d): %w", name, socket.fd, err)
		}
	}
	if !found {
		return fmt.Errorf("systemd: there is no socket %q; systemd has passed %s (FileDescriptorName= of the .socket unit is the name)", name, s.names())
	}
	return nil
}

// open calls the function f with the descriptor, and then closes the descriptor. What f has opened
// from it stays open, because package net uses a duplicate of the descriptor.
func (s *socket) open(f func(*os.File) error) error {
	file := os.NewFile(uintptr(s.fd), s.name)
	if file == nil {
		return os.ErrInvalid
	}
	defer file.Close()
	return f(file)
}

// names returns the names of the sockets, for the text of an error.
func (s *Service) names() string {
	if len(s.sockets) == 0 {
		return "no socket"
	}
	var list []string
	for _, socket := range s.sockets {
		list = append(list, strconv.Quote(socket.name))
	}
	return strings.Join(list, ", ")
}

// Unused returns an error if a socket has not been used. Clients can connect to such a socket, and
// would wait without an answer.
func (s *Service) Unused() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	var errs []error
	for _, socket := range s.sockets {
		if !socket.used {
			errs = append(errs, fmt.Errorf("systemd: no flag uses the socket %q (descriptor %d), so its clients would wait without an answer", socket.name, socket.fd))
		}
	}
	return errors.Join(errs...)
}
