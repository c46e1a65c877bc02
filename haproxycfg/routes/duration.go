package routes

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest time that HAProxy counts (manual section 2.5).
const maxDuration = math.MaxInt32 * time.Millisecond

// minInterval keeps a slip of the unit from multiplying, over all terminators,
// services and nodes, into a flood of checks.
const minInterval = 100 * time.Millisecond

var errDuration = errors.New(`must be a duration with its unit, such as "30s", "1h30m" or "2d"`)

// parseDuration reads Go's durations, with days besides, which HAProxy has.
func parseDuration(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || rest[0] == '-' || rest[0] == '+' || rest == "0" {
		return 0, errDuration
	}
	return days + min(d, 2*maxDuration), nil // too long is too long; the sum must not overflow
}

func checkDuration(d, least time.Duration) error {
	switch {
	case d%time.Millisecond != 0 && d < maxDuration:
		return errors.New("must be whole milliseconds")
	case d < least:
		return fmt.Errorf("must be at least %s", formatDuration(least))
	case d > maxDuration:
		return fmt.Errorf("must be at most %s, the longest that HAProxy counts", formatDuration(maxDuration))
	}
	return nil
}

// formatDuration writes a duration of whole milliseconds in the largest unit
// that leaves no rest.
func formatDuration(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}
