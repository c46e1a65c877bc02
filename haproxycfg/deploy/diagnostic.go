package deploy

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// Diagnostic is one message of HAProxy about a configuration.
type Diagnostic struct {
	// Severity is "ALERT", "WARNING" or "NOTICE".
	Severity string
	// File and Line are where HAProxy found the cause: a file relative to the
	// configuration's directory and a line from 1. They are empty and 0 for
	// what concerns no line.
	File string
	Line int
	// Text is the message without its prefix and position. It may have
	// several lines.
	Text string
	// Source is the text of that line, without indentation.
	Source string
}

// String gives "file:line: text: source", or what there is of it.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File)
		b.WriteByte(':')
		if d.Line > 0 {
			b.WriteString(strconv.Itoa(d.Line))
			b.WriteByte(':')
		}
		b.WriteByte(' ')
	}
	b.WriteString(d.Text)
	if d.Source != "" {
		b.WriteString("\n\t\t")
		b.WriteString(d.Source)
	}
	return b.String()
}

// The forms that HAProxy 2.4 to 3.x print:
//
//	[ALERT]    (123) : config : parsing [FILE:8] : unknown keyword …
//	[ALERT]    (123) : parsing [FILE:8] : …
//	[ALERT] 324/211500 (123) : parsing [FILE:8]: …
//	[ALERT]    (123) : config : [FILE:10] : 'server b/s1' : …
//	[ALERT]    (123) : Binding [FILE:14] for frontend g: …
//	[WARNING]  (123) : config : missing timeouts for backend 'b'.
//	   | a further line of the same message
var (
	diagnosticStart = regexp.MustCompile(`^\[([A-Z]+)(?:/[A-Z]+)?\]\s+(?:[0-9]+/[0-9]+\s+)?\([0-9]+\)\s*:\s*(.*)$`)
	diagnosticPos   = regexp.MustCompile(`\[([^\[\]]*):([0-9]{1,9})\]`)
	diagnosticAt    = regexp.MustCompile(`^(?:parsing )?\[[^\[\]]*:[0-9]{1,9}\]\s*:\s*`)
	// A message about a proxy as a whole names it: "Proxy 'f': …", "… for
	// backend 'b'", "proxy 'dup' has no …".
	diagnosticProxy = regexp.MustCompile(`(?i)\b(proxy|backend|frontend|listen) '([^']+)'`)
)

// parseDiagnostics reads what HAProxy prints. Lines in no known form belong to
// the message before them; those before the first message are left out.
func parseDiagnostics(output string) []Diagnostic {
	var found []Diagnostic
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		m := diagnosticStart.FindStringSubmatch(line)
		if m == nil {
			if rest, ok := continuation(line); ok && len(found) > 0 {
				found[len(found)-1].Text += "\n" + rest
			}
			continue
		}
		d := Diagnostic{Severity: m[1], Text: strings.TrimPrefix(m[2], "config : ")}
		if pos := diagnosticPos.FindStringSubmatch(d.Text); pos != nil {
			d.File = pos[1]
			d.Line, _ = strconv.Atoi(pos[2]) // at most nine digits
			d.Text = d.Text[len(diagnosticAt.FindString(d.Text)):]
		}
		found = append(found, d)
	}
	return found
}

// continuation cuts the frame off a further line of a message. Lines that
// HAProxy does not frame, such as "Configuration file is valid", are none.
func continuation(line string) (string, bool) {
	text := strings.TrimLeft(line, " \t")
	if text == line || text == "" {
		return "", false
	}
	return strings.TrimPrefix(text, "| "), true
}

// addSources fills Source from the file of that name. A message that gives no
// position but names a proxy gets that of the proxy's section.
func addSources(found []Diagnostic, name string, data []byte) {
	var lines [][]byte
	for i := range found {
		d := &found[i]
		byProxy := d.File == "" && name == configFile
		if d.File != name && !byProxy {
			continue
		}
		if lines == nil {
			lines = bytes.Split(data, []byte("\n"))
		}
		if byProxy {
			if line := sectionLine(lines, d.Text); line > 0 {
				d.File, d.Line = name, line
			}
		}
		if d.Line >= 1 && d.Line <= len(lines) {
			d.Source = strings.TrimSpace(string(lines[d.Line-1]))
		}
	}
}

// sectionLine returns the line, from 1, of the section that a message names.
// Zero means that it names none, or one that occurs as frontend and as backend.
func sectionLine(lines [][]byte, text string) int {
	m := diagnosticProxy.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	kind, found := strings.ToLower(m[1]), 0
	for i, line := range lines {
		words := bytes.Fields(line)
		if len(words) < 2 || string(words[1]) != m[2] || !isProxySection(string(words[0])) {
			continue
		}
		if kind != "proxy" && kind != string(words[0]) {
			continue
		}
		if found > 0 {
			return 0
		}
		found = i + 1
	}
	return found
}

func isProxySection(keyword string) bool {
	return keyword == "frontend" || keyword == "backend" || keyword == "listen"
}
