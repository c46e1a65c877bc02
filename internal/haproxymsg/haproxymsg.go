// Package haproxymsg parses the messages that HAProxy prints, without interpreting their texts.
//
//	m, ok := haproxymsg.Parse("[WARNING]  (123) : Server local/s1 is DOWN, reason: …")
package haproxymsg

import (
	"regexp"
	"strings"
)

// The severities of messages.
const (
	Alert   = "ALERT"
	Warning = "WARNING"
	Notice  = "NOTICE"
	Diag    = "DIAG"
)

// Message is a message of HAProxy.
type Message struct {
	Severity string
	// Text is the message without its severity and process ID; it may be empty. HAProxy 2.5 and
	// later put "config : " before a message about the configuration.
	Text string
}

// WithoutConfig returns the text without the "config : " at its beginning.
func (m Message) WithoutConfig() string { return strings.TrimPrefix(m.Text, "config : ") }

// HAProxy 2.4 to 3.x print these forms, where 123 is a process ID, and 324/211500 the day of the
// year and the time (2.4):
//
//	[ALERT]    (123) : config : parsing [FILE:8] : unknown keyword …
//	[ALERT] 324/211500 (123) : parsing [FILE:8]: …
//	[WARNING]  (123) : Server local/s1 is DOWN, reason: …
var start = regexp.MustCompile(`^\[(ALERT|WARNING|NOTICE|DIAG)(?:/[A-Z]+)?\][ \t]+(?:[0-9]+/[0-9]+[ \t]+)?\([0-9]+\)[ \t]*:(.*)$`)

// Parse parses a line. The argument "line" may have a line end. ok is false if the line does not
// begin a message, such as a line of an access log, or the second line of a message.
func Parse(line string) (m Message, ok bool) {
	match := start.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
	if match == nil {
		return Message{}, false
	}
	return Message{Severity: match[1], Text: strings.TrimSpace(match[2])}, true
}
