package clitest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Unit is the text of a systemd unit.
type Unit string

// ReadUnit reads a unit from the directory "systemd", and joins its continued lines.
func ReadUnit(t testing.TB, name string) Unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	return Unit(strings.ReplaceAll(string(text), "\\\n", " "))
}

// All returns all values of a setting, in the order of the unit.
func (u Unit) All(name string) (values []string) {
	for _, found := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(string(u), -1) {
		values = append(values, found[1])
	}
	return values
}

// Get returns the first value of a setting. The setting must exist.
func (u Unit) Get(t testing.TB, name string) string {
	t.Helper()
	all := u.All(name)
	if len(all) == 0 {
		t.Fatalf("the unit has no %s=", name)
	}
	return all[0]
}

// Command returns the words of ExecStart=.
func (u Unit) Command(t testing.TB) []string {
	t.Helper()
	return strings.Fields(u.Get(t, "ExecStart"))
}

// Duration returns the value of a setting such as TimeoutStopSec=75s.
func (u Unit) Duration(t testing.TB, name string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(u.Get(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	exposure  = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `)
	installed = regexp.MustCompile(`/usr/local/bin/\w+`)
)

// CheckUnits checks the units in the directory systemd with systemd-analyze. The exposure level of
// each service (systemd-analyze security; 0 is the best) must not exceed the level in README.md, in
// a row such as "| `headgate-hostapi.service` | 1.2 |".
func CheckUnits(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("systemd/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no units", err)
	}
	// systemd-analyze requires that the command of a unit exists. The binaries are not installed
	// here, so replace their paths by the path of the program "true".
	dir := t.TempDir()
	binary, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	verify := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(unit, []byte(installed.ReplaceAllString(string(text), binary)), 0o600); err != nil {
			t.Fatal(err)
		}
		verify = append(verify, strings.Replace(unit, "@.", "@1.", 1))
		if filepath.Ext(unit) != ".service" {
			continue
		}
		name := filepath.Base(file)
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(name) + "` \\| ([0-9.]+) \\|").FindSubmatch(page)
		if row == nil {
			t.Errorf("README.md does not state the exposure level of %s", name)
			continue
		}
		stated, err := strconv.ParseFloat(string(row[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		found := exposure.FindStringSubmatch(analyze(t, "security", "--offline=true", "--no-pager", unit))
		if found == nil {
			t.Errorf("systemd-analyze security does not state the exposure level of %s", name)
			continue
		}
		if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > stated {
			t.Errorf("%s: the exposure level is %s, and README.md states %v", name, found[1], stated)
		}
	}
	if out := analyze(t, verify...); strings.Contains(out, dir) || strings.Contains(out, "headgate") {
		t.Errorf("systemd-analyze verify: %s", out) // it also exits with 0 for an unknown setting
	}
}

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal(err, "(make test-tools installs it)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
	}
	return string(out)
}
