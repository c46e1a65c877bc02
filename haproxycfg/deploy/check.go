package deploy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/haproxymsg"
)

// Checker lets HAProxy check a configuration: it renders the configuration and its maps to a
// temporary directory and runs "haproxy -c" there. HAProxy reads all other files, such as the files
// of [haproxycfg.TLS].Certificates, from their usual places.
//
// The server state file is empty in the check, because HAProxy would warn about each server that
// was down or drained. A Checker is a plain value, safe for concurrent use. You can set [Dir.Check]
// to its method Check.
type Checker struct {
	// Haproxy is the path of the haproxy binary. Empty means "haproxy" on PATH.
	Haproxy string
	// Timeout is the longest time of one check; 0 means one minute. The check of a configuration
	// with 100,000 servers took about 4 seconds.
	Timeout time.Duration
	// Foreign, if not nil, describes the files that HAProxy loads before the configuration, the
	// foreign files. HAProxy then checks all files together.
	//
	// The error of Check has [ErrForeign] in three cases: the foreign files have a fault of their
	// own, they use a name or an address that only the fragment may use, or somebody has changed
	// them during a check in which HAProxy rejected all files together.
	//
	// Check does not pass warnings of HAProxy about the foreign files to Warned. But it passes a
	// warning for each unmet requirement of the configuration (see [Foreign.Unmet]), and each error
	// that has ErrForeign.
	Foreign *Foreign
	// Warned, if not nil, is called with all warnings after a check in which HAProxy accepts the
	// configuration but warns about it.
	Warned func([]Diagnostic)
}

const (
	defaultCheckTimeout = time.Minute
	maxCheckOutput      = 1 << 20

	checkStateFile = "server-state"
	noServersState = "1\n" // the version of the format, and no server
)

// Check returns nil if HAProxy accepts the configuration, and a [*CheckError] if HAProxy rejects
// it. Any other error means that HAProxy did not judge the configuration, for example because the
// binary is missing or did not end in time.
func (k Checker) Check(ctx context.Context, config haproxycfg.Valid) error {
	dir, remove, err := atomicfile.MkdirTemp(os.TempDir(), "haproxycfg-check-")
	if err != nil {
		return fmt.Errorf("deploy: check: %w", err)
	}
	defer remove()
	files, err := renderCopy(config, dir)
	if err != nil {
		return fmt.Errorf("deploy: check: %w", err)
	}
	if k.Foreign != nil {
		return k.checkWithForeign(ctx, config, dir, files)
	}
	return k.run(ctx, dir, files, filepath.Join(dir, configFile))
}

// renderCopy writes a copy of the configuration to dir. The copy names an empty server state file
// in dir.
func renderCopy(config haproxycfg.Valid, dir string) ([]haproxycfg.RenderedFile, error) {
	if config.StateFile() != "" {
		file := filepath.Join(dir, checkStateFile)
		if err := os.WriteFile(file, []byte(noServersState), 0o600); err != nil {
			return nil, err
		}
		var err error
		if config, err = config.WithStateFile(file); err != nil {
			return nil, err
		}
	}
	files, err := config.Render(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Version returns the version of the haproxy binary on disk, from "haproxy -v". The HAProxy that
// runs uses a new binary only after a restart or a reload.
func (k Checker) Version(ctx context.Context) (haproxycfg.Version, error) {
	binary := cmp.Or(k.Haproxy, "haproxy")
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(k.Timeout, 0), defaultCheckTimeout))
	defer cancel()
	out := &limitedBuffer{max: maxCheckOutput}
	cmd := exec.CommandContext(ctx, binary, "-v")
	cmd.Stdout = out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return haproxycfg.Version{}, fmt.Errorf("deploy: %s -v: %w", binary, err)
	}
	v, err := haproxycfg.ParseVersion(out.buf.String())
	if err != nil {
		return v, fmt.Errorf("deploy: %s -v: %w", binary, err)
	}
	return v, nil
}

// run runs "haproxy -c" on the files with the given names. The argument "files" contains the rendered
// files in dir.
func (k Checker) run(ctx context.Context, dir string, files []haproxycfg.RenderedFile, names ...string) error {
	binary := cmp.Or(k.Haproxy, "haproxy")
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(k.Timeout, 0), defaultCheckTimeout))
	defer cancel()
	out := &limitedBuffer{max: maxCheckOutput}
	args := []string{"-c"}
	for _, name := range names {
		args = append(args, "-f", name)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("deploy: check with %s: %w", binary, ctx.Err())
	}
	// Cut the temporary directory from the file names, because it will not exist when the user
	// reads the message.
	output := strings.ReplaceAll(out.buf.String(), dir+string(filepath.Separator), "")
	found := parseDiagnostics(output)
	for _, f := range files {
		if f.Private {
			continue // the source of a message must not be a line of a private key
		}
		addSources(found, f.Name, f.Data)
	}
	if k.Foreign != nil { // the foreign files may have the same name
		for i := range found {
			if found[i].File == configFile {
				found[i].File = k.Foreign.Fragment
			}
		}
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		if warnings := withSeverity(found, "WARNING"); k.Warned != nil && (len(warnings) > 0 || k.Foreign != nil) {
			k.Warned(warnings)
		}
		return nil
	case errors.As(err, &exit):
		return &CheckError{Diagnostics: found, Output: output, Err: err}
	default:
		return fmt.Errorf("deploy: check: %w", err)
	}
}

