package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// A second frontproxy starts with the files of the first one, and its HAProxy starts slowly. The
// log must have no error, and HAProxy's messages about servers must not be warnings.
func TestRestartWithLeftoverFiles(t *testing.T) {
	dir := t.TempDir()
	haproxy := filepath.Join(dir, "haproxy")
	haproxytest.Script(t, haproxy, fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *\" -W \"*) sleep 0.3;; esac\nexec %q \"$@\"\n", haproxytest.Binary(t)))
	a := pod(t)
	f := start(t, append(dirFlags, "-drain-delay", "0", "-haproxy", haproxy)...)
	f.pods(a, pod(t))
	f.eventually(f.listen+"/", 200, "pod-")
	f.pods(a)
	f.eventually(f.admin+"/metrics", 200, `headgate_frontproxy_pods{proxy_zone="a",service="ns.web.http",state="in_service",zone="a"} 1`)
	f.stop()
	f.ends(cli.ExitOK)
	require.FileExists(t, filepath.Join(f.dir, "out", "haproxy.cfg"))
	f.launch()
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	f.eventually(f.admin+"/readyz", 200, "ok")
	f.stop()
	f.ends(cli.ExitOK)
	for line := range strings.Lines(f.log.String()) {
		require.NotContains(t, line, "refused")
		require.NotContains(t, line, "level=ERROR")
		require.NotRegexp(t, `level=WARN .*(local|panic)/`, line)
	}
}

// The test kills HAProxy. The next start of HAProxy fails once, for a reason that has nothing to do
// with its configuration. frontproxy then starts HAProxy with the last good configuration. This
// configuration does not contain the last policy.
func TestPolicyAfterAStartWithTheLastGoodConfiguration(t *testing.T) {
	dir := t.TempDir()
	refuse := filepath.Join(dir, "refuse")
	haproxy := filepath.Join(dir, "haproxy")
	haproxytest.Script(t, haproxy, fmt.Sprintf(`#!/bin/sh
case "$*" in *" -W "*) rm %q 2>/dev/null && exit 1;; esac
exec %q "$@"
`, refuse, haproxytest.Binary(t)))
	f := start(t, append(dirFlags, "-drain-delay", "0", "-policy", "DIR/policy.yaml", "-haproxy", haproxy)...)
	out := func(name string) string {
		text, err := os.ReadFile(filepath.Join(f.dir, "out", name))
		require.NoError(t, err)
		return string(text)
	}
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(f.dir, "out", name))
		return err == nil
	}
	started := regexp.MustCompile(`state=running pid=(\d+)`)
	require.True(t, f.wait(func() bool { return started.MatchString(f.log.String()) }))
	f.policy("server: 7s\n")
	require.True(t, f.wait(func() bool {
		return strings.Contains(out("haproxy.cfg"), "timeout server 7s") && !exists("haproxy.cfg.reload-pending")
	}))
	require.NotContains(t, out("haproxy.cfg.last-good"), "timeout server 7s")

	require.NoError(t, os.WriteFile(refuse, nil, 0o600))
	pid, err := strconv.Atoi(started.FindStringSubmatch(f.log.String())[1])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.True(t, f.wait(func() bool { return strings.Contains(f.log.String(), `configuration="last good"`) }))
	running := func() string {
		target, err := os.Readlink(filepath.Join(f.dir, "out", "run", "running.cfg"))
		require.NoError(t, err)
		return filepath.Base(target)
	}
	require.True(t, f.wait(func() bool { return running() == "haproxy.cfg" && !exists("haproxy.cfg.reload-pending") }))
}
