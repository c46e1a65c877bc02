package headgate_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
	"github.com/headgate/headgate/sniproxy/peek"
)

var (
	label63 = strings.Repeat("a", 63)
	name253 = strings.Repeat("abcdefgh.", 28) + "a"
)

// hosts are inputs, each with the normal form that every entrance must compute. An entrance is a
// place where a host name enters headgate; TestHostNames lists all of them. normal is "" if every
// entrance must refuse the input. An entrance may refuse further inputs only because of its
// protocol: requests have no wildcards, and a ClientHello has no port and no character outside
// ASCII.
var hosts = []struct{ host, normal string }{
	{"a.example", "a.example"},
	{"A.Example", "a.example"},
	{"a.example.", "a.example"},
	{"a.example..", ""},
	{"a.example:8080", "a.example"},
	{"a.example:0080", "a.example"},
	{"a.example:", "a.example"},
	{"a.example:0", ""},
	{"a.example:99999", ""},
	{"a.example:http", ""},
	{"a.example:80:80", ""},
	{"a.example.:8080", "a.example"},
	{"bücher.example", "xn--bcher-kva.example"},
	{"BÜCHER.example", "xn--bcher-kva.example"},
	{"bu\u0308cher.example", "xn--bcher-kva.example"},
	{"bücher.example.:8080", "xn--bcher-kva.example"},
	{"ab--bücher.example", "xn--ab--bcher-u9a.example"},
	{"ab--c.example", "ab--c.example"},
	{"r3---sn-x.example", "r3---sn-x.example"},
	{"xn--bcher-kva.example", "xn--bcher-kva.example"},
	{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
	{"xn--zzzzzz99.example", "xn--zzzzzz99.example"},
	{"xn--a.example", "xn--a.example"},
	{"xn--.example", ""},
	{"straße.example", "xn--strae-oqa.example"},
	{"a_b.example", "a_b.example"},
	{"_dmarc.example", "_dmarc.example"},
	{"_.example", "_.example"},
	{"bücher_x.example", "xn--bcher_x-n2a.example"},
	{"xn--bcher_x-n2a.example", "xn--bcher_x-n2a.example"},
	{"a。example", "a.example"},
	{"ａ.example", "a.example"},
	{"１２７.1", ""},
	{"٣.example", ""},
	{"a\u200db.example", ""},
	{"a\u00adb.example", "ab.example"},
	{"-a.example", ""},
	{"a-.example", ""},
	{"*.example", "*.example"},
	{"*.bücher.example", "*.xn--bcher-kva.example"},
	{"*.a_b.example", "*.a_b.example"},
	{"*.xn--zzzzzz99.example", "*.xn--zzzzzz99.example"},
	{"*.a.example:8080", "*.a.example"},
	{"*.a.example.", "*.a.example"},
	{"*.127.1", ""},
	{"*", ""},
	{"*.", ""},
	{"*.*.example", ""},
	{"a*.example", ""},
	{"1.2.3.4", ""},
	{"1.2.3.4:80", ""},
	{"127.1", ""},
	{"a.0x7f", ""},
	{"a.0X7F", ""},
	{"0x7f000001", ""},
	{"a.1", ""},
	{"1.a", "1.a"},
	{"0x7f.a", "0x7f.a"},
	{"[::1]", ""},
	{"[::1]:80", ""},
	{"::1", ""},
	{"a..example", ""},
	{".a.example", ""},
	{"", ""},
	{".", ""},
	{":80", ""},
	{"localhost", "localhost"},
	{"a b.example", ""},
	{"a\tb.example", ""},
	{"a\x00.example", ""},
	{"a\x7f.example", ""},
	{"a%62.example", ""},
	{"user@a.example", ""},
	{"https://a.example", ""},
	{"a.example/x", ""},
	{label63 + ".example", label63 + ".example"},
	{label63 + "a.example", ""},
	{name253, name253},
	{name253 + ".", name253},
	{name253 + "a", ""},
	{"*." + name253, ""},
	{"*." + name253[2:], "*." + name253[2:]},
}

// TestHostNames passes every host to every entrance: declarations, the hosts file, the client and
// the server of the host API, a ClientHello, and the requests of HTTP/1.1 and HTTP/2. All entrances
// must agree on its normal form. After that, a request for each accepted host must find the route
// of the host, its entry of the hosts file, and its endpoint in the host API.
func TestHostNames(t *testing.T) {
	for _, c := range hosts {
		t.Run(fmt.Sprintf("%.40q", c.host), func(t *testing.T) {
			table, found := declare(t, c.host)
			require.Equal(t, c.normal, found, "routes.yaml")
			known, found := hostsFile(t, c.host)
			require.Equal(t, c.normal, found, "hosts file")
			found, err := newHosts(c.host)
			require.Equal(t, c.normal, found, "NewHosts: %v", err)

			requested := c.normal
			if strings.HasPrefix(requested, "*") {
				requested = ""
			}
			require.Equal(t, requested, request(t, http1(c.host)), "Host header")
			require.Equal(t, requested, request(t, http2Headers(t, c.host)), "HTTP/2 authority")
			named := requested
			if strings.ContainsFunc(c.host, func(r rune) bool { return r == ':' || r > 0x7f }) {
				named = ""
			}
			require.Equal(t, named, request(t, clientHello(c.host)), "ClientHello")

			api := serve(t, known)
			if c.normal == "" {
				_, err := api.LookupHost(t.Context(), c.host)
				require.ErrorIs(t, err, hostlookup.ErrNotFound, "host API")
				return
			}
			if requested != "" {
				answer, err := api.LookupHost(t.Context(), c.host)
				if len(c.host) <= 253 { // the client asks only about names that can be hosts
					require.NoError(t, err, "host API")
					require.Equal(t, c.normal, answer.Host)
				}
			}
			reach(t, c.normal, table, known, api)
		})
	}
}

// reach makes requests for a declared host, or for a name that the declared wildcard covers, as
// clients do.
func reach(t *testing.T, normal string, table routes.Table, known *hostlookup.Hosts, api *httpapi.Client) {
	name := strings.Replace(normal, "*", "x", 1)
	for _, hello := range [][]byte{clientHello(name), clientHello(strings.ToUpper(name)), http1(name), http1(name + ":8443"), http2Headers(t, name)} {
		name := request(t, hello)
		route, ok := table.Match(name, "/")
		require.True(t, ok)
		require.Equal(t, normal, route.Host)
		answer, err := known.LookupHost(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, normal, answer.Host)
		answer, err = api.LookupHost(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, normal, answer.Host)
	}
	config, problems := edge.Edge{HTTP: []haproxycfg.Bind{{Address: ":80"}}}.Config(table, nil)
	require.Len(t, problems, 1, "there is no Upstream")
	require.NoError(t, config.Validate())
	require.Contains(t, config.Maps[2].Entries, haproxycfg.MapEntry{Key: normal, Value: normal})
}

// declare returns the table of one declared host, and the normal form.
func declare(t *testing.T, host string) (routes.Table, string) {
	quoted, err := json.Marshal(host)
	require.NoError(t, err)
	table, problems := routes.Parse("r", fmt.Appendf(nil,
		`{"routes": [{"host": %s, "backends": [{"cluster": "c", "namespace": "n", "service": "s", "port": 80}]}]}`, quoted))
	if len(problems) > 0 {
		require.Empty(t, table.Routes())
		return table, ""
	}
	again, problems := routes.Parse("again", routes.AppendYAML(nil, table))
	require.Empty(t, problems)
	require.Equal(t, table.Hosts(), again.Hosts())
	return table, table.Routes()[0].Host
}

func hostsFile(t *testing.T, host string) (*hostlookup.Hosts, string) {
	quoted, err := json.Marshal(host)
	require.NoError(t, err)
	known, problems, err := hostlookup.ParseHosts("h", fmt.Appendf(nil, `[{"app": "a", "host": %s, "endpoint": "127.0.0.1"}]`, quoted))
	require.NoError(t, err)
	require.Equal(t, 1, known.Len()+len(problems))
	for normal := range known.All() {
		return known, normal
	}
	return known, ""
}

func newHosts(host string) (string, error) {
	known, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{host: {Addr: "127.0.0.1"}})
	if err != nil {
		return "", err
	}
	for normal := range known.All() {
		return normal, nil
	}
	return "", io.ErrUnexpectedEOF
}

