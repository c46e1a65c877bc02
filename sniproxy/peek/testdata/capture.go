//go:build ignore

// Capture records what the clients of this machine send first, for the tests of
// package peek. It serves nothing: each client sees its connection end.
//
//	go run testdata/capture.go          # all, in the folder of the package
//	go run testdata/capture.go curl-    # those whose name begins so
//
// Clients that are not installed are left out, and their files left alone. It writes
// NAME.bin, and the table in README.md for what it captured last.
package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const dir = "testdata"

// A client dials addr, however it likes, and may fail afterwards.
type client struct {
	name    string
	what    string
	version func() string
	dial    func(ctx context.Context, addr string)
}

func clients() []client {
	all := []client{
		golang("go-default", "crypto/tls, defaults (X25519MLKEM768)", &tls.Config{ServerName: "go.example"}),
		golang("go-alpn", "the same with ALPN", &tls.Config{ServerName: "go.example", NextProtos: []string{"h2", "http/1.1"}}),
		golang("go-classical", "X25519 alone", &tls.Config{ServerName: "go.example", CurvePreferences: []tls.CurveID{tls.X25519}}),
		golang("go-tls12", "TLS 1.2 at most", &tls.Config{ServerName: "go.example", MaxVersion: tls.VersionTLS12}),
		golang("go-noname", "no server name", &tls.Config{InsecureSkipVerify: true}),
		golang("go-20k", "20 KB in two records, by a long list of protocols", &tls.Config{ServerName: "large.go.example", NextProtos: manyProtocols()}),
		golang("go-ech", "a real encrypted hello for secret.go.example", &tls.Config{ServerName: "secret.go.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfig("public.go.example")}),
		program("openssl-default", "s_client, defaults", "openssl", "version", "s_client", "-servername", "openssl.example", "-connect", "ADDR"),
		program("openssl-alpn", "s_client -alpn", "openssl", "version", "s_client", "-servername", "openssl.example", "-alpn", "h2,http/1.1", "-connect", "ADDR"),
		program("openssl-tls12", "s_client -tls1_2", "openssl", "version", "s_client", "-servername", "openssl.example", "-tls1_2", "-connect", "ADDR"),
		program("openssl-tls10", "s_client -tls1 with old ciphers", "openssl", "version", "s_client", "-servername", "openssl.example", "-tls1", "-cipher", "ALL:@SECLEVEL=0", "-connect", "ADDR"),
		program("openssl-noname", "s_client -noservername", "openssl", "version", "s_client", "-noservername", "-connect", "ADDR"),
		program("openssl-fragments", "s_client -max_send_frag 512 and a long list of protocols: many records", "openssl", "version", "s_client", "-servername", "fragments.openssl.example", "-max_send_frag", "512", "-alpn", strings.Join(manyProtocols()[:20], ","), "-connect", "ADDR"),
		program("curl-h2", "https, HTTP/2 offered", "curl", "--version", "-sk", "--http2", "--resolve", "curl.example:PORT:127.0.0.1", "https://curl.example:PORT/"),
		program("curl-http11", "https, HTTP/1.1 only", "curl", "--version", "-sk", "--http1.1", "--resolve", "curl.example:PORT:127.0.0.1", "https://curl.example:PORT/"),
		program("curl-tls12", "https, TLS 1.2 at most", "curl", "--version", "-sk", "--tls-max", "1.2", "--resolve", "curl.example:PORT:127.0.0.1", "https://curl.example:PORT/"),
		program("wget", "https", "wget", "--version", "-qO-", "--tries=1", "--no-check-certificate", "https://localhost:PORT/"),
		chromium("chromium", "https", "https://chromium.example:PORT/"),
		program("curl-http1", "http, HTTP/1.1", "curl", "--version", "-s", "--resolve", "Curl.Example:PORT:127.0.0.1", "http://Curl.Example:PORT/path?query"),
		program("curl-proxied", "http by a proxy: absolute form", "curl", "--version", "-s", "-x", "http://ADDR", "http://curl.example/path"),
		program("curl-connect", "https by a proxy: CONNECT", "curl", "--version", "-s", "-x", "http://ADDR", "https://curl.example/path"),
		program("curl-h2c", "http, HTTP/2 with prior knowledge", "curl", "--version", "-s", "--http2-prior-knowledge", "--resolve", "curl.example:PORT:127.0.0.1", "http://curl.example:PORT/path"),
		{"go-h2c", "net/http, HTTP/2 with prior knowledge, a block of several frames", runtime.Version, goH2C},
		chromium("chromium-http", "http", "http://chromium.example:PORT/"),
	}
	return all
}

func golang(name, what string, config *tls.Config) client {
	return client{name, what, runtime.Version, func(ctx context.Context, addr string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		_ = tls.Client(conn, config).HandshakeContext(ctx)
	}}
}

func goH2C(ctx context.Context, addr string) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c := http.Client{Transport: &http.Transport{
		Protocols:   &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("tcp", addr) },
	}}
	r, err := http.NewRequestWithContext(ctx, "POST", "http://Go.Example:8080/path", strings.NewReader("body"))
	if err != nil {
		log.Fatal(err)
	}
	for i := range 300 {
		r.Header.Set(fmt.Sprintf("X-Header-%d", i), strings.Repeat("~", 60))
	}
	_, _ = c.Do(r)
}

