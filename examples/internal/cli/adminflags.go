package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/systemd"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/inputfile"
)

// AdminFlags are the flags of an admin listener.
type AdminFlags struct {
	addrs     Strings
	hosts     Strings
	tokenFile string
}

// Register defines the flags -admin and -admin-host. For their help, "pages" names the pages that
// only read, such as "/metrics and /healthz". "changes" names the requests that change something,
// such as "POST /force". If changes is not empty, Register also defines -admin-token-file.
func (f *AdminFlags) Register(flags *flag.FlagSet, pages, changes string) {
	details := []string{"it serves " + pages}
	if changes != "" {
		details = append(details, "and "+changes+" with the token of -admin-token-file", "unix:PATH is a Unix socket for this user, where "+changes+" needs no token")
		flags.StringVar(&f.tokenFile, "admin-token-file", "", Meaning("admin-token-file", "the token permits "+changes, "nothing permits it if empty"))
	}
	details = append(details, "systemd:NAME is a socket that systemd passes", "none if empty")
	flags.Var(&f.addrs, "admin", Meaning("admin", details...))
	flags.Var(&f.hosts, "admin-host", "further `name` that the header Host of requests to -admin may have; IP addresses, localhost, the names in -admin and the name of the machine always may; may be given several times")
}

// RegisterClient defines the flags -admin and -admin-token-file of a subcommand that sends requests
// to a running program.
func (f *AdminFlags) RegisterClient(flags *flag.FlagSet) {
	flags.Var(&f.addrs, "admin", Meaning("admin", "an address or unix:PATH, as the running program has it", "of several, the command uses a Unix socket"))
	flags.StringVar(&f.tokenFile, "admin-token-file", "", Meaning("admin-token-file", "the same as that of the running program", "a Unix socket needs none"))
}

// Given reports whether there is an address.
func (f *AdminFlags) Given() bool { return len(f.addresses()) > 0 }

// Wanted reports whether the program must call Admin.Serve. This is so if there is an address, or
// if systemd wants notifications.
func (f *AdminFlags) Wanted(ctx context.Context) bool {
	return f.Given() || systemd.FromContext(ctx).Notified()
}

// addresses returns the values of -admin that are not empty.
func (f *AdminFlags) addresses() (list []string) {
	for _, addr := range f.addrs {
		if addr != "" {
			list = append(list, addr)
		}
	}
	return list
}

// Check returns an error if an address has the wrong form.
func (f *AdminFlags) Check() error {
	for _, addr := range f.addresses() {
		if path, unix := strings.CutPrefix(addr, "unix:"); unix {
			if path == "" || path[0] == '@' { // an abstract socket has no owner
				return fmt.Errorf("-admin: %q: want unix:PATH", addr)
			}
		} else if err := CheckAddress(addr); err != nil {
			return fmt.Errorf("-admin: %w", err)
		}
	}
	return nil
}

// Listen opens the listeners of each address, and sets the fields Token and Hosts of admin. It
// fails if the file of -admin-token-file contains no token; the server reads this file again for
// each request that needs the token. For systemd:NAME, Listen uses the sockets of systemd in ctx.
func (f *AdminFlags) Listen(ctx context.Context, admin *Admin) (listeners []net.Listener, err error) {
	if f.tokenFile != "" {
		admin.Token = func() (string, error) { return readToken(f.tokenFile) }
		if _, err := admin.Token(); err != nil {
			return nil, fmt.Errorf("-admin-token-file: %w", err)
		}
	}
	admin.Hosts = f.hosts
	if name, err := os.Hostname(); err == nil {
		admin.Hosts = append(admin.Hosts, name)
	}
	for _, addr := range f.addresses() {
		var opened []net.Listener
		if path, unix := strings.CutPrefix(addr, "unix:"); unix {
			var l net.Listener
			l, err = listenUnix(path)
			opened = []net.Listener{l}
		} else {
			opened, err = listenAdmin(ctx, addr)
			if host, _, err := net.SplitHostPort(addr); err == nil && host != "" && !strings.HasPrefix(addr, systemdPrefix) {
				admin.Hosts = append(admin.Hosts, host)
			}
		}
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("-admin: %w", err)
		}
		listeners = append(listeners, opened...)
	}
	return listeners, nil
}

