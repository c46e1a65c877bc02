// Package clitest has helpers for tests of the example binaries.
package clitest

import (
	"bytes"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Output is a buffer. A running binary can write to it while the test reads it. The zero value is
// ready to use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns all bytes written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Manifest decodes the YAML documents of a file into values: the first document into the first
// value, and so on. The test fails if the number of documents is not the number of values, or if a
// document has a field that its value does not have.
func Manifest(t testing.TB, file string, values ...any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(text, []byte("\n---\n"))
	if len(documents) != len(values) {
		t.Fatalf("%s has %d documents, not %d", file, len(documents), len(values))
	}
	for i, document := range documents {
		if err := yaml.UnmarshalStrict(document, values[i]); err != nil {
			t.Fatalf("%s: document %d: %v", file, i+1, err)
		}
	}
}

// Token is the token in each file that TokenFile creates.
const Token = "a-token-for-tests"

// TokenFile creates a file for -admin-token-file and returns its path.
func TokenFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// SocketPath returns a path for a Unix socket in a new directory. t.TempDir may return a path that
// is too long for a Unix socket.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "admin.sock")
}

// PipeListener is a net.Listener for connections in memory. In a synctest bubble, the deadlines of
// these connections use the bubble's clock. All clients have the loopback address 127.0.0.1.
type PipeListener struct {
	accepted chan net.Conn
	closed   chan struct{}
}

// NewPipeListener returns an open PipeListener.
func NewPipeListener() *PipeListener {
	return &PipeListener{make(chan net.Conn), make(chan struct{})}
}

// Dial opens a connection and returns the client's end. It waits until Accept has returned the
// server's end.
func (l *PipeListener) Dial() net.Conn {
	client, server := net.Pipe()
	l.accepted <- server
	return client
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return loopbackConn{c}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It must be called at most once.
func (l *PipeListener) Close() error { close(l.closed); return nil }

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return &net.TCPAddr{} }

type loopbackConn struct{ net.Conn }

func (loopbackConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// Environment returns a function for cli.Invocation.LookupEnv with the environment of a container.
// It has the variables of the container's manifest, and the variables in "data", the content of its
// ConfigMap. If the manifest sets a variable from a field of the pod (fieldRef), the value of the
// variable is the path of this field. The test fails if the program has not looked up a variable.
func Environment(t testing.TB, c *corev1.Container, data map[string]string) func(string) (string, bool) {
	environment := maps.Clone(data)
	if environment == nil {
		environment = map[string]string{}
	}
	for _, e := range c.Env {
		environment[e.Name] = e.Value
		if e.ValueFrom != nil {
			environment[e.Name] = e.ValueFrom.FieldRef.FieldPath
		}
	}
	used := map[string]bool{}
	t.Cleanup(func() {
		for name := range environment {
			if !used[name] {
				t.Errorf("%s is not a setting", name)
			}
		}
	})
	return func(name string) (string, bool) {
		value, ok := environment[name]
		used[name] = ok
		return value, ok
	}
}
