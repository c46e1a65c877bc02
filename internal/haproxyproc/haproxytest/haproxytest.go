// Package haproxytest starts a real HAProxy for the length of one test.
//
//	dir := haproxytest.Dir(t)
//	port := haproxytest.Ports(t, 1)[0]
//	h := haproxytest.Start(t, dir, fmt.Sprintf(`
//	global
//	    stats socket %s/stats.sock level admin
//	…`, dir))
//
// The configuration must have a stats socket at stats.sock in the directory. A
// machine without haproxy fails the test; it is never skipped.
package haproxytest

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// Names within the directory of a test.
const (
	ConfigFile   = "haproxy.cfg"
	StatsSocket  = "stats.sock"
	MasterSocket = "master.sock"
)

// Binary returns the path of haproxy, or fails the test with a line that says
// how to get it.
func Binary(t testing.TB) string {
	t.Helper()
	p, err := haproxyproc.Find()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Dir returns a new directory that is removed after the test. Its path is
// short: a unix socket's path has at most 107 bytes, which t.TempDir can
// exceed.
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

// Start writes the configuration to haproxy.cfg in dir, runs HAProxy on it
// and stops it when the test ends.
func Start(t testing.TB, dir, config string) *haproxyproc.Process {
	t.Helper()
	return start(t, dir, config, "")
}

// StartMaster is Start in master-worker mode, with the master's command line
// at master.sock in dir.
func StartMaster(t testing.TB, dir, config string) *haproxyproc.Process {
	t.Helper()
	return start(t, dir, config, filepath.Join(dir, MasterSocket))
}

func start(t testing.TB, dir, config, master string) *haproxyproc.Process {
	t.Helper()
	file := filepath.Join(dir, ConfigFile)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := haproxyproc.Start(context.Background(), haproxyproc.Options{
		Path: Binary(t), Config: file, Dir: dir,
		StatsSocket: filepath.Join(dir, StatsSocket), MasterSocket: master,
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

// Ports returns n TCP ports on which nobody listens, on any address, and which
// nobody else gets for the length of the test: not this process, and not the tests
// of other packages that run at the same time. They lie below the node ports of
// Kubernetes and the range from which kernels choose the ports of outgoing
// connections, and above the ports that Kubernetes itself has on nodes, which no
// agent may take.
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

// claim takes a port for a test, and reports whether it was to be had. It is taken on
// all addresses, since a node may be 127.0.0.2.
func claim(t testing.TB, port int) bool {
	_, release, err := freeport.Hold("", port)
	if err != nil {
		return false
	}
	t.Cleanup(release)
	return true
}

// FakeSocket starts a socket that answers as HAProxy's command line would: with the result of answer
// for the one command that each connection sends. It returns the path as package runtimeapi reads it.
// network is "unix" or "tcp". After the command "hang" the connection stays open until the test ends.
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
