// Package runtimeapi sends commands to a running HAProxy and parses its answers.
//
//	stats := runtimeapi.Socket{Path: "/run/haproxy/stats.sock"}
//	rows, err := stats.Stats(ctx)
//
// A stats socket belongs to one worker process. The socket of a master process (option -S of
// haproxy) reaches the master and, with Socket.Worker, each of its workers.
//
// # Changing servers and backends
//
// The commands of a plan change the servers and backends of a running HAProxy without a reload:
//
//	actual, err := stats.Actual(ctx)
//	plan := actual.Plan(before, wanted)
//	if len(plan.Reload) > 0 {
//		// HAProxy must load its configuration again; plan.Reload says why.
//	}
//	result, err := stats.Apply(ctx, plan)
//
// HAProxy refuses to delete a server that has connections, so Apply repeats the deletion. Apply
// cannot use HAProxy's command "wait" instead. A Socket closes its sending side after each command,
// because a master before 2.7 needs this. HAProxy 3.0 to 3.4 then end "wait" after 1 ms.
//
// [Actual.Plan] is a pure function. What a plan can change depends on the version:
//
//	change                                   before 3.0          3.0 and later
//	weight, address, into maintenance, back  at run time         at run time
//	one more server, with Server.Add         at run time         at run time
//	one server less                          maintenance         at run time: maintenance, then delete
//	other options of a server                reload              at run time: delete and add again
//	a new backend, one backend less          reload              reload; at run time from 3.4 on
//	the algorithm of a backend               reload              reload
//
// From HAProxy 3.4 on, a plan adds a backend with Backend.Add, and deletes a backend with
// Backend.Delete. The settings of a new backend come from a named section "defaults" that HAProxy has
// loaded.
//
// A slot is a server of the configuration in maintenance, whose address a plan can change. HAProxy
// adds no servers to backends with static-rr and map-based hashing. It does not delete servers that
// other servers track, or that a rule use-server names.
//
// Commands change only the running process: write the same servers to the configuration file, or
// the next reload undoes the changes. Package deploy does both.
//
// # Maps
//
// SetMap, DeleteMapKey, ReplaceMap and ReplaceMaps change the entries of maps that the
// configuration uses.
//
// # Certificates
//
// SetCertificate replaces a certificate, and AddCertificate adds a certificate to a crt-list, since
// HAProxy 2.2. HAProxy does not write the certificate to a file. No error of this package contains
// a private key.
//
// # What it does not do
//
// The package does not start or reload HAProxy, and writes no files.
package runtimeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Socket is the address of a command line of HAProxy: the stats socket of a worker, or the socket
// of a master (HAProxy management guide, sections 9.3 and 9.4). Each command opens a connection of
// its own. A Socket is a plain value, safe for concurrent use.
type Socket struct {
	// Path is the file of a Unix socket, or "tcp@host:port". The prefixes "ipv4@" and "ipv6@" are
	// allowed too, as in the bind lines of HAProxy.
	Path string
	// Worker is the process to which the master passes each command (management guide, section 9.4).
	// Empty means the process that listens on Path. "@!1234" is the worker with process ID 1234, and
	// "@1" is the current worker. After a refused reload, the master may list no current worker. The
	// method Worker of deploy.Runtime finds the worker in this case too.
	Worker string
	// Timeout is the longest time of one command, from the dial to the end of the answer; 0 means
	// 10 seconds. If the context has an earlier deadline, that deadline applies.
	Timeout time.Duration
}

const (
	defaultSocketTimeout = 10 * time.Second
	// maxAnswer is the largest size of an answer in bytes. The largest answer is the answer to
	// "show stat". It has about 600 bytes for each server, so maxAnswer is enough for over 200,000
	// servers.
	maxAnswer = 128 << 20
)

var (
	// ErrCommand means that Do did not send a command, because HAProxy would not read it as exactly
	// one command.
	ErrCommand = errors.New("runtimeapi: not one plain socket command")
	// ErrAnswerTooLarge means that the answer of HAProxy is longer than 128 MiB.
	ErrAnswerTooLarge = errors.New("runtimeapi: socket answer too large")
)

// Do sends one command and returns the whole answer, which usually ends with an empty line. A
// refusal, such as "Unknown command", is an answer and not an error, because refusals have no
// common form.
//
// If the command contains ';', a line end, NUL or "<<" (the beginning of a payload), Do sends
// nothing and returns [ErrCommand].
func (s Socket) Do(ctx context.Context, command string) (string, error) {
	command, err := s.commandLine(command)
	if err != nil {
		return "", err
	}
	return s.send(ctx, command)
}

// send sends the command and a line end to HAProxy, and returns the whole answer.
func (s Socket) send(ctx context.Context, command string) (string, error) {
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
	// When ctx ends, at its deadline or because it is cancelled, make reads and writes fail.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	answer, err := exchange(conn, command)
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		command, _, _ = strings.Cut(command, "\n") // a payload may contain a private key
		return answer, fmt.Errorf("runtimeapi: socket %s: %q: %w", s.Path, command, err)
	}
	return answer, nil
}

func exchange(conn io.ReadWriter, command string) (string, error) {
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	// Close the sending side: a master before 2.7 waits for more commands until it reads the end of
	// the input. A worker closes the connection by itself after one answer.
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // if CloseWrite fails, the read below fails too
	}
	// Do not use io.Copy, which allocates 32 KiB for each answer. Most answers are short, and a
	// plan has thousands of commands.
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(conn, maxAnswer+1))
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

// commandLine returns the line to send to HAProxy for a command, without the line end. For a
// command to a worker, the line begins with s.Worker. The error is ErrCommand if the command is
// empty, or if HAProxy would not read it as one command.
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

// ServersState returns the state of the servers (weight, drain, maintenance, health) as the text of
// a state file. At its start, HAProxy reads such a file (server-state-file) and restores the state.
// The second line names the columns, and each further line describes a server.
//
// HAProxy also restores the address and port of a server, even if the new configuration has others.
// So package haproxycfg makes the name of a server from its address and port.
func (s Socket) ServersState(ctx context.Context) (string, error) {
	answer, err := s.Do(ctx, "show servers state")
	if err != nil {
		return "", err
	}
	return cleanServersState(answer)
}

// cleanServersState returns the content of a state file for an answer to "show servers state".
// HAProxy 2.6 ignores a file, with only a warning, if it begins with an empty line or lacks the
// last line end.
func cleanServersState(answer string) (string, error) {
	text := strings.TrimSpace(answer)
	version, rest, _ := strings.Cut(text, "\n")
	header, _, _ := strings.Cut(rest, "\n")
	if strings.TrimSpace(version) != "1" || !strings.HasPrefix(header, "# be_id be_name srv_id srv_name ") {
		return "", fmt.Errorf("runtimeapi: not a servers state: %.200q", text)
	}
	if strings.ContainsRune(text, 0) {
		return "", errors.New("runtimeapi: not a servers state: it has a NUL byte")
	}
	return text + "\n", nil
}
