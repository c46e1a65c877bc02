package runtimeapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of a running HAProxy without its patch level: {3, 2} for HAProxy 3.2.26.
// To convert a haproxycfg.Version v, write runtimeapi.Version(v).
type Version struct{ Major, Minor int }

// AtLeast reports whether v is the version major.minor or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// String returns the version as HAProxy writes it, such as "3.2".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Actual contains the facts about a running HAProxy from which [Actual.Plan] makes a plan.
type Actual struct {
	Version Version
	// Backends are the names of all backends, including those without servers.
	Backends []string
	Servers  []ServerState
}

// Actual reads the version, the backends and the servers of a worker of HAProxy. It changes
// nothing. If the socket belongs to a master, set Socket.Worker to one of its workers.
func (s Socket) Actual(ctx context.Context) (Actual, error) {
	var a Actual
	info, err := s.Do(ctx, "show info")
	if err != nil {
		return Actual{}, err
	}
	if a.Version, err = parseVersion(info); err != nil {
		return Actual{}, err
	}
	backends, err := s.Do(ctx, "show backend")
	if err != nil {
		return Actual{}, err
	}
	if a.Backends, err = parseBackends(backends); err != nil {
		return Actual{}, err
	}
	a.Servers, err = s.Servers(ctx)
	return a, err
}

// ActualOf reads the version, and the servers of the named backends. A backend that HAProxy does not
// have is missing in the result. ActualOf sends a command for each backend, so use [Socket.Actual]
// for many backends.
func (s Socket) ActualOf(ctx context.Context, backends ...string) (Actual, error) {
	var a Actual
	info, err := s.Do(ctx, "show info")
	if err != nil {
		return Actual{}, err
	}
	if a.Version, err = parseVersion(info); err != nil {
		return Actual{}, err
	}
	for _, name := range backends {
		if err := checkName("the backend", name); err != nil {
			return Actual{}, err
		}
		answer, err := s.Do(ctx, "show servers state "+name)
		if err != nil {
			return Actual{}, err
		}
		if strings.Contains(answer, "Can't find backend") {
			continue
		}
		servers, err := ParseServersState(answer)
		if err != nil {
			return Actual{}, err
		}
		a.Backends = append(a.Backends, name)
		a.Servers = append(a.Servers, servers...)
	}
	return a, nil
}

// parseVersion finds the version in the answer to "show info", in a line "Version: 2.6.12-1".
func parseVersion(info string) (Version, error) {
	for line := range strings.Lines(info) {
		text, ok := strings.CutPrefix(line, "Version: ")
		if !ok {
			continue
		}
		major, rest, _ := strings.Cut(text, ".")
		end := 0
		for end < len(rest) && '0' <= rest[end] && rest[end] <= '9' {
			end++
		}
		a, err1 := strconv.ParseUint(major, 10, 16)
		b, err2 := strconv.ParseUint(rest[:end], 10, 16)
		if err1 == nil && err2 == nil {
			return Version{int(a), int(b)}, nil
		}
	}
	return Version{}, fmt.Errorf("runtimeapi: no version in the answer to show info: %.200q", info)
}

// parseBackends parses the answer to "show backend": a line "# name", and a line for each backend.
func parseBackends(answer string) ([]string, error) {
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	if lines[0] != "# name" {
		return nil, fmt.Errorf("runtimeapi: not a list of backends: %.200q", answer)
	}
	return lines[1:], nil
}
