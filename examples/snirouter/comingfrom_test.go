package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/sniproxy"
)

const nginxPage, tcpproxyPage = "COMING-FROM-NGINX-STREAM.md", "../../sniproxy/COMING-FROM-TCPPROXY.md"

// TestComingFrom checks each setting in the tables of the pages about other routers. A setting is a
// flag, which sets a field of a Go value, or an exported name of package sniproxy, which has a type.
func TestComingFrom(t *testing.T) {
	for _, page := range []string{nginxPage, tcpproxyPage} {
		t.Run(filepath.Base(page), func(t *testing.T) { clitest.CheckMappings(t, page, describe) })
	}
}

// describe returns the fields of the values that snirouter makes from its flags, one in each line.
// If a setting is the name of a field or method of sniproxy.Server, describe returns the type of
// this field or method.
func describe(t testing.TB, settings []string) string {
	t.Helper()
	var out strings.Builder
	args := []string{"-tls", ":8443", "-api", "http://127.0.0.1:9000/hosts/{host}"}
	for _, s := range settings {
		name, ok := strings.CutPrefix(s, "sniproxy.Server.")
		if !ok {
			args = append(args, strings.Fields(s)...)
			continue
		}
		srv := reflect.TypeFor[*sniproxy.Server]()
		if f, ok := srv.Elem().FieldByName(name); ok {
			fmt.Fprintln(&out, f.Type)
		} else if m, ok := srv.MethodByName(name); ok {
			fmt.Fprintln(&out, m.Type)
		}
	}
	fs := cli.NewFlagSet(program)
	s := register(fs)
	require.NoError(t, fs.Parse(args))
	require.NoError(t, s.check())
	r, err := newRouter(*s, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	fields := func(prefix string, value any) {
		v := reflect.Indirect(reflect.ValueOf(value))
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fmt.Fprintf(&out, "%s%s: %+v\n", prefix, f.Name, v.Field(i))
			}
		}
	}
	for _, addr := range slices.Sorted(maps.Keys(s.protocols())) {
		fmt.Fprintf(&out, "listen %s: %v\n", addr, s.protocols()[addr])
	}
	for _, addr := range s.quic {
		fmt.Fprintf(&out, "listen %s: quic\n", addr)
	}
	fields("", r.srv)
	fields("Cache.", r.hosts.cache)
	fields("Client.", r.hosts.api)
	if r.hosts.file != nil {
		fields("File.", r.hosts.file)
	}
	if r.hosts.feed != nil {
		fields("Feed.", r.hosts.feed)
	}
	fmt.Fprintf(&out, "default: %s\ncache file: %s\nlog: %s\ndrain: %s\n", s.defaultTo, r.hosts.cacheFile, s.logFormat.String(), s.drainTimeout)
	return out.String()
}

// TestComingFromNginxExample routes connections as the example of the page says: snirouter with the
// hosts file of the page. If the environment variable HEADGATE_PEERS is set, a real nginx with the
// configuration of the page must route the connections to the same endpoints.
func TestComingFromNginxExample(t *testing.T) {
	shop := newSite(t, "shop", "shop.example.com")
	blog := newSite(t, "blog", "a.blog.example.com")
	other := newSite(t, "other", "other.example.com", "x.a.blog.example.com")
	sites := strings.NewReplacer("10.0.0.24:443", shop.tls, "10.0.0.25:8443", blog.tls, "10.0.0.9:443", other.tls)
	expected := map[string]string{"shop.example.com": "shop", "a.blog.example.com": "blog", "other.example.com": "other"}
	check := func(t *testing.T, addr string) {
		for host, name := range expected {
			conf := &tls.Config{RootCAs: theAuthority().Pool(), ServerName: host}
			_, body := get(client(t, addr, conf), "https://"+host+"/")
			require.Contains(t, body, name+" says", host)
		}
	}

	t.Run("snirouter", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "hosts.json")
		require.NoError(t, os.WriteFile(file, []byte(sites.Replace(only(t, nginxPage, "json"))), 0o600))
		args := commandOf(t, nginxPage)
		require.Contains(t, args, "hosts.json")
		for i := range args {
			if args[i] = sites.Replace(args[i]); args[i] == "hosts.json" {
				args[i] = file
			}
		}
		p := start(t, withoutListeners(args)...)
		check(t, p.tls)
	})
	if os.Getenv("HEADGATE_PEERS") == "" {
		return
	}
	t.Run("nginx", func(t *testing.T) {
		addr, stop := startNginx(t, sites.Replace(only(t, nginxPage, "nginx")))
		defer stop()
		check(t, addr)
	})
}

// startNginx runs nginx with a stream block. The block contains "listen 443;", which startNginx
// replaces by a free port of loopback.
func startNginx(t *testing.T, stream string) (addr string, stop func()) {
	t.Helper()
	port, release, err := freeport.Hold("127.0.0.1", 0)
	require.NoError(t, err)
	t.Cleanup(release)
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	require.Contains(t, stream, "listen 443;")
	conf := fmt.Sprintf("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\npid nginx.pid;\nerror_log stderr;\nevents {}\n%s",
		strings.Replace(stream, "listen 443;", "listen "+addr+";", 1))
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, tool(t, "nginx-light libnginx-mod-stream (make peers)", "nginx"), "-p", dir, "-e", "stderr", "-c", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // the master then ends its worker
	cmd.WaitDelay = patience
	output := &clitest.Output{}
	cmd.Stderr = output
	require.NoError(t, cmd.Start())
	p := &process{t: t, stderr: output}
	p.eventually(func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr, func() { cancel(); _ = cmd.Wait() }
}

// TestComingFromTCPProxyExample checks that the page shows lines of example_tcpproxy_test.go, which
// go test runs.
func TestComingFromTCPProxyExample(t *testing.T) {
	blocks := clitest.CodeBlocks(t, tcpproxyPage, "go")
	require.Len(t, blocks, 2)
	example, err := os.ReadFile("../../sniproxy/example_tcpproxy_test.go")
	require.NoError(t, err)
	require.Contains(t, string(example), "\t"+strings.ReplaceAll(strings.TrimSpace(blocks[1]), "\n", "\n\t")+"\n")
	commandOf(t, tcpproxyPage)
}

// only returns the code block of a page in a language, and fails the test unless the page has
// exactly one.
func only(t *testing.T, page, language string) string {
	t.Helper()
	blocks := clitest.CodeBlocks(t, page, language)
	require.Len(t, blocks, 1, language)
	return blocks[0]
}

// commandOf returns the arguments of the first command of a page that starts snirouter. All such
// commands must have valid flags.
func commandOf(t *testing.T, page string) (first []string) {
	t.Helper()
	for _, block := range clitest.CodeBlocks(t, page, "sh") {
		for _, m := range regexp.MustCompile(`(?m)^snirouter (-.*)$`).FindAllStringSubmatch(strings.ReplaceAll(block, "\\\n", ""), -1) {
			args := strings.Fields(strings.ReplaceAll(m[1], "'", ""))
			fs := cli.NewFlagSet(program)
			s := register(fs)
			require.NoError(t, fs.Parse(args), m[0])
			require.NoError(t, s.check(), m[0])
			if first == nil {
				first = args
			}
		}
	}
	require.NotNil(t, first, page)
	return first
}

// withoutListeners returns arguments without the listeners, which the function start sets.
func withoutListeners(args []string) (rest []string) {
	for i := 0; i < len(args); i += 2 {
		if !slices.Contains([]string{"-tls", "-http", "-admin"}, args[i]) {
			rest = append(rest, args[i], args[i+1])
		}
	}
	return rest
}
