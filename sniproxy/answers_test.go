package sniproxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"html/template"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// closedPort returns an address on which nobody listens until the test ends.
func closedPort(t *testing.T) string {
	t.Helper()
	port, release, err := freeport.Hold("127.0.0.1", 0)
	require.NoError(t, err)
	t.Cleanup(release)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// An HTTP/1 client gets a page for every refusal.
func TestHTTPAnswers(t *testing.T) {
	large := strings.Repeat("x", peek.MaxBytes)
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hostlookup.Chain(hosts{
			"refused.example":  closedPort(t),
			"strange.example":  "10.0.0.1:http",
			"metadata.example": "169.254.169.254:80",
		}, failing{"down.example"}))
		front := r.serve(peek.HTTP1)
		tlsFront := r.serve(peek.TLS)
		impatient := newRouter(t, e, hosts{}, func(s *sniproxy.Server) { s.HelloTimeout = 300 * time.Millisecond })
		impatient.finished = r.finished
		impatientFront := impatient.serve(peek.HTTP1)
		for name, tt := range map[string]struct {
			front, sent string
			status      int
			outcome     sniproxy.Outcome
			err         error
		}{
			"unknown host":              {front, "GET / HTTP/1.1\r\nHost: none.example\r\n\r\n", 404, sniproxy.NotFound, hostlookup.ErrNotFound},
			"lookup fails":              {front, "GET / HTTP/1.1\r\nHost: down.example\r\n\r\n", 503, sniproxy.LookupFailed, errDown},
			"lookup answers badly":      {front, "GET / HTTP/1.1\r\nHost: strange.example\r\n\r\n", 503, sniproxy.LookupFailed, nil},
			"connection refused":        {front, "GET / HTTP/1.1\r\nHost: refused.example\r\n\r\n", 502, sniproxy.DialFailed, nil},
			"forbidden address":         {front, "GET / HTTP/1.1\r\nHost: metadata.example\r\n\r\n", 502, sniproxy.DialFailed, sniproxy.ErrForbidden},
			"no host":                   {front, "GET / HTTP/1.0\r\n\r\n", 400, sniproxy.NotFound, peek.ErrNoName},
			"two hosts":                 {front, "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", 400, sniproxy.Rejected, peek.ErrMalformed},
			"folded line":               {front, "GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n", 400, sniproxy.Rejected, peek.ErrMalformed},
			"address as a host":         {front, "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 400, sniproxy.Rejected, peek.ErrIPLiteral},
			"NUL in the host":           {front, "GET / HTTP/1.1\r\nHost: a\x00.example\r\n\r\n", 400, sniproxy.Rejected, nil},
			"head too large":            {front, "GET / HTTP/1.1\r\nX: " + large, 431, sniproxy.Rejected, peek.ErrTooLarge},
			"half a head, then silence": {impatientFront, "GET / HTTP/1.1\r\nHos", 408, sniproxy.TimedOut, nil},
			"half a head, then the end": {front, "GET / HTTP/1.1\r\nHos\x00END", 400, sniproxy.Rejected, io.ErrUnexpectedEOF},
			"HTTP on a port for TLS":    {tlsFront, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, sniproxy.Rejected, peek.ErrNotTLS},
		} {
			t.Run(name, func(t *testing.T) {
				ask := func() (*net.TCPConn, *bufio.Reader) {
					c := dial(t, tt.front)
					sent, end := strings.CutSuffix(tt.sent, "\x00END")
					_, err := io.WriteString(c, sent)
					require.NoError(t, err)
					if end {
						require.NoError(t, c.CloseWrite())
					}
					return c, bufio.NewReader(c)
				}
				c, in := ask()
				// On a busy machine, the router may read the half head after the timeout. It then sends no
				// answer.
				for end := time.Now().Add(patience); tt.front == impatientFront && time.Now().Before(end); c, in = ask() {
					if _, err := in.Peek(1); err == nil {
						break
					}
					c.Close()
					r.next()
				}
				resp, err := http.ReadResponse(in, nil)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				_, err = in.ReadByte()
				require.ErrorIs(t, err, io.EOF, "an orderly end, no reset")
				c.Close()
				require.Equal(t, tt.status, resp.StatusCode)
				require.Contains(t, string(body), http.StatusText(tt.status))
				require.True(t, resp.Close)
				require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
				require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
				require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
				require.EqualValues(t, len(body), resp.ContentLength)
				_, err = http.ParseTime(resp.Header.Get("Date"))
				require.NoError(t, err)
				require.Equal(t, tt.status == 503, resp.Header.Get("Retry-After") != "")

				st := r.next()
				require.Equal(t, tt.status, st.Answer)
				require.Equal(t, tt.outcome, st.Outcome)
				require.Error(t, st.Err)
				if tt.err != nil {
					require.ErrorIs(t, st.Err, tt.err)
				}
				require.Positive(t, st.ToClient)
			})
		}
	})
}

