package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestProxyProtocol(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	hosts := hostsFile(t, "a.test", a.tls)
	const v1 = "PROXY TCP4 10.1.2.3 10.9.9.9 4567 443\r\n"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x0a\x09\x09\x09\x11\xd7\x01\xbb"
	exchange := func(t *testing.T, p *process, header string) string {
		t.Helper()
		conn, err := net.Dial("tcp", p.tls)
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte(header))
		require.NoError(t, err)
		c := tls.Client(conn, &tls.Config{RootCAs: theAuthority().Pool(), ServerName: "a.test"})
		if err := c.Handshake(); err != nil {
			return err.Error()
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		return readAll(t, c)
	}
	tests := []struct{ name, header, out, seen string }{
		{"v1 to v2", v1, "v2", "2 10.1.2.3:4567 10.9.9.9:443"},
		{"v2 to v1", v2, "v1", "1 10.1.2.3:4567 10.9.9.9:443"},
		{"v1 to none", v1, "", ""},
		{"v2 to none", v2, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, "-hosts", hosts, "-proxy-protocol-in", "10.0.0.0/8,127.0.0.1", "-proxy-protocol-out", tt.out)
			before := len(a.headers())
			require.Contains(t, exchange(t, p, tt.header), "site a says HTTP/1.1")
			p.eventually(func() bool { return strings.Contains(p.stderr.String(), "client=10.1.2.3:4567") })
			seen := strings.Join(a.headers()[before:], "")
			require.Equal(t, tt.seen, seen)
		})
	}
	t.Run("none to v1", func(t *testing.T) {
		p := start(t, "-hosts", hosts, "-proxy-protocol-out", "v1")
		require.Contains(t, exchange(t, p, ""), "to 127.0.0.1:")
		require.Regexp(t, `^1 127\.0\.0\.1:\d+ `+regexp.QuoteMeta(p.tls)+`$`, a.headers()[len(a.headers())-1])
	})
	t.Run("from another network", func(t *testing.T) {
		p := start(t, "-hosts", hosts, "-proxy-protocol-in", "10.0.0.0/8")
		require.NotContains(t, exchange(t, p, v1), "site a")
		p.metric(`headgate_router_connections_total{outcome="rejected",protocol="http/1"} 1`)
	})
	t.Run("required", func(t *testing.T) {
		p := start(t, "-hosts", hosts, "-proxy-protocol-in", "127.0.0.0/8", "-proxy-protocol-required")
		require.NotContains(t, exchange(t, p, ""), "site a")
		require.Contains(t, exchange(t, p, v2), "site a")
	})
}

func TestNotFoundPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "404.html")
	require.NoError(t, os.WriteFile(page, []byte("<h1>App not found</h1><i>{{.Host}}</i>"), 0o600))
	p := start(t, "-hosts", hostsFile(t, "gone.test", "127.0.0.1:1"), "-not-found-page", page)
	code, body := get(client(t, p.http, nil), "http://nobody.test/")
	require.Equal(t, 404, code)
	require.Equal(t, "<h1>App not found</h1><i>nobody.test</i>", body)
	code, body = get(client(t, p.http, nil), "http://gone.test/")
	require.Equal(t, 502, code)
	require.Contains(t, body, "cannot be reached")
	require.NotContains(t, body, "App not found")
}

// The router does not round the times of a log line, so the sum of the phases is at most the total.
func TestLogTimes(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.http))
	const connections = 5
	for range connections {
		code, _ := get(client(t, p.http, nil), "http://a.test/")
		require.Equal(t, 200, code)
	}
	line := regexp.MustCompile(`outcome=relayed .* peek=(\S+) lookup=(\S+) dial=(\S+) total=(\S+)\n`)
	var lines [][]string
	p.eventually(func() bool {
		lines = line.FindAllStringSubmatch(p.stderr.String(), -1)
		return len(lines) == connections
	})
	for _, fields := range lines {
		var times [4]time.Duration
		for i, text := range fields[1:] {
			d, err := time.ParseDuration(text)
			require.NoError(t, err)
			require.Positive(t, d)
			times[i] = d
		}
		require.LessOrEqual(t, times[0]+times[1]+times[2], times[3], fields[0])
		require.Greater(t, times[2], time.Microsecond, "connecting takes longer than 1 µs")
	}
}

