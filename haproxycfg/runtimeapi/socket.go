package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Socket speaks to a HAProxy command line: a stats socket of a worker, or the
// socket of the master in master-worker mode (HAProxy management guide,
// sections 9.3 and 9.4). It holds no connection: each command opens one and
// closes it, so a Socket is a plain value and safe for concurrent use.
type Socket struct {
	// Path is the file of a unix socket, or "tcp@host:port" (also "ipv4@…"
	// and "ipv6@…", the spellings of HAProxy's own bind lines).
	Path string
	// Worker addresses one process through the master's socket: "@1" is the current worker,
	// "@!1234" the worker with that process ID, an old one too. Each command is sent to it
	// (management guide, section 9.4). Empty means the process that listens on Path.
	Worker string
	// Timeout bounds one command from dial to end of answer. Zero means 10
	// seconds. An earlier deadline of the context wins.
	Timeout time.Duration
}

const (
	defaultSocketTimeout = 10 * time.Second
	// maxAnswer bounds an answer. The largest known is "show stat": some
	// 600 bytes a server, so this allows over 200,000 servers.
	maxAnswer = 128 << 20
)

var (
	// ErrCommand means that a command was not sent because HAProxy would
	// read it as something else than one command.
	ErrCommand = errors.New("runtimeapi: not one plain socket command")
	// ErrAnswerTooLarge means that HAProxy sent more than 128 MiB.
	ErrAnswerTooLarge = errors.New("runtimeapi: socket answer too large")
)

// Do sends one command and returns the whole answer as HAProxy sent it, which
// as a rule ends with an empty line. HAProxy has no common form for failures,
// so a text such as "Unknown command" is an answer here, not an error: the
// caller knows what its command should say.
//
// A command that has a ';' or a line end is refused with [ErrCommand], since
// HAProxy would run what follows as a second command; so are NUL and "<<",
// which announces a payload that never comes.
func (s Socket) Do(ctx context.Context, command string) (string, error) {
	command, err := s.commandLine(command)
	if err != nil {
		return "", err
	}
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = defaultSocketTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	network, addr := s.address()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return "", fmt.Errorf("runtimeapi: socket: %w", err)
	}
	defer conn.Close()
	// One rule for deadline and cancellation: when ctx ends, I/O ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	answer, err := exchange(conn, command)
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return answer, fmt.Errorf("runtimeapi: socket %s: %q: %w", s.Path, command, err)
	}
	return answer, nil
}

func exchange(conn io.ReadWriter, command string) (string, error) {
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	// A worker closes after one answer, a master before 2.7 waits for more
	// commands until it sees that there are none.
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // an answer already cut off shows when reading
	}
	var b strings.Builder
	n, err := io.Copy(&b, io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return b.String(), err
	}
	if n > maxAnswer {
		return "", ErrAnswerTooLarge
	}
	return b.String(), nil
}

func (s Socket) address() (network, addr string) {
	for _, p := range []string{"tcp@", "ipv4@", "ipv6@"} {
		if rest, ok := strings.CutPrefix(s.Path, p); ok {
			return "tcp", rest
		}
	}
	return "unix", strings.TrimPrefix(s.Path, "unix@")
}

// commandLine returns the text that is sent for a command, without its line end.
func (s Socket) commandLine(command string) (string, error) {
	if strings.TrimSpace(command) == "" {
		return "", fmt.Errorf("%w: empty", ErrCommand)
	}
	if s.Worker != "" {
		command = s.Worker + " " + command
	}
	switch {
	case strings.ContainsAny(command, ";\n\r\x00"):
		return "", fmt.Errorf("%w: %q has ';', a line end or NUL", ErrCommand, command)
	case strings.Contains(command, "<<"):
		return "", fmt.Errorf("%w: %q announces a payload", ErrCommand, command)
	}
	return command, nil
}
