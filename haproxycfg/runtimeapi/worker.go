package runtimeapi

import (
	"context"
	"fmt"
	"strings"
)

// Streams returns the number of streams of a worker: HTTP requests without a complete answer, and
// tunnels such as WebSockets and TCP connections. Idle connections and HAProxy's own command lines
// do not count.
func (s Socket) Streams(ctx context.Context) (int, error) {
	answer, err := s.Do(ctx, "show sess")
	if err != nil {
		return 0, err
	}
	return countStreams(answer), nil
}

// countStreams counts the streams of clients in an answer to "show sess", such as
//
//	0x7f4074281000: proto=tcpv4 src=127.0.0.1:34874 fe=http be=web srv=<none> ts=00 …
//
// HAProxy's own streams have the frontend GLOBAL, MASTER, or a name that begins with "<".
func countStreams(answer string) int {
	n := 0
	for line := range strings.Lines(answer) {
		if !strings.HasPrefix(line, "0x") {
			continue
		}
		_, rest, ok := strings.Cut(line, " fe=")
		frontend, _, _ := strings.Cut(rest, " ")
		if ok && frontend != "GLOBAL" && frontend != "MASTER" && !strings.HasPrefix(frontend, "<") {
			n++
		}
	}
	return n
}

// Exit ends the worker in the field Worker ("@!1234") at once, with all its connections. Path must
// be the socket of a master. The worker does not answer, so a nil error does not mean that the
// worker has ended. "show proc" lists the workers that still run.
func (s Socket) Exit(ctx context.Context) error {
	if !strings.HasPrefix(s.Worker, "@!") {
		return fmt.Errorf("%w: %q is not the process ID of a worker", ErrCommand, s.Worker)
	}
	command, err := s.commandLine("debug dev exit 0")
	if err != nil {
		return err
	}
	// "debug dev exit" ends the process that receives the command, on any socket. HAProxy has this
	// command since 2.0, and accepts it only in expert mode.
	answer, err := s.send(ctx, "expert-mode on\n"+command)
	if text := strings.TrimSpace(answer); text != "" {
		return fmt.Errorf("runtimeapi: end of worker %s: HAProxy answers %.200q", s.Worker, text)
	}
	return err
}
