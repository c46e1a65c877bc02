package hellos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Client is a TLS client of this machine.
type Client struct {
	Name    string
	Version string
	connect func(context.Context, target) error
}

// target is a server, and what a client needs to know about it.
type target struct {
	host  string
	addr  netip.AddrPort
	certs *Certificates
	dir   string // an empty directory for files of the client
}

// These are the names of the clients.
const (
	Curl     = "curl"
	OpenSSL  = "openssl s_client"
	Go       = "Go"
	Java     = "Java"
	Chromium = "Chromium"
	// ResumedGo is a Go client that resumes a session in which it has shown a certificate. A server in
	// Go puts the certificates of the client into the ticket, so the hello is large.
	ResumedGo = "Go resuming mTLS"
)

var programs = []struct {
	name     string
	commands []string // the first one prints the version
	version  string   // the flag for this
	packages string
	connect  func(context.Context, target) error
}{
	{Curl, []string{"curl"}, "--version", "curl", curl},
	{OpenSSL, []string{"openssl"}, "version", "openssl", openSSL},
	{Java, []string{"java", "keytool"}, "-version", "default-jre-headless", keytool},
	{Chromium, []string{"chromium"}, "--version", "chromium", chromium},
}

// Clients returns the clients of this machine. The result "missing" names the Debian packages of
// the clients that the machine does not have.
func Clients() (found []Client, missing string) {
	version := strings.TrimPrefix(runtime.Version(), "go")
	found = []Client{{Go, version, goClient}, {ResumedGo, version, resumedGo}}
	var packages []string
	for _, p := range programs {
		about, err := look(p.commands, p.version)
		if err != nil {
			packages = append(packages, p.packages)
			continue
		}
		found = append(found, Client{p.name, about, p.connect})
	}
	return found, strings.Join(packages, " ")
}

var versionNumber = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

func look(commands []string, flag string) (version string, err error) {
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			return "", err
		}
	}
	out, err := exec.Command(commands[0], flag).CombinedOutput()
	return versionNumber.FindString(string(out)), err
}

// HostOf returns the server name for the client with this name.
func HostOf(client string) string {
	name := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(client), "-")
	return name + ".hello.example"
}

// Connect makes a handshake with the server at addr. It fails if the server does not prove that it is
// the host of this client.
func (c Client) Connect(ctx context.Context, addr netip.AddrPort, certs *Certificates) error {
	dir, err := os.MkdirTemp("", "hellos-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := c.connect(ctx, target{HostOf(c.Name), addr, certs, dir}); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// Capture returns the hello that the client sends if it connects to a server directly, and not through a router.
func (c Client) Capture(ctx context.Context, certs *Certificates) ([]byte, error) {
	b, err := NewBackend(certs)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := c.Connect(ctx, b.Addr, certs); err != nil {
		return nil, err
	}
	if !b.Completed(HostOf(c.Name)) {
		return nil, fmt.Errorf("hellos: %s did not complete its handshake", c.Name)
	}
	return b.lastHello(), nil
}

func goClient(ctx context.Context, t target) error {
	_, err := get(ctx, t, &tls.Config{ServerName: t.host, RootCAs: t.certs.ca.Pool()})
	return err
}

func resumedGo(ctx context.Context, t target) error {
	conf := &tls.Config{
		ServerName: t.host, RootCAs: t.certs.ca.Pool(), Certificates: []tls.Certificate{t.certs.client},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	if _, err := get(ctx, t, conf); err != nil {
		return err
	}
	state, err := get(ctx, t, conf)
	if err == nil && !state.DidResume {
		err = errors.New("the server did not resume the session")
	}
	return err
}

// get sends a request in TLS, and reads the answer to its end.
func get(ctx context.Context, t target, conf *tls.Config) (tls.ConnectionState, error) {
	dialer := tls.Dialer{Config: conf}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", t.host); err != nil {
		return tls.ConnectionState{}, err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<10))
	if err == nil && !bytes.HasSuffix(answer, []byte("hi\n")) {
		err = fmt.Errorf("unexpected answer %q", answer)
	}
	return conn.(*tls.Conn).ConnectionState(), err
}

func curl(ctx context.Context, t target) error {
	port := strconv.Itoa(int(t.addr.Port()))
	return start(ctx, "", "hi", "curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", t.certs.File,
		"--connect-to", "::"+t.addr.String(), "https://"+t.host+":"+port+"/")
}

func openSSL(ctx context.Context, t target) error {
	return start(ctx, "GET / HTTP/1.0\r\n\r\n", "hi", "openssl", "s_client", "-connect", t.addr.String(), "-servername", t.host,
		"-verify_hostname", t.host, "-CAfile", t.certs.File, "-verify_return_error", "-quiet", "-ign_eof")
}

// keytool of the Java runtime prints the certificates of a server.
func keytool(ctx context.Context, t target) error {
	hosts := filepath.Join(t.dir, "hosts")
	if err := os.WriteFile(hosts, fmt.Appendf(nil, "%s %s\n", t.addr.Addr(), t.host), 0o600); err != nil {
		return err
	}
	return start(ctx, "", t.host, "keytool", "-J-Djdk.net.hosts.file="+hosts, "-J-XX:TieredStopAtLevel=1",
		"-printcert", "-sslserver", fmt.Sprintf("%s:%d", t.host, t.addr.Port()))
}

// chromium does not check certificates, because its profile does not contain the root certificate of
// the backends.
func chromium(ctx context.Context, t target) error {
	return start(ctx, "", "hi", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--user-data-dir="+t.dir, "--proxy-server=direct://", "--host-resolver-rules=MAP * "+t.addr.Addr().String(),
		"--dump-dom", fmt.Sprintf("https://%s:%d/", t.host, t.addr.Port()))
}

// start runs a program to its end. The program must print the text in the argument "want".
func start(ctx context.Context, stdin, want, name string, args ...string) error {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil && !strings.Contains(out.String(), want) {
		err = fmt.Errorf("no %q in %q", want, out.String())
	}
	if err != nil {
		return fmt.Errorf("%w: %s", cmp.Or(context.Cause(ctx), err), bytes.TrimSpace(problems.Bytes()))
	}
	return nil
}