func TestAllowAndDeny(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.http, "b.test", "10.0.0.1:80", "c.test", "127.0.0.9:80"), "-deny", "127.0.0.9")
	for host, want := range map[string]int{"a.test": 200, "b.test": 502, "c.test": 502} {
		code, _ := get(client(t, p.http, nil), "http://"+host+"/")
		require.Equal(t, want, code, host)
	}
	for _, want := range []string{"127.0.0.9:80 is in a denied network", "10.0.0.1:80 is in no allowed network"} {
		p.eventually(func() bool { return strings.Contains(p.stderr.String(), want) }, want)
	}
}

func TestLimitsAndTimeouts(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	hosts := hostsFile(t, "a.test", a.http)
	tests := []struct {
		name, send, outcome string
		reason              string // in headgate_router_limited_total; "" if there is none
		args                []string
		others              int  // connections that other clients have open
		answered            bool // the client gets an answer; the client closes the connection afterwards
	}{
		{"slow hello", "GET / HTT", "timed_out", "", []string{"-hello-timeout", "1s"}, 0, true},
		{"large hello", "GET /" + strings.Repeat("x", 2000), "rejected", "", []string{"-max-hello", "1000"}, 0, true},
		{"connections", "", "limited", "silent", []string{"-max-connections", "1"}, 1, false},
		{"connections of a source", "", "limited", "source", []string{"-max-connections-per-source", "1"}, 1, false},
		{"connections that peek", "", "limited", "silent", []string{"-max-peeking", "1"}, 1, false},
		{"idle", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "relayed", "", []string{"-idle-timeout", "50ms"}, 0, false},
		{"the upstream has ended", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", "relayed", "", []string{"-half-close-timeout", "50ms"}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, append(tt.args, "-hosts", hosts)...)
			for range tt.others {
				c, err := net.Dial("tcp", p.http)
				require.NoError(t, err)
				defer c.Close()
			}
			p.metric(fmt.Sprintf("headgate_router_connections %d", tt.others))
			c, err := net.Dial("tcp", p.http)
			require.NoError(t, err)
			defer c.Close()
			fmt.Fprint(c, tt.send)
			if tt.answered {
				readAll(t, c)
				c.Close()
			}
			p.eventually(func() bool {
				_, body := p.ask("GET", "/metrics")
				return regexp.MustCompile(`connections_total\{outcome="` + tt.outcome + `",protocol="[^"]+"\} 1\n`).MatchString(body)
			}, tt.outcome)
			if tt.reason != "" {
				p.metric(`headgate_router_limited_total{reason="` + tt.reason + `"} 1`)
			}
		})
	}
}

// A client gets a connection although another source has all connections that -max-connections
// allows. The router closes an idle connection of that source. The metric and the log show the
// reason.
func TestIdleSourceMakesRoom(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.http), "-max-connections", "2")
	const request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	ask := func(source string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.Dial("tcp", p.http)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		fmt.Fprint(c, request)
		_, err = bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err)
		return c
	}
	ask("127.0.0.1")
	ask("127.0.0.1")
	ask("127.0.0.2")
	p.metric(`headgate_router_limited_total{reason="idle"} 1`)
	p.eventually(func() bool {
		return strings.Contains(p.stderr.String(), "evicted as the longest idle connection of its source")
	})
	c, err := net.Dial("tcp", p.http)
	require.NoError(t, err)
	defer c.Close()
	p.metric(`headgate_router_limited_total{reason="full"} 1`)
}

