package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/internal/atomicfile"
)

// SaveServersState writes the state of the servers (weight, drain,
// maintenance, health) to a file in the form that HAProxy loads at its next
// start: the one that the configuration names as server-state-file. The file is
// replaced at once or not at all. s is a stats socket; [Reloader] does this
// through the master.
//
// HAProxy restores addresses and ports from this file too, whatever the new
// configuration says. A [haproxycfg.Server]'s name is made of them for that reason: a
// server that changed has another name, and its saved state is not used.
func (s Socket) SaveServersState(ctx context.Context, file string) error {
	answer, err := s.Do(ctx, "show servers state")
	if err != nil {
		return err
	}
	state, err := cleanServersState(answer)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(file, []byte(state), 0o644, nil); err != nil {
		return fmt.Errorf("runtimeapi: save servers state: %w", err)
	}
	return nil
}

// cleanServersState turns an answer into a file. HAProxy 2.6 ignores a file
// that begins with an empty line or does not end with a line end, and says so
// only in a warning.
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
