package main

import (
	"log/slog"
	"regexp"
	"strconv"

	"github.com/headgate/headgate/internal/inputfile"
)

var openFiles = regexp.MustCompile(`(?m)^Max open files +[0-9]+ +([0-9]+) `)

// maxConns returns the largest number of connections, at most want, for which HAProxy gets enough file
// descriptors. A connection needs two, and a part is left for checks and listeners. HAProxy does not
// start if it cannot get them. The result does not depend on the number of pods, because another number
// needs a reload.
func maxConns(want int, log *slog.Logger) int {
	limits, err := inputfile.Read("/proc/self/limits", 64<<10)
	m := openFiles.FindSubmatch(limits)
	if err != nil || m == nil {
		return want
	}
	limit, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return want
	}
	most := (limit - min(limit/4, 4096)) / 2
	if want > most {
		log.Warn("-max-connections is lower than wanted, because of the limit of open files", "connections", most, "limit", limit)
	}
	if want == 0 {
		return 0
	}
	return min(want, most)
}