// If a client exceeds a limit of its host, it gets a page with the reason.
func TestLimitsOfAHost(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	hosts := hostsFile(t, "*.test", a.http)
	for _, tt := range []struct{ flag, status, reason string }{
		{"-max-connections-per-host", "503", "host"},
		{"-max-rate-per-host", "429", "host_rate"},
	} {
		t.Run(tt.flag, func(t *testing.T) {
			p := start(t, "-hosts", hosts, tt.flag, "1")
			for i := 0; ; i++ { // on a slow machine, each try may be in another second
				c, err := net.Dial("tcp", p.http)
				require.NoError(t, err)
				defer c.Close()
				fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h%d.test\r\n\r\n", i)
				line, err := bufio.NewReader(c).ReadString('\n')
				require.NoError(t, err)
				if i > 0 && strings.Contains(line, tt.status) {
					break
				}
			}
			p.metric(`headgate_router_limited_total{reason="` + tt.reason + `"} 1`)
		})
	}
}

// -max-connections-per-source does not apply to a trusted source.
func TestTrustedSources(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	p := start(t, "-hosts", hostsFile(t, "a.test", a.http), "-max-connections-per-source", "1", "-trusted-sources", "127.0.0.0/8")
	for range 3 {
		c, err := net.Dial("tcp", p.http)
		require.NoError(t, err)
		defer c.Close()
	}
	p.metric("headgate_router_connections 3")
}

func TestMetricsAndLog(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	hosts := hostsFile(t, "a.test", a.http, "b.test", "127.0.0.1:1")
	requests := func(p *process) {
		for range 3 {
			code, _ := get(client(t, p.http, nil), "http://a.test/")
			require.Equal(t, 200, code)
		}
		_, _ = get(client(t, p.http, nil), "http://b.test/")
		for i := range 4 { // names that a client invents must not become labels
			_, _ = get(client(t, p.http, nil), fmt.Sprintf("http://x%d.test/", i))
		}
		c, err := net.Dial("tcp", p.http)
		require.NoError(t, err)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: <b>evil \"quoted\"\r\n\r\n")
		readAll(t, c)
		c.Close()
		p.metric(`headgate_router_connections_total{outcome="rejected",protocol="http/1"} 1`)
	}
	p := start(t, "-hosts", hosts)
	requests(p)
	p.metric(`headgate_router_connections_total{outcome="relayed",protocol="http/1"} 3`)
	p.metric(`headgate_router_connections_total{outcome="dial_failed",protocol="http/1"} 1`)
	p.metric(`headgate_router_connections_total{outcome="not_found",protocol="http/1"} 4`)
	p.metric(`headgate_router_answers_total{code="404",protocol="http/1"} 4`)
	p.metric(`headgate_router_answers_total{code="502",protocol="http/1"} 1`)
	p.metric(`headgate_router_phase_duration_seconds_count{phase="dial"} 4`)
	p.metric(`headgate_router_phase_duration_seconds_count{phase="total"} 9`)
	p.metric(`headgate_router_connections 0`)
	_, metrics := p.ask("GET", "/metrics")
	require.Regexp(t, `headgate_router_bytes_total\{direction="received"\} [1-9]`, metrics)
	require.NotContains(t, metrics, ".test")
	require.NotContains(t, metrics, "evil")
	lines := func(p *process) (n int) { return strings.Count(p.stderr.String(), " msg=connection ") }
	p.eventually(func() bool { return lines(p) == 9 })
	require.Regexp(t, `level=INFO msg=connection id=1 client=127\.0\.0\.1:\d+ listener=\S+ protocol=http/1 outcome=relayed name=a\.test app="App of a\.test" endpoint=\S+ upstream=\S+ level=miss sent=\d+ received=\d+ peek=\S+ (lookup=\S+ )?dial=\S+ total=\S+\n`, p.stderr.String())
	require.Regexp(t, `level=WARN msg=connection id=4 .* outcome=dial_failed name=b\.test .* answer=502 .* phase=dial err=`, p.stderr.String())
	require.Regexp(t, `level=WARN msg=connection .* outcome=rejected raw_name="<b>evil \\"quoted\\"" answer=400 `, p.stderr.String())

	quiet := start(t, "-hosts", hosts, "-log-sample", "0")
	requests(quiet)
	quiet.eventually(func() bool { return lines(quiet) == 6 })
	require.NotContains(t, quiet.stderr.String(), "outcome=relayed")
}

