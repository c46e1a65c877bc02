package sniproxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// h2Request returns the first bytes of a cleartext HTTP/2 connection with one request.
func h2Request(t *testing.T, authority string, settings ...http2.Setting) []byte {
	t.Helper()
	var b, block bytes.Buffer
	b.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&b, nil)
	require.NoError(t, fr.WriteSettings(settings...))
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", authority}} {
		require.NoError(t, enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 5, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	}))
	return b.Bytes()
}

// h2Client returns a client for cleartext HTTP/2.
func h2Client(addr string) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}
}

func TestHTTP2IsRoutedAndAnswered(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		srv := &http.Server{
			Protocols: protocols,
			Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+" "+r.Host) }),
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go srv.Serve(l)
		defer srv.Close()

		r := newRouter(t, e, hostlookup.Chain(hosts{"a.example": l.Addr().String()}, failing{"down.example"}))
		front := r.serve(peek.HTTP1 | peek.HTTP2)
		for _, method := range []string{"GET", "HEAD", "POST"} {
			for _, tt := range []struct {
				host   string
				status int
				text   string
			}{
				{"a.example", 200, "HTTP/2.0 a.example"},
				{"none.example", 404, "none.example"},
				{"down.example", 503, "try again"},
			} {
				t.Run(method+" "+tt.host, func(t *testing.T) {
					client := h2Client(front)
					defer client.CloseIdleConnections()
					var body io.Reader
					if method == "POST" {
						body = strings.NewReader(strings.Repeat("x", 100_000))
					}
					req, err := http.NewRequest(method, "http://"+tt.host+"/", body)
					require.NoError(t, err)
					resp, err := client.RoundTrip(req)
					require.NoError(t, err)
					got, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					resp.Body.Close()
					require.Equal(t, tt.status, resp.StatusCode)
					if method != "HEAD" {
						require.Contains(t, string(got), tt.text)
					} else {
						require.Empty(t, got)
					}
					client.CloseIdleConnections()
					st := r.next()
					require.Equal(t, tt.host, st.Name)
					require.Equal(t, peek.HTTP2, st.Protocol)
				})
			}
		}
	})
}

// This test reads the frames of an answer one by one.
func TestHTTP2AnswerInFrames(t *testing.T) {
	r := newRouter(t, native, hosts{})
	front := r.serve(0)
	ask := func(opening []byte) (frames []http2.FrameHeader, data []byte) {
		c := dial(t, front)
		_, err := c.Write(opening)
		require.NoError(t, err)
		fr := http2.NewFramer(nil, c)
		for {
			f, err := fr.ReadFrame()
			if err == io.EOF {
				require.NoError(t, c.Close())
				return frames, data
			}
			require.NoError(t, err)
			frames = append(frames, f.Header())
			if d, ok := f.(*http2.DataFrame); ok {
				data = append(data, d.Data()...)
			}
		}
	}
	types := func(frames []http2.FrameHeader) (types []string) {
		for _, f := range frames {
			types = append(types, f.Type.String())
		}
		return types
	}

	frames, data := ask(h2Request(t, "none.example"))
	require.Equal(t, []string{"SETTINGS", "SETTINGS", "HEADERS", "DATA", "GOAWAY"}, types(frames))
	require.EqualValues(t, 5, frames[2].StreamID)
	require.True(t, frames[3].Flags.Has(http2.FlagDataEndStream))
	require.Contains(t, string(data), "404 Not Found")
	require.Equal(t, 404, r.next().Answer)

	// A client with a small window gets the status without a body.
	frames, _ = ask(h2Request(t, "none.example", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}))
	require.Equal(t, []string{"SETTINGS", "SETTINGS", "HEADERS", "GOAWAY"}, types(frames))
	require.True(t, frames[2].Flags.Has(http2.FlagHeadersEndStream))
	require.Equal(t, 404, r.next().Answer)

	// A client that begins with a wrong frame gets SETTINGS and GOAWAY only.
	frames, _ = ask([]byte(http2.ClientPreface + "\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	require.Equal(t, []string{"SETTINGS", "GOAWAY"}, types(frames))
	require.Equal(t, sniproxy.Rejected, r.next().Outcome)
}
