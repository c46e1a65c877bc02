package hellos

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/hellotest"
)

const (
	// maxHello is the largest hello that a backend reads, with the headers of its records. Most of
	// these headers are in hellos that Way.Cut has cut into records of 100 bytes.
	maxHello = 64 << 10
	// backendLimit bounds how long a backend keeps a connection.
	backendLimit = 30 * time.Second
)

// Backend is an HTTPS server that remembers what has arrived. Its methods may be called
// concurrently.
type Backend struct {
	Addr netip.AddrPort

	conf    *tls.Config
	ln      net.Listener
	serving sync.WaitGroup

	mu     sync.Mutex
	hellos map[[sha256.Size]byte]bool
	done   map[string]bool // names of complete handshakes
	last   []byte          // the hello of the last complete handshake
	open   map[net.Conn]bool
	closed bool
}

// NewBackend starts a backend on a free port of 127.0.0.1.
func NewBackend(certs *Certificates) (*Backend, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("hellos: backend: %w", err)
	}
	b := &Backend{
		Addr: ln.Addr().(*net.TCPAddr).AddrPort(),
		conf: certs.server(), ln: ln,
		hellos: make(map[[sha256.Size]byte]bool), done: make(map[string]bool), open: make(map[net.Conn]bool),
	}
	b.serving.Add(1)
	go b.accept()
	return b, nil
}

// Close closes all connections, and waits until the backend uses none of them.
func (b *Backend) Close() {
	b.mu.Lock()
	b.closed = true
	_ = b.ln.Close()
	for conn := range b.open {
		_ = conn.Close()
	}
	b.mu.Unlock()
	b.serving.Wait()
}

// Saw reports whether a connection began with exactly these bytes.
func (b *Backend) Saw(hello []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hellos[sha256.Sum256(hello)]
}

// Completed reports whether a client that named host has completed a handshake.
func (b *Backend) Completed(host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done[host]
}

// lastHello returns the hello of the last complete handshake.
func (b *Backend) lastHello() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *Backend) accept() {
	defer b.serving.Done()
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.closed {
			_ = conn.Close()
		} else {
			b.open[conn] = true
			b.serving.Add(1)
			go b.serve(conn)
		}
		b.mu.Unlock()
	}
}

func (b *Backend) serve(conn net.Conn) {
	defer b.serving.Done()
	defer func() {
		_ = conn.Close()
		b.mu.Lock()
		delete(b.open, conn)
		b.mu.Unlock()
	}()
	_ = conn.SetDeadline(time.Now().Add(backendLimit))
	hello, err := hellotest.ReadRecords(conn, maxHello)
	if err != nil {
		return // a client that only connects
	}
	b.mu.Lock()
	b.hellos[sha256.Sum256(hello)] = true
	b.mu.Unlock()
	server := tls.Server(&replayed{conn, io.MultiReader(bytes.NewReader(hello), conn)}, b.conf)
	if err := server.Handshake(); err != nil {
		return // the rest of a replayed handshake never comes
	}
	b.mu.Lock()
	b.done[server.ConnectionState().ServerName] = true
	b.last = hello
	b.mu.Unlock()
	if _, err := http.ReadRequest(bufio.NewReader(server)); err != nil {
		return // keytool sends no request
	}
	_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n")
	_ = server.Close()
}

// replayed is a connection whose first bytes have been read already. Read returns them again.
type replayed struct {
	net.Conn
	from io.Reader
}

func (r *replayed) Read(b []byte) (int, error) { return r.from.Read(b) }
