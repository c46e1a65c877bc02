package deploy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// process is a line of the master's "show proc".
type process struct {
	pid     int
	kind    string // "master", "worker", or the name of a program
	reloads int    // how many reloads it has seen
	old     bool   // listed as left over from before a reload
}

// parseProcesses reads "show proc" (management guide, section 9.4):
//
//	#<PID>          <type>          <reloads>       <uptime>        <version>
//	11519           master          2 [failed: 0]   0d00h00m34s     2.6.12
//	# workers
//	12233           worker          0               0d00h00m00s     2.6.12
//	# old workers
//	11523           worker          1               0d00h00m33s     2.6.12
//	# programs
//
// Version 2.4 has a column <relative PID> before <reloads>, which reads "[was: 1]"
// for an old worker, so columns are found by the header and brackets are one
// word.
func parseProcesses(answer string) ([]process, error) {
	reloads := -1
	old := false
	var all []process
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "#<"):
			reloads = headerColumn(line, "reloads")
		case strings.HasPrefix(line, "#"):
			old = strings.Contains(line, "old ")
		case reloads < 2:
			return nil, fmt.Errorf("deploy: not a process list of a master: %.200q", answer)
		default:
			p, err := parseProcess(line, reloads)
			if err != nil {
				return nil, err
			}
			p.old = old
			all = append(all, p)
		}
	}
	if len(all) == 0 || all[0].kind != "master" {
		return nil, fmt.Errorf("deploy: not a process list of a master: %.200q", answer)
	}
	return all, nil
}

// headerColumn returns the place of <name> among the columns, or -1.
func headerColumn(header, name string) int {
	for i, part := range strings.Split(header, "<")[1:] {
		if column, _, _ := strings.Cut(part, ">"); column == name {
			return i
		}
	}
	return -1
}

var bracketed = regexp.MustCompile(`\[[^\]]*\]`)

func parseProcess(line string, reloads int) (process, error) {
	words := strings.Fields(bracketed.ReplaceAllString(line, "[]"))
	if len(words) <= reloads {
		return process{}, fmt.Errorf("deploy: process list: %.200q", line)
	}
	pid, err1 := strconv.Atoi(words[0])
	n, err2 := strconv.Atoi(words[reloads])
	if err := errors.Join(err1, err2); err != nil || pid <= 0 || n < 0 {
		return process{}, fmt.Errorf("deploy: process list: %.200q", line)
	}
	return process{pid: pid, kind: words[1], reloads: n}, nil
}

// currentWorker addresses, for [runtimeapi.Socket], the worker that serves new connections: the one that
// has seen the fewest reloads. As a rule that is the current one; after a refused
// reload a master may list it as old. Empty means that there is none.
func currentWorker(all []process) string {
	var best *process
	for i, p := range all {
		if p.kind == "worker" && (best == nil || p.reloads < best.reloads) {
			best = &all[i]
		}
	}
	if best == nil {
		return ""
	}
	return fmt.Sprintf("@!%d", best.pid)
}

type reloadState int

const (
	reloadPending reloadState = iota
	reloadDone
	reloadRefused
)

// compareProcesses judges by two process lists. The count of the master goes
// up when it starts over, and it answers again only after it has started a
// worker or given up on that.
func compareProcesses(before, now []process) reloadState {
	known := make(map[int]bool, len(before))
	for _, p := range before {
		known[p.pid] = true
	}
	if now[0].pid != before[0].pid {
		// Another master: whoever started it started it with what is on disk.
		known = nil
	} else if now[0].reloads == before[0].reloads {
		return reloadPending
	}
	for _, p := range now {
		if p.kind == "worker" && !p.old && !known[p.pid] {
			return reloadDone
		}
	}
	return reloadRefused
}
