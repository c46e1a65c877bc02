//go:build unix

package deploy

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

const (
	crashDir  = "HAPROXYCFG_TEST_CRASH_DIR"
	crashStep = "HAPROXYCFG_TEST_CRASH_STEP"
)

// crashConfigs returns the configuration in force and the one to apply.
func crashConfigs(t *testing.T) (old, next *haproxycfg.Config) {
	return withCertificates(testConfig("/run", 18080, 31000), configtest.Certificate(t, "old.example.com")),
		withCertificates(testConfig("/run", 18080, 31000, 31001), configtest.Certificate(t, "next.example.com"))
}

// TestApplyCrashChild is the process that TestApplyKilledAtAnyStep kills.
func TestApplyCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return // this is not the child process
	}
	last, err := strconv.Atoi(os.Getenv(crashStep))
	require.NoError(t, err)
	n := 0
	d := &Dir{Path: dir, Reload: func(context.Context) error { return nil }}
	d.beforeStep = func(string) error {
		if n == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		n++
		return nil
	}
	_, next := crashConfigs(t)
	_, err = d.Apply(t.Context(), next)
	require.NoError(t, err)
}

// TestApplyKilledAtAnyStep kills a process at each step of an Apply. The directory then holds the
// old or the new configuration, HAProxy accepts it, and the next Apply completes the change.
func TestApplyKilledAtAnyStep(t *testing.T) {
	old, next := crashConfigs(t)
	haproxy := haproxytest.Binary(t)

	// Record the steps of a complete Apply.
	var steps []string
	base := t.TempDir()
	d := &Dir{Path: base, Reload: func(context.Context) error { return nil }}
	_, err := d.Apply(t.Context(), old)
	require.NoError(t, err)
	d.beforeStep = func(s string) error { steps = append(steps, s); return nil }
	_, err = d.Apply(t.Context(), next)
	require.NoError(t, err)
	require.Subset(t, steps, []string{
		"mkdir", "write " + pendingFile, "write " + lastGoodFile, "rename " + lastGoodFile,
		"write " + configFile, "rename " + configFile, "reload", "clear pending", "remove unused",
	})

	for i, step := range steps {
		t.Run(strconv.Itoa(i)+" "+strings.ReplaceAll(step, "/", " "), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			loads := 0
			d := &Dir{Path: dir, Reload: func(context.Context) error { loads++; return nil }}
			_, err := d.Apply(t.Context(), old)
			require.NoError(t, err)

			child := exec.Command(os.Args[0], "-test.run=^TestApplyCrashChild$")
			child.Env = append(os.Environ(), crashDir+"="+dir, crashStep+"="+strconv.Itoa(i))
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)

			text := onDisk(t, dir, configFile)
			require.Contains(t, []string{rendered(t, dir, old), rendered(t, dir, next)}, text)
			out, err = exec.Command(haproxy, "-c", "-f", filepath.Join(dir, configFile)).CombinedOutput()
			require.NoError(t, err, "%s", out)

			// The next Apply reloads, unless HAProxy has confirmed the new configuration.
			loads = 0
			_, err = d.Apply(t.Context(), next)
			require.NoError(t, err)
			if step != "remove unused" {
				require.Equal(t, 1, loads)
			}
			require.Equal(t, rendered(t, dir, next), onDisk(t, dir, configFile))
			require.NoFileExists(t, filepath.Join(dir, pendingFile))
			if i > 0 && text == rendered(t, dir, next) {
				require.Equal(t, rendered(t, dir, old), onDisk(t, dir, lastGoodFile))
			}
			if step != "remove unused" {
				hidden, err := filepath.Glob(filepath.Join(dir, ".*[0-9]"))
				require.NoError(t, err)
				hiddenMaps, err := filepath.Glob(filepath.Join(dir, mapsDir, ".*[0-9]"))
				require.NoError(t, err)
				require.Empty(t, append(hidden, hiddenMaps...), "leftovers of unfinished writes are removed")
			}
		})
	}
}
