package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// Checker asks HAProxy itself whether a configuration is good. It renders to
// a temporary directory, with the maps there too, and runs "haproxy -c" on it:
// nothing that is in use is touched. The files that a configuration names but
// that are not rendered, such as certificates, are read where they are, but for
// the state of servers: what they were like at the last reload says nothing about
// a configuration, and HAProxy warns of each one that was down or drained.
//
// A Checker is a plain value and safe for concurrent use. Its Check fits
// [Dir.Check].
type Checker struct {
	// Haproxy is the path of the binary. Empty means "haproxy" on PATH.
	Haproxy string
	// Timeout bounds one run. Zero means one minute; 100,000 servers were
	// seen to take about 4 seconds.
	Timeout time.Duration
	// Warned, if not nil, is called with what HAProxy warns of in a
	// configuration that it accepts. It is called once for each such check.
	Warned func([]Diagnostic)
}

const (
	defaultCheckTimeout = time.Minute
	maxCheckOutput      = 1 << 20

	checkStateFile = "server-state"
	noServersState = "1\n" // the version of the format, and no server
)

// Check returns nil if HAProxy accepts c and a [*CheckError] if it does not. Any
// other error means that it could not be asked: c does not render, there is no
// binary, the time is over.
func (k Checker) Check(ctx context.Context, c *haproxycfg.Config) error {
	dir, err := os.MkdirTemp("", "haproxycfg-check-")
	if err != nil {
		return fmt.Errorf("deploy: check: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := c.Validate(); err != nil {
		return err
	}
	copied := *c
	if c.Global.StateFile != "" {
		copied.Global.StateFile = filepath.Join(dir, checkStateFile)
		if err := os.WriteFile(copied.Global.StateFile, []byte(noServersState), 0o600); err != nil {
			return fmt.Errorf("deploy: check: %w", err)
		}
	}
	files, err := copied.Render(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return fmt.Errorf("deploy: check: %w", err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return fmt.Errorf("deploy: check: %w", err)
		}
	}
	return k.checkFiles(ctx, dir, files)
}

// checkFiles runs HAProxy on files that stand in dir.
func (k Checker) checkFiles(ctx context.Context, dir string, files []haproxycfg.RenderedFile) error {
	timeout := k.Timeout
	if timeout <= 0 {
		timeout = defaultCheckTimeout
	}
	binary := k.Haproxy
	if binary == "" {
		binary = "haproxy"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &limitedBuffer{max: maxCheckOutput}
	cmd := exec.CommandContext(ctx, binary, "-c", "-f", filepath.Join(dir, configFile))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("deploy: check with %s: %w", binary, ctx.Err())
	}
	// What the user shall find later stands in another directory: show names
	// relative to it.
	output := strings.ReplaceAll(out.buf.String(), dir+string(filepath.Separator), "")
	found := parseDiagnostics(output)
	for _, f := range files {
		addSources(found, f.Name, f.Data)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		if warnings := only(found, "WARNING"); len(warnings) > 0 && k.Warned != nil {
			k.Warned(warnings)
		}
		return nil
	case errors.As(err, &exit):
		return &CheckError{Diagnostics: found, Output: output, Err: err}
	default:
		return fmt.Errorf("deploy: check: %w", err)
	}
}

// CheckError is a configuration that HAProxy does not accept, with its reasons.
type CheckError struct {
	// Diagnostics is all that HAProxy said, in its order.
	Diagnostics []Diagnostic
	// Output is the same as HAProxy printed it, at most 1 MiB.
	Output string
	// Err says how HAProxy ended.
	Err error
}

// Alerts are the diagnostics for which HAProxy refused the configuration.
func (e *CheckError) Alerts() []Diagnostic { return only(e.Diagnostics, "ALERT") }

// Error shows each alert and, if it has one, the line that it points to.
func (e *CheckError) Error() string {
	var b strings.Builder
	b.WriteString("deploy: haproxy rejects the configuration (")
	fmt.Fprintf(&b, "%v)", e.Err)
	alerts := e.Alerts()
	if len(alerts) == 0 {
		b.WriteString(": ")
		b.WriteString(strings.TrimSpace(e.Output))
	}
	for _, a := range alerts {
		b.WriteString("\n\t")
		b.WriteString(a.String())
	}
	return b.String()
}

// Unwrap returns Err.
func (e *CheckError) Unwrap() error { return e.Err }

func only(all []Diagnostic, severity string) []Diagnostic {
	var some []Diagnostic
	for _, d := range all {
		if d.Severity == severity {
			some = append(some, d)
		}
	}
	return some
}

// limitedBuffer keeps the first max bytes and drops the rest, so that a
// program which prints without end neither fills memory nor blocks.
type limitedBuffer struct {
	buf bytes.Buffer // not embedded: io.Copy would use its ReadFrom
	max int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