// serve returns a client of a host API that serves the hosts.
func serve(t *testing.T, known *hostlookup.Hosts) *httpapi.Client {
	var api httpapi.Handler
	_, err := api.Publish(known)
	require.NoError(t, err)
	server := httptest.NewServer(&api)
	t.Cleanup(server.Close)
	return &httpapi.Client{URL: server.URL + "/hosts/{host}"}
}

// request returns the host name in the first bytes of a connection, or "" if package peek refuses
// the bytes.
func request(t *testing.T, b []byte) string {
	var p peek.Parser
	result, err := p.Parse(b)
	if err != nil {
		require.NotErrorIs(t, err, peek.ErrNeedMore)
		return ""
	}
	return result.Name
}

func http1(host string) []byte { return []byte("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n") }

func http2Headers(t *testing.T, authority string) []byte {
	var fields, out bytes.Buffer
	enc := hpack.NewEncoder(&fields)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: authority}} {
		require.NoError(t, enc.WriteField(f))
	}
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	require.NoError(t, framer.WriteSettings())
	require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields.Bytes(), EndHeaders: true, EndStream: true}))
	return out.Bytes()
}

// clientHello returns a ClientHello with one extension, the server name. Package crypto/tls would
// change the name.
func clientHello(name string) []byte {
	sized := func(size int, b []byte) []byte { // b, and before it the length of b in a field of the given size
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b)))[4-size:], b...)
	}
	entry := append([]byte{0}, sized(2, []byte(name))...) // host_name
	extension := append([]byte{0, 0}, sized(2, sized(2, entry))...)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)             // no session
	body = append(body, 0, 2, 0x13, 1) // one cipher suite
	body = append(body, 1, 0)          // no compression
	body = append(body, sized(2, extension)...)
	message := append([]byte{1}, sized(3, body)...)
	return append([]byte{22, 3, 1}, sized(2, message)...)
}

