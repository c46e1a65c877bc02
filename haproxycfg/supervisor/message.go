package supervisor

import (
	"log/slog"
	"regexp"

	"github.com/headgate/headgate/internal/haproxymsg"
)

// aboutServer matches the beginning of a message about one server, such as "Server b/s is DOWN, …",
// "Health check for server b/s failed, …" and "b/s changed its IP from …".
var aboutServer = regexp.MustCompile(`^(?:(?:Backup )?Server |Health check for (?:backup )?server |Stopped health check for )?[^ /\[\]]+/[^ /\[\]]+:? `)

// Message returns the level and the text of a message that HAProxy has printed, such as
//
//	[WARNING]  (123) : Server local/s1 is DOWN, reason: …
//
// Alerts and warnings have the level [slog.LevelWarn], and notices [slog.LevelDebug]. Messages
// about one server have at most [slog.LevelInfo], because HAProxy prints them for each added,
// removed or failed server. ok is false for other lines, such as those of an access log.
func Message(line string) (level slog.Level, text string, ok bool) {
	m, ok := haproxymsg.Parse(line)
	if !ok {
		return 0, "", false
	}
	level = slog.LevelWarn
	if m.Severity == haproxymsg.Notice || m.Severity == haproxymsg.Diag {
		level = slog.LevelDebug
	}
	if aboutServer.MatchString(m.Text) {
		level = min(level, slog.LevelInfo)
	}
	return level, m.Text, true
}