func program(name, what, path, versionFlag string, args ...string) client {
	return client{name, what, func() string { return firstLine(path, versionFlag) }, func(ctx context.Context, addr string) {
		_, port, _ := net.SplitHostPort(addr)
		run := []string{}
		for _, a := range args {
			run = append(run, strings.NewReplacer("ADDR", addr, "PORT", port).Replace(a))
		}
		_ = exec.CommandContext(ctx, path, run...).Run()
	}}
}

func chromium(name, what, url string) client {
	return client{name, what, func() string { return firstLine("chromium", "--version") }, func(ctx context.Context, addr string) {
		profile, err := os.MkdirTemp("", "capture-")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(profile)
		_, port, _ := net.SplitHostPort(addr)
		_ = exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile,
			"--host-resolver-rules=MAP * 127.0.0.1", "--dump-dom", strings.ReplaceAll(url, "PORT", port)).Run()
	}}
}

func firstLine(path string, flag string) string {
	out, err := exec.Command(path, flag).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, "(") // what it was built with
	return strings.TrimSpace(line)
}

func manyProtocols() []string {
	list := make([]string, 100)
	for i := range list {
		list[i] = fmt.Sprintf("protocol-%03d-%s", i, strings.Repeat("x", 187))
	}
	return list
}

// echConfig makes a list of one ECHConfig (RFC 9849 section 4) with a new key.
func echConfig(publicName string) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	vector := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	contents := slices.Concat(
		[]byte{1, 0, 0x20},              // config_id, DHKEM(X25519, HKDF-SHA256)
		vector(key.PublicKey().Bytes()), //
		vector([]byte{0, 1, 0, 1}),      // HKDF-SHA256, AES-128-GCM
		[]byte{0, byte(len(publicName))}, []byte(publicName),
		vector(nil), // extensions
	)
	return vector(append([]byte{0xfe, 0x0d}, vector(contents)...))
}

// first reads what comes before the first pause.
func first(conn net.Conn) ([]byte, error) {
	var all []byte
	wait := 20 * time.Second
	for buf := make([]byte, 64<<10); ; wait = 500 * time.Millisecond {
		conn.SetReadDeadline(time.Now().Add(wait))
		n, err := conn.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && len(all) > 0 {
				return all, nil
			}
			return all, err
		}
	}
}

func capture(c client) ([]byte, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan struct{})
	go func() { defer close(ended); c.dial(ctx, l.Addr().String()) }()
	defer func() { l.Close(); cancel(); <-ended }()
	for {
		l.(*net.TCPListener).SetDeadline(time.Now().Add(25 * time.Second))
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		b, err := first(conn)
		conn.Close()
		if len(b) > 0 { // browsers open some for nothing
			return b, err
		}
	}
}

func main() {
	log.SetFlags(0)
	var rows bytes.Buffer
	for _, c := range clients() {
		if len(os.Args) > 1 && !strings.HasPrefix(c.name, os.Args[1]) {
			continue
		}
		version := c.version()
		if version == "" {
			log.Printf("%s: not installed, left out", c.name)
			continue
		}
		b, err := capture(c)
		if err != nil {
			log.Printf("%s: %v", c.name, err)
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, c.name+".bin"), b, 0o644); err != nil {
			log.Fatal(err)
		}
		log.Printf("%s: %d bytes", c.name, len(b))
		fmt.Fprintf(&rows, "| `%s.bin` | %d | %s | %s |\n", c.name, len(b), c.what, version)
	}
	if len(os.Args) > 1 {
		fmt.Print(rows.String())
		return
	}
	const readme = dir + "/README.md"
	text, err := os.ReadFile(readme)
	if err != nil {
		log.Fatal(err)
	}
	head, _, _ := bytes.Cut(text, []byte("| file |"))
	table := "| file | bytes | client | version |\n|---|---|---|---|\n"
	if err := os.WriteFile(readme, slices.Concat(head, []byte(table), rows.Bytes()), 0o644); err != nil {
		log.Fatal(err)
	}
}
