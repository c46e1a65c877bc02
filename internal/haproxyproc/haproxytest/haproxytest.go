// Package haproxytest starts a real HAProxy for one test.
//
//	dir := haproxytest.Dir(t)
//	port := haproxytest.Ports(t, 1)[0]
//	h := haproxytest.Start(t, dir, fmt.Sprintf(`
//	global
//	    stats socket %s/stats.sock level admin
//	…`, dir))
//
// The configuration must have a stats socket at stats.sock in the directory. Without haproxy on the
// machine, the test fails.
package haproxytest

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// These are names of files in the directory of a test.
const (
	ConfigFile   = "haproxy.cfg"
	StatsSocket  = "stats.sock"
	MasterSocket = "master.sock"
)

// Binary returns the path of haproxy. If there is no haproxy, the test fails with a message that
// says how to install it.
func Binary(t testing.TB) string {
	t.Helper()
	p, err := haproxyproc.Find()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Binaries returns the path of the haproxy that Binary returns, and the paths of all other versions
// that "make haproxies" has installed. They are VERSION/haproxy in the directory that the
// environment variable HAPROXY_DIR names. The test fails if one of the versions in Required is
// missing there. The Makefile sets both variables.
func Binaries(t testing.TB) []string {
	t.Helper()
	all := []string{Binary(t)}
	if dir := os.Getenv("HAPROXY_DIR"); dir != "" {
		installed, err := filepath.Glob(filepath.Join(dir, "[0-9]*", "haproxy"))
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range Required() {
			if file := filepath.Join(dir, version, "haproxy"); !slices.Contains(installed, file) {
				t.Fatalf("%s is missing: make haproxies installs it", file)
			}
		}
		all = append(all, installed...)
	}
	return all
}

// Required returns the versions of HAProxy that must be installed, for example "2.6". They are in the
// environment variable HEADGATE_HAPROXIES, separated by spaces. make test sets no such variable,
// because it does not download HAProxy.
func Required() []string { return strings.Fields(os.Getenv("HEADGATE_HAPROXIES")) }

// Dir returns a new directory, and removes it after the test. Its path is short enough for a Unix
// socket, at most 107 bytes, which a path of t.TempDir may exceed.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg")
	if err == nil && len(dir) > 60 {
		_ = os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "hg")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Start writes config to haproxy.cfg in dir, and runs HAProxy with it. When the test ends, HAProxy
// is stopped.
func Start(t testing.TB, dir, config string) *haproxyproc.Process {
	t.Helper()
	return start(t, dir, config, "")
}

// StartMaster writes config to haproxy.cfg in dir, and runs HAProxy with it in master-worker mode.
// The master's command line is at the socket master.sock in dir. When the test ends, HAProxy is
// stopped.
func StartMaster(t testing.TB, dir, config string) *haproxyproc.Process {
	t.Helper()
	return start(t, dir, config, filepath.Join(dir, MasterSocket))
}

// StartMasterFiles does the same as StartMaster, but HAProxy also loads further files after
// haproxy.cfg. The argument "more" contains their paths.
func StartMasterFiles(t testing.TB, dir, config string, more ...string) *haproxyproc.Process {
	t.Helper()
	return start(t, dir, config, filepath.Join(dir, MasterSocket), more...)
}

func start(t testing.TB, dir, config, master string, more ...string) *haproxyproc.Process {
	t.Helper()
	file := filepath.Join(dir, ConfigFile)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Path: Binary(t), Config: file, More: more, Dir: dir,
		StatsSocket: filepath.Join(dir, StatsSocket), MasterSocket: master, ReadyTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("haproxy printed:\n%s", p.Output())
		}
	})
	return p
}

// AwaitOldWorkers waits until the old workers of an HAProxy that StartMaster has started accept no
// more connections. An old worker accepts connections after a reload, until it has noticed the
// reload.
func AwaitOldWorkers(t testing.TB, dir string) {
	t.Helper()
	master := runtimeapi.Socket{Path: filepath.Join(dir, MasterSocket)}
	deadline, tick := time.After(time.Minute), time.Tick(5*time.Millisecond)
	for accepting := true; accepting; {
		select {
		case <-tick:
		case <-deadline:
			t.Fatal("haproxytest: an old worker still accepts connections")
		}
		list, err := master.Do(t.Context(), "show proc")
		_, old, found := strings.Cut(list, "# old workers")
		if err != nil || !found {
			continue // the master restarts itself
		}
		accepting = false
		for line := range strings.Lines(old) {
			fields := strings.Fields(line)
			if len(fields) < 2 || fields[1] != "worker" {
				continue
			}
			worker := master
			worker.Worker = "@!" + fields[0]
			info, err := worker.Do(t.Context(), "show info")
			accepting = accepting || err == nil && strings.Contains(info, "\nStopping: 0\n")
		}
	}
}

// Script writes a shell script to a file and makes the file executable. A child process writes the
// file, and not the process of the test. Otherwise, a child that another test forks at the same
// time would inherit the open file, and no process can execute a file that is open for writing.
func Script(t testing.TB, file, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `cat > "$1" && chmod 700 "$1"`, "sh", file)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("haproxytest: write %s: %v\n%s", file, err, out)
	}
}

// Ports reserves n TCP ports on which no program listens, on any address. Until the test ends, no
// other call of Ports returns them, not even in another process.
//
// The ports are between the ports of Kubernetes components and the node ports: 11000 to 29999.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports
		}
		if port := 11000 + rand.IntN(19000); claim(t, port) {
			ports = append(ports, port)
		}
	}
	t.Fatalf("haproxytest: no %d free ports", n)
	return nil
}

// claim reserves a port until the test ends. It reserves the port on all addresses, because a
// simulated node may have an address such as 127.0.0.2. It returns false if the port is in use.
func claim(t testing.TB, port int) bool {
	_, release, err := freeport.Hold("", port)
	if err != nil {
		return false
	}
	t.Cleanup(release)
	return true
}

// FakeSocket starts a fake of HAProxy's command line on a network, "unix" or "tcp", and returns its
// address for a runtimeapi.Socket. For the one command of each connection, it sends the result of
// "answer". After the command "hang", the connection stays open until the test ends.
func FakeSocket(t testing.TB, network string, answer func(command string) string) (path string) {
	t.Helper()
	addr, prefix := filepath.Join(Dir(t), "s"), ""
	if network == "tcp" {
		addr, prefix = "127.0.0.1:0", "tcp@"
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			command, _ := in.ReadString('\n')
			_, _ = io.WriteString(conn, answer(strings.TrimSuffix(command, "\n")))
			if command != "hang\n" {
				_ = conn.Close()
			} else {
				t.Cleanup(func() { _ = conn.Close() })
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return prefix + l.Addr().String()
}