// The JSON lines have the same values as the lines of text, and not numbers of nanoseconds.
func TestLogAsJSON(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	stderr := &clitest.Output{}
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan int, 1)
	args := []string{"-http", "127.0.0.1:0", "-default", a.http, "-allow", "127.0.0.0/8", "-log-format", "json"}
	go func() { exited <- run(ctx, cli.Invocation{Args: args, Stderr: stderr}) }()
	p := &process{t: t, stderr: stderr}
	lines := func() map[string]map[string]any {
		all := map[string]map[string]any{}
		for line := range strings.Lines(stderr.String()) {
			fields := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
			all[fields["msg"].(string)] = fields
		}
		return all
	}
	p.eventually(func() bool { return strings.HasSuffix(stderr.String(), "\n") && lines()["listening"] != nil })
	listening := lines()["listening"]
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, listening["addr"])
	require.Equal(t, "http/1|h2c", listening["protocol"])
	code, body := get(client(t, listening["addr"].(string), nil), "http://a.test/")
	require.Equal(t, 200, code, body)
	cancel()
	require.Equal(t, cli.ExitOK, <-exited)
	require.Equal(t, "1m0s", lines()["draining"]["timeout"])
	for _, field := range []string{"peek", "dial", "total"} {
		_, err := time.ParseDuration(lines()["connection"][field].(string))
		require.NoError(t, err, field)
	}
	require.Equal(t, "http/1", lines()["connection"]["protocol"])
}

func TestStatusPage(t *testing.T) {
	a := newSite(t, "site a", "a.test")
	api := newAPI(t, "a.test", a.http, "b.test", "127.0.0.1:1", "<script>.test", "127.0.0.1:2")
	p := start(t, "-api", api.template(), "-hosts", hostsFile(t, "file.test", "127.0.0.1:3"))
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		_, _ = get(client(t, p.http, nil), "http://"+host+"/")
	}
	open, err := net.Dial("tcp", p.http)
	require.NoError(t, err)
	defer open.Close()
	fmt.Fprint(open, "GET / HTTP/1.1\r\nHost: a.test\r\n") // half a request keeps the connection in the peek phase
	bad, err := net.Dial("tcp", p.http)
	require.NoError(t, err)
	defer bad.Close()
	fmt.Fprint(bad, "GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n")
	readAll(t, bad)
	bad.Close()

	body := ""
	for _, want := range []string{
		"<td>peek<td>",
		`<td>rejected<td>&lt;script&gt;alert(1)&lt;/script&gt;<td class="no">peek: invalid host name: `,
		"<td>file.test<td>App of file.test<td>127.0.0.1:3<td>file",
		"<td>a.test<td>App of a.test<td>" + a.http + "<td>hit<td>",
		`<td>c.test<td><td><span class="no">hostlookup: host not found</span><td>negative`,
		`<td>dial_failed<td>b.test<td class="no">sniproxy: connecting to 127.0.0.1:1: `,
		"<td>127.0.0.1:1<td>127.0.0.1:1<td>miss<td>127.0.0.1:",
		`<td>not_found<td>c.test<td class="no">hostlookup: host not found<td>127.0.0.1:`,
		"1 from the file",
	} {
		p.eventually(func() bool { // the router ends a connection after its client
			_, body = p.ask("GET", "/")
			return strings.Contains(body, want)
		}, want)
	}
	require.NotContains(t, body, "<script>")
	_, body = p.ask("GET", "/?q=b.te")
	require.Contains(t, body, "b.test")
	require.NotContains(t, body, "a.test")
	require.NotContains(t, body, "c.test")
	_, body = p.ask("GET", "/?q=%22%3E%3Cscript%3E")
	require.NotContains(t, body, "<script>")
	code, _ := p.ask("GET", "/other")
	require.Equal(t, 404, code)

	// A page of another site in the operator's browser cannot drain the router.
	bearer := "Bearer " + clitest.Token
	code, _ = p.ask("POST", "/drain", "Authorization", bearer, "Origin", "http://evil.test", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, 403, code)
	// Another program on this machine cannot drain the router without the token.
	code, _ = p.ask("POST", "/drain")
	require.Equal(t, 401, code)
	code, _ = p.ask("GET", "/drain")
	require.Equal(t, 405, code)
	code, _ = p.ask("GET", "/readyz")
	require.Equal(t, 200, code)
}

