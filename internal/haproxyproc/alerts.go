package haproxyproc

import (
	"regexp"
	"slices"
	"strings"
)

// maxAlerts is the largest number of messages that Alerts returns.
const maxAlerts = 5

// HAProxy 2.4 also prints the day of the year and the time: "[ALERT] 324/211500 (123) : text". The
// expression allows this.
var alertLine = regexp.MustCompile(`(?m)^\[ALERT\][ \t]+(?:[0-9]+/[0-9]+[ \t]+)?\([0-9]+\)[ \t]*:[ \t]*(?:config : )?(.*\S)`)

// Alerts returns the messages with the severity ALERT in the output of HAProxy, each one once, and
// at most 5. They are the reasons why HAProxy does not start, or refuses a reload. Alerts removes
// the process ID from each message, so the same fault has the same text each time.
func Alerts(output string) (alerts []string) {
	for _, m := range alertLine.FindAllStringSubmatch(output, -1) {
		// \S in the expression also matches white space outside ASCII, such as U+0085. TrimSpace
		// removes it.
		text := strings.TrimSpace(m[1])
		if text != "" && len(alerts) < maxAlerts && !slices.Contains(alerts, text) {
			alerts = append(alerts, text)
		}
	}
	return alerts
}