// The client is still sending when the Server answers. An immediate close would send RST, and the
// client would lose the answer.
func TestAnswerReachesAClientThatIsStillSending(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hosts{})
		front := r.serve(0)
		var c *net.TCPConn
		for { // on a busy machine, the client may need longer than the 2 s that the router waits for its end
			c = dial(t, front)
			began := time.Now()
			_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: none.example\r\nContent-Length: 8000000\r\n\r\n")
			require.NoError(t, err)
			if _, err = c.Write(make([]byte, 8_000_000)); err == nil {
				err = c.CloseWrite()
			}
			if err == nil {
				break
			}
			require.Greater(t, time.Since(began), 1900*time.Millisecond, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.Equal(t, 404, resp.StatusCode)
	})
}

func TestHEADHasTheLengthAndNoBody(t *testing.T) {
	r := newRouter(t, native, hosts{})
	front := r.serve(0)
	ask := func(method string) (length int64, all []byte) {
		c := dial(t, front)
		_, err := io.WriteString(c, method+" / HTTP/1.1\r\nHost: none.example\r\n\r\n")
		require.NoError(t, err)
		all, err = io.ReadAll(c)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), &http.Request{Method: method})
		require.NoError(t, err)
		return resp.ContentLength, all
	}
	get, _ := ask("GET")
	head, all := ask("HEAD")
	require.Equal(t, get, head)
	require.True(t, bytes.HasSuffix(all, []byte("\r\n\r\n")), "%q", all)
}

func TestPageIsATemplateAndEscapes(t *testing.T) {
	page := func(text string) func(*sniproxy.Server) {
		return func(s *sniproxy.Server) { s.Page = template.Must(template.New("").Parse(text)) }
	}
	body := func(t *testing.T, set func(*sniproxy.Server)) string {
		r := newRouter(t, native, hosts{"a.example": closedPort(t)}, set)
		c := dial(t, r.serve(0))
		_, err := io.WriteString(c, "GET /<b> HTTP/1.1\r\nHost: a.example\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, "502 Bad Gateway a.example app of a.example",
		body(t, page("{{.Status}} {{.Text}} {{.Host}} {{.App}}")))
	require.Equal(t, "502 Bad Gateway\n", body(t, page("{{.Nothing}}")), "a template that fails")
	require.Equal(t, "502 Bad Gateway\n", body(t, page(`{{range 2000000}}x{{end}}`)), "one without end")
}

// A TLS client gets an alert for every refusal.
func TestTLSAlerts(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		r := newRouter(t, e, hostlookup.Chain(hosts{
			"refused.example": closedPort(t),
		}, failing{"down.example"}))
		front, httpFront := r.serve(peek.TLS), r.serve(peek.HTTP1)
		hello := func(name string) []byte { return hellotest.Hello{Name: name, Versions: []uint16{0x0304}}.Wire() }
		broken := hello("a.example")
		broken[len(broken)-4]++ // a wrong length
		for name, tt := range map[string]struct {
			front   string
			hello   []byte
			alert   byte
			outcome sniproxy.Outcome
		}{
			"unknown host":           {front, hello("none.example"), 112, sniproxy.NotFound},
			"lookup fails":           {front, hello("down.example"), 80, sniproxy.LookupFailed},
			"connection refused":     {front, hello("refused.example"), 80, sniproxy.DialFailed},
			"no name":                {front, hello(""), 109, sniproxy.NotFound},
			"malformed":              {front, broken, 50, sniproxy.Rejected},
			"too large":              {front, hellotest.Hello{Name: "a.example", Pad: 65_520}.Wire(), 50, sniproxy.Rejected},
			"UTF-8":                  {front, hello("b\xc3\xbccher.example"), 112, sniproxy.Rejected},
			"control character":      {front, hello("a\x00.example"), 112, sniproxy.Rejected},
			"TLS on a port for HTTP": {httpFront, hello("a.example"), 40, sniproxy.Rejected},
		} {
			t.Run(name, func(t *testing.T) {
				c := dial(t, tt.front)
				_, err := c.Write(tt.hello)
				require.NoError(t, err)
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				require.Equal(t, []byte{21, 3, 3, 0, 2, 2, tt.alert}, got)
				c.Close()
				st := r.next()
				require.EqualValues(t, tt.alert, st.Answer)
				require.Equal(t, tt.outcome, st.Outcome)
				require.Error(t, st.Err)
			})
		}
	})
}