// TCPAddrs returns the addresses of the listeners that are not Unix sockets.
func TCPAddrs(listeners []net.Listener) (addrs []netip.AddrPort) {
	for _, l := range listeners {
		if addr, ok := l.Addr().(*net.TCPAddr); ok {
			addrs = append(addrs, addr.AddrPort())
		}
	}
	return addrs
}

// Ask sends a request without a body to the admin listener of a program on this machine. It copies
// each part of the response body to out as soon as the part arrives. If the status is not 200, Ask
// returns an error that contains the status and the body.
func (f *AdminFlags) Ask(ctx context.Context, method, path string, query url.Values, out io.Writer) error {
	network, address, err := f.target()
	if err != nil {
		return err
	}
	host := address
	if network == "unix" {
		host = "localhost"
	}
	target := url.URL{Scheme: "http", Host: host, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return err
	}
	if network == "tcp" && f.tokenFile != "" {
		token, err := readToken(f.tokenFile)
		if err != nil {
			return fmt.Errorf("-admin-token-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Do not use http.DefaultClient: it would send the request to the proxy in the environment, but
	// the listener is on this machine.
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		_, err = io.Copy(out, io.LimitReader(resp.Body, maxAskAnswer))
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %s: %s", target.Redacted(), resp.Status, strings.TrimSpace(string(body)))
}

// maxAskAnswer is the largest size in bytes of a body that Ask reads.
const maxAskAnswer = 64 << 20

// Curl returns a shell command that sends a request to the admin listener, for messages to
// operators. It returns "" if no listener permits changes. path may have a query.
func (f *AdminFlags) Curl(method, path string) string {
	network, address, err := f.target()
	switch {
	case err == nil && network == "unix":
		return fmt.Sprintf("curl --unix-socket %s -X %s 'http://localhost%s'", address, method, path)
	case err == nil && f.tokenFile != "":
		return fmt.Sprintf(`curl -H "Authorization: Bearer $(cat %s)" -X %s 'http://%s%s'`, f.tokenFile, method, address, path)
	}
	return ""
}

// target returns the address to which Ask connects: the first Unix socket of -admin, or its first
// TCP address if there is no Unix socket. It skips systemd:NAME, because only the process that
// systemd starts knows the address.
func (f *AdminFlags) target() (network, address string, err error) {
	if !f.Given() {
		return "", "", errors.New("-admin is needed")
	}
	addrs := f.addresses()
	for _, addr := range addrs {
		if path, unix := strings.CutPrefix(addr, "unix:"); unix {
			return "unix", path, nil
		}
	}
	i := slices.IndexFunc(addrs, func(addr string) bool { return !strings.HasPrefix(addr, systemdPrefix) })
	if i < 0 {
		return "", "", errors.New("-admin: want an address or unix:PATH: only the process that systemd starts can use systemd:NAME")
	}
	address, err = LocalAddress(addrs[i])
	return "tcp", address, err
}

// LocalAddress returns the address to which a client on this machine must connect, if the program
// listens on the address in the argument "listen". For an unspecified address, such as ":80", it
// returns a loopback address.
func LocalAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}

// maxToken is the largest size of a token file in bytes.
const maxToken = 4096

// readToken returns the token in a file, without the white space around it.
func readToken(file string) (string, error) {
	data, err := inputfile.Read(file, maxToken)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s: want one token", file)
	}
	return token, nil
}

// unixListener is a Unix socket whose Close removes the file.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listenUnix opens a Unix socket. Only this user and root can connect to it. If path is the socket
// of a process that has ended, listenUnix replaces it.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s exists and is no socket", path)
		}
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s: another process listens on it", path)
		}
	}
	// Create the socket in a private directory, where no other user can connect to it. Move it to
	// path only after it has its final mode.
	dir, remove, err := atomicfile.MkdirTemp(filepath.Dir(path), ".adm")
	if err != nil {
		return nil, fmt.Errorf("the directory of the socket %s: %w", path, err)
	}
	defer remove()
	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = errors.Join(os.Chmod(private, 0o600), os.Rename(private, path))
	file, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		l.Close()
		return nil, err
	}
	return &unixListener{l, path, file}, nil
}

// Addr returns the path at which clients find the socket.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close closes the socket, and removes its file unless another process has replaced it.
func (l *unixListener) Close() error {
	if file, err := os.Lstat(l.path); err == nil && os.SameFile(file, l.file) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