// CheckError reports that HAProxy rejected a configuration.
type CheckError struct {
	// Diagnostics are all messages of HAProxy, in the order of its output.
	Diagnostics []Diagnostic
	// Output is what HAProxy printed, at most 1 MiB.
	Output string
	// Err is the exit status of HAProxy.
	Err error
}

// Alerts returns the diagnostics for which HAProxy rejected the configuration.
func (e *CheckError) Alerts() []Diagnostic { return withSeverity(e.Diagnostics, "ALERT") }

// Error returns each alert with its file, line number and the text of that line.
func (e *CheckError) Error() string {
	head := fmt.Sprintf("deploy: haproxy rejects the configuration (%v)", e.Err)
	alerts := e.Alerts()
	if len(alerts) == 0 {
		return head + ": " + strings.TrimSpace(e.Output)
	}
	return head + joinDiagnostics(alerts)
}

// Unwrap returns Err.
func (e *CheckError) Unwrap() error { return e.Err }

// limitedBuffer keeps the first max bytes and drops the rest. So a program that prints without end
// does not fill the memory, and it does not block.
type limitedBuffer struct {
	buf bytes.Buffer // not embedded, because io.Copy would call its ReadFrom
	max int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Diagnostic is one message of HAProxy about a configuration.
type Diagnostic struct {
	// Severity is "ALERT", "WARNING" or "NOTICE".
	Severity string
	// File and Line are the place of the fault, or "" and 0. File is relative to the directory of
	// the configuration. Line counts from 1.
	File string
	Line int
	// Text is the message of HAProxy without its severity, file and line. It may have several
	// lines.
	Text string
	// Source is the text of line Line in File, without indentation.
	Source string
}

// String returns "file:line: text", and Source in the next line. It leaves out empty fields.
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

func joinDiagnostics(all []Diagnostic) string {
	var b strings.Builder
	for _, d := range all {
		b.WriteString("\n\t")
		b.WriteString(d.String())
	}
	return b.String()
}

func withSeverity(all []Diagnostic, severity string) []Diagnostic {
	var some []Diagnostic
	for _, d := range all {
		if d.Severity == severity {
			some = append(some, d)
		}
	}
	return some
}

// HAProxy 2.4 to 3.x print messages in these forms; see also package haproxymsg. FILE is a path:
//
//	[ALERT]    (123) : config : parsing [FILE:8] : unknown keyword …
//	[ALERT]    (123) : parsing [FILE:8] : …
//	[ALERT]    (123) : config : Parsing [FILE:9]: backend …
//	[ALERT]    (123) : config : [FILE:10] : 'server b/s1' : …
//	[ALERT]    (123) : Binding [FILE:14] for frontend g: …
//	[WARNING]  (123) : config : missing timeouts for backend 'b'.
//	   | a further line of the same message
var (
	diagnosticPos = regexp.MustCompile(`\[([^\[\]]*):([0-9]{1,9})\]`)
	diagnosticAt  = regexp.MustCompile(`^(?:[Pp]arsing )?\[[^\[\]]*:[0-9]{1,9}\]\s*:\s*`)
	// diagnosticProxy matches the proxy that some messages name instead of a line: "Proxy 'f': …",
	// "… for backend 'b'", "proxy 'dup' has no …".
	diagnosticProxy = regexp.MustCompile(`(?i)\b(proxy|backend|frontend|listen) '([^']+)'`)
)

// parseDiagnostics parses the output of HAProxy. If a line does not begin a message, it belongs to
// the message above it. parseDiagnostics leaves out lines before the first message.
func parseDiagnostics(output string) []Diagnostic {
	var found []Diagnostic
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		m, ok := haproxymsg.Parse(line)
		if !ok {
			if rest, ok := continuation(line); ok && len(found) > 0 {
				found[len(found)-1].Text += "\n" + rest
			}
			continue
		}
		d := Diagnostic{Severity: m.Severity, Text: m.WithoutConfig()}
		if pos := diagnosticPos.FindStringSubmatch(d.Text); pos != nil {
			d.File = pos[1]
			d.Line, _ = strconv.Atoi(pos[2]) // at most nine digits
			d.Text = d.Text[len(diagnosticAt.FindString(d.Text)):]
		}
		found = append(found, d)
	}
	return found
}

// continuation parses a further line of a message: it returns the line without its indentation and
// "|", and true. A line without indentation, such as "Configuration file is valid", belongs to no
// message.
func continuation(line string) (string, bool) {
	text := strings.TrimLeft(line, " \t")
	if text == line || text == "" {
		return "", false
	}
	return strings.TrimPrefix(text, "| "), true
}

// addSources fills in messages about the file "name". The argument "data" is the content of this
// file. addSources sets the field Source to the text of the line that the message names. If a
// message names a proxy instead of a line, addSources first sets Line to the line at which the
// section of this proxy begins.
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

// sectionLine returns the line, from 1, at which the section of a proxy begins. text is the message
// that names the proxy. sectionLine returns 0 if text names no proxy, or if both a frontend and a
// backend have that name.
func sectionLine(lines [][]byte, text string) int {
	m := diagnosticProxy.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	kind, name, found := strings.ToLower(m[1]), m[2], 0
	for i, line := range lines {
		word, rest := cutWord(line)
		if got, _ := cutWord(rest); string(got) != name {
			continue
		}
		switch string(word) {
		case "frontend", "backend", "listen":
			if kind != "proxy" && kind != string(word) {
				continue
			}
			if found > 0 {
				return 0
			}
			found = i + 1
		}
	}
	return found
}