// The status page has a limited length, even with thousands of hosts and connections.
func TestStatusPageIsBounded(t *testing.T) {
	var pairs []string
	for i := range 5 * maxRows {
		pairs = append(pairs, fmt.Sprintf("h%d.test", i), "10.0.0.1")
	}
	p := start(t, "-hosts", hostsFile(t, pairs...))
	for range maxRows + 50 {
		c, err := net.Dial("tcp", p.http)
		require.NoError(t, err)
		defer c.Close()
	}
	for range keptFaults + 10 {
		_, _ = get(client(t, p.http, nil), "http://nobody.test/")
	}
	p.metric(fmt.Sprintf("headgate_router_connections %d", maxRows+50))
	_, body := p.ask("GET", "/")
	require.Equal(t, maxRows, strings.Count(body, ".test<td>App of "))
	require.Equal(t, maxRows, strings.Count(body, "<td>peek<td>"))
	require.Equal(t, keptFaults, strings.Count(body, `<td>nobody.test<td class="no">`))
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	hosts, broken := write("hosts.json", "[]"), write("broken.json", "{")
	page, missing := write("page.html", "{{.Nothing}}"), filepath.Join(dir, "missing")
	long := write("long.html", strings.Repeat("x", maxPage+1))
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer takenUDP.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	with := func(args ...string) []string {
		return append([]string{"-http", "127.0.0.1:0", "-hosts", hosts}, args...)
	}
	type testCase struct {
		name string
		args []string
		code int
		want string
	}
	tests := []testCase{
		{"nothing given", nil, cli.ExitUsage, "-tls, -http or -quic is needed"},
		{"no source", []string{"-tls", ":443"}, cli.ExitUsage, "-api, -hosts or -default is needed"},
		{"bad API", []string{"-tls", ":443", "-api", "http://api/hosts"}, cli.ExitUsage, "no {host}"},
		{"bad changes", []string{"-tls", ":443", "-api", "http://api/{host}", "-changes", "api"}, cli.ExitUsage, "-changes: "},
		{"changes without API", with("-changes", "http://api/changes"), cli.ExitUsage, "are for -api"},
		{"bad address", with("-tls", "443"), cli.ExitUsage, "-tls: address 443: missing port"},
		{"bad default", with("-default", "10.0.0"), cli.ExitUsage, "-default: "},
		{"bad no-name", with("-no-name", "::1:x"), cli.ExitUsage, "-no-name: "},
		{"bad unknown", with("-unknown-tls", "reject"), cli.ExitUsage, "want alert, close or fallback"},
		{"empty fallback", with("-unknown-tls", "fallback="), cli.ExitUsage, "want alert, close or fallback"},
		{"bad network", with("-allow", "10.0.0.0/33"), cli.ExitUsage, "-allow: "},
		{"IPv4 in IPv6", with("-deny", "::ffff:10.0.0.0/104"), cli.ExitUsage, "-deny: "},
		{"bad version", with("-proxy-protocol-out", "v3"), cli.ExitUsage, "want v1 or v2"},
		{"unknown TLV", with("-proxy-protocol-out", "v2", "-proxy-protocol-tlv", "unique-id"), cli.ExitUsage, "-proxy-protocol-tlv: want authority or alpn"},
		{"TLV in version 1", with("-proxy-protocol-out", "v1", "-proxy-protocol-tlv", "alpn"), cli.ExitUsage, "-proxy-protocol-tlv needs -proxy-protocol-out v2"},
		{"QUIC with required PROXY headers", with("-quic", ":0", "-proxy-protocol-in", "10.0.0.0/8", "-proxy-protocol-required"), cli.ExitUsage, "QUIC has no PROXY header"},
		{"bad QUIC address", with("-quic", "443"), cli.ExitUsage, "-quic: address 443: missing port"},
		{"no QUIC time", with("-quic", ":0", "-quic-idle-timeout", "0"), cli.ExitUsage, "-quic-idle-timeout must be more than 0"},
		{"taken QUIC port", with("-quic", takenUDP.LocalAddr().String()), cli.ExitFailed, "address already in use"},
		{"required without networks", with("-proxy-protocol-required"), cli.ExitUsage, "needs -proxy-protocol-in"},
		{"negative faults", with("-log-faults", "-1"), cli.ExitUsage, "-log-faults must not be negative"},
		{"bad share", with("-log-sample", "2"), cli.ExitUsage, "want a share"},
		{"bad format", with("-log-format", "xml"), cli.ExitUsage, "want text or json"},
		{"large hello", with("-max-hello", "65537"), cli.ExitUsage, "-max-hello"},
		{"no time", with("-dial-timeout", "0"), cli.ExitUsage, "-dial-timeout must be more than 0"},
		{"negative drain", with("-drain-timeout", "-1s"), cli.ExitUsage, "must not be negative"},
		{"half a key pair", with("-api-key", hosts), cli.ExitUsage, "go together"},
		{"page that fails", with("-not-found-page", page), cli.ExitUsage, "Nothing"},
		{"no such page", with("-not-found-page", missing), cli.ExitUsage, "missing"},
		{"long page", with("-not-found-page", long), cli.ExitUsage, "at most 262144 are allowed"},
		{"no such token", []string{"-tls", ":443", "-api", "http://api/{host}", "-api-token-file", missing}, cli.ExitUsage, "-api-token-file: "},
		{"no such authority", []string{"-tls", ":443", "-api", "http://api/{host}", "-api-ca", missing}, cli.ExitUsage, "-api-ca: "},
		{"no authority", []string{"-tls", ":443", "-api", "http://api/{host}", "-api-ca", hosts}, cli.ExitUsage, "no certificate in it"},
		{"no certificate", []string{"-tls", ":443", "-api", "http://api/{host}", "-api-certificate", hosts, "-api-key", hosts}, cli.ExitUsage, "-api-certificate: "},
		{"no such hosts", []string{"-http", "127.0.0.1:0", "-hosts", missing}, cli.ExitFailed, "missing"},
		{"broken hosts", []string{"-http", "127.0.0.1:0", "-hosts", broken}, cli.ExitFailed, "broken.json"},
		{"taken port", with("-tls", taken.Addr().String()), cli.ExitFailed, "address already in use"},
		{"taken admin port", with("-admin", taken.Addr().String()), cli.ExitFailed, "address already in use"},
		{"drain without address", []string{"drain"}, cli.ExitUsage, "-admin is needed"},
		{"drain at no address", []string{"drain", "-admin", "here"}, cli.ExitUsage, "-admin: "},
		{"drain where none listens", []string{"drain", "-admin", "127.0.0.1:1"}, cli.ExitFailed, "refused"},
		{"drain of another server", []string{"drain", "-admin", otherServer(t)}, cli.ExitFailed, "404"},
	}
	fifo, huge := filepath.Join(dir, "fifo"), write("huge", "")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Truncate(huge, 1<<40))
	api := []string{"-api", "http://api/{host}"}
	for _, tt := range []testCase{
		{"-hosts", nil, cli.ExitFailed, ""},
		{"-not-found-page", with(), cli.ExitUsage, ""},
		{"-config", nil, cli.ExitUsage, ""},
		{"-api-token-file", api, cli.ExitUsage, ""},
		{"-api-ca", api, cli.ExitUsage, ""},
		{"-api-certificate", append(api, "-api-key", hosts), cli.ExitUsage, ""},
		{"-admin-token-file", with("-admin", "127.0.0.1:0"), cli.ExitFailed, ""},
	} {
		for file, want := range map[string]string{fifo: "a FIFO, not a regular file", huge: "1099511627776 bytes, and at most "} {
			args := append([]string{"-http", "127.0.0.1:0", tt.name, file}, tt.args...)
			tests = append(tests, testCase{tt.name + " " + filepath.Base(file), args, tt.code, file + ": " + want})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stderr := &clitest.Output{}
			code := run(t.Context(), cli.Invocation{Args: tt.args, Stdout: stderr, Stderr: stderr})
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr.String(), tt.want)
		})
	}
}

func otherServer(t *testing.T) string {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}