// TestHostNamesOfFeeds checks that a host API may report a changed host in every spelling. The
// cache that follows the API must drop its answer for the host.
func TestHostNamesOfFeeds(t *testing.T) {
	for _, c := range hosts {
		if c.host == "" { // That means every host.
			continue
		}
		t.Run(fmt.Sprintf("%.40q", c.host), func(t *testing.T) {
			quoted, err := json.Marshal(c.host)
			require.NoError(t, err)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"version": "1", "changes": [{"host": %s, "endpoint": "127.0.0.2"}]}`, quoted)
			}))
			defer server.Close()
			var reported hostlookup.Change
			for change, err := range (&httpapi.Feed{URL: server.URL}).Changes(t.Context()) {
				require.NoError(t, err)
				reported = change
				break
			}
			if c.normal == "" {
				require.Empty(t, reported.Endpoint)
				return
			}
			require.Equal(t, c.normal, reported.Host)
			if strings.HasPrefix(c.normal, "*") {
				require.Empty(t, reported.Endpoint, "a cache holds no wildcards")
			} else {
				require.Equal(t, c.normal, reported.Endpoint.Host)
			}
		})
	}
}

// TestEndpointNames checks that the name of an endpoint has the same normal form as a host, except
// that it keeps a final dot.
func TestEndpointNames(t *testing.T) {
	for _, c := range hosts {
		if strings.Contains(c.host, ":") || strings.HasPrefix(c.host, "*") || c.host == "1.2.3.4" {
			continue // The port and the address are part of an endpoint.
		}
		want := ""
		if c.normal != "" {
			want = c.normal + ":443"
			if strings.HasSuffix(c.host, ".") {
				want = c.normal + ".:443" // The resolver then skips its search domains.
			}
		}
		got, err := hostlookup.Endpoint{Addr: c.host}.DialAddr(443)
		require.Equal(t, want, got, "%q: %v", c.host, err)
	}
}