func TestGoClientSeesTheAlert(t *testing.T) {
	r := newRouter(t, native, hosts{})
	front := r.serve(0)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := dial(t, front)
		err := tls.Client(c, &tls.Config{ServerName: "none.example", MaxVersion: version}).Handshake()
		require.NoError(t, c.Close())
		require.ErrorContains(t, err, "remote error: tls: unrecognized name")
		require.EqualValues(t, version, r.next().TLSVersion)
	}
}

func TestUnknownTLSHostIsClosedOrFallsBack(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		other := newTLSBackend(t, "fallback.example", "*.example")
		bare := newSink(t)
		hello := hellotest.Hello{}.Wire()
		t.Run("closed", func(t *testing.T) {
			r := newRouter(t, e, hosts{}, func(s *sniproxy.Server) { s.CloseUnknownTLS = true })
			front := r.serve(0)
			for _, name := range []string{"none.example", ""} {
				c := dial(t, front)
				_, err := c.Write(hellotest.Hello{Name: name}.Wire())
				require.NoError(t, err)
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				require.Empty(t, got)
				st := r.next()
				require.Equal(t, sniproxy.NotFound, st.Outcome)
				require.Zero(t, st.Answer)
			}
		})
		t.Run("fallback", func(t *testing.T) {
			r := newRouter(t, e, failing{"down.example"}, func(s *sniproxy.Server) {
				s.Fallback = hostlookup.Endpoint{Addr: other.addr}
				s.NoName = hostlookup.Endpoint{Addr: bare.addr}
			})
			front := r.serve(0)
			require.Equal(t, "fallback.example: x", tlsTalk(t, front, &tls.Config{ServerName: "none.example"}, "x"))
			st := r.next()
			require.True(t, st.Fallback)
			require.Equal(t, "none.example", st.Name)
			require.Equal(t, other.addr, st.Upstream.String())

			// A well-formed hello without a name.
			c := dial(t, front)
			_, err := c.Write(hello)
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, sum(hello), string(got))
			require.True(t, r.next().Fallback)

			// The Server must not treat a failed lookup as ErrNotFound, or a malformed hello as a
			// hello without a name.
			for _, b := range [][]byte{
				hellotest.Hello{Name: "down.example"}.Wire(),
				hellotest.Hello{Name: "192.0.2.1"}.Wire(),
				hellotest.Hello{Name: "none..example"}.Wire(),
				hellotest.Hello{Extensions: []hellotest.Extension{{Type: 0, Body: []byte{0, 5}}}}.Wire(),
				[]byte("SSH-2.0-OpenSSH_9.9\r\n"),
			} {
				c := dial(t, front)
				_, err := c.Write(b)
				require.NoError(t, err)
				require.NoError(t, c.CloseWrite())
				_, err = io.ReadAll(c)
				require.NoError(t, err)
				require.NoError(t, c.Close())
				st := r.next()
				require.False(t, st.Fallback)
				require.Zero(t, st.Dials)
				require.Error(t, st.Err)
			}
		})
	})
}
