package haproxyproc

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/internal/haproxymsg"
)

// maxAlerts is the largest number of messages that Alerts returns.
const maxAlerts = 5

// Alerts returns the messages with the severity ALERT in the output of HAProxy, each one once, and
// at most 5. They are the reasons why HAProxy does not start, or refuses a reload. Alerts removes
// the process ID from each message, so the same fault has the same text each time.
func Alerts(output string) (alerts []string) {
	for line := range strings.Lines(output) {
		m, ok := haproxymsg.Parse(line)
		if text := m.WithoutConfig(); ok && m.Severity == haproxymsg.Alert && text != "" && len(alerts) < maxAlerts && !slices.Contains(alerts, text) {
			alerts = append(alerts, text)
		}
	}
	return alerts
}
