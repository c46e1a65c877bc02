package frontproxy_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

// frame returns a gRPC message: a flag, the length in four bytes, and the text.
func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...)
}

// readFrame reads a gRPC message. It returns io.EOF after the last one.
func readFrame(r io.Reader) (string, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	text := make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err := io.ReadFull(r, text)
	return string(text), err
}

// streams serves the three kinds of gRPC streams. Each ends with the status 0 in the trailers.
func streams(_ int, w http.ResponseWriter, r *http.Request) {
	send := func(text string) {
		_, _ = w.Write(frame(text))
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	var last error
	switch r.URL.Path {
	case "/test.Streams/Client": // many messages, one answer
		var all []string
		for last == nil {
			var text string
			if text, last = readFrame(r.Body); last == nil {
				all = append(all, text)
			}
		}
		send(strings.Join(all, ","))
	case "/test.Streams/Server": // one message, many answers
		var text string
		if text, last = readFrame(r.Body); last == nil {
			for i := range 3 {
				send(fmt.Sprint(text, i))
			}
			last = io.EOF
		}
	case "/test.Streams/Both":
		for last == nil {
			var text string
			if text, last = readFrame(r.Body); last == nil {
				send("echo " + text)
			}
		}
	}
	if last == io.EOF {
		w.Header().Set("Grpc-Status", "0")
	} else {
		w.Header().Set("Grpc-Status", "1") // cancelled
	}
}

// stream is a gRPC call through the front proxy.
type stream struct {
	t    *testing.T
	out  *io.PipeWriter
	resp *http.Response
	head chan *http.Response
}

func (r *running) stream(t *testing.T, client *http.Client, method string) *stream {
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/test.Streams/"+method, in)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	s := &stream{t: t, out: out, head: make(chan *http.Response, 1)}
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
		}
		s.head <- resp
	}()
	t.Cleanup(func() { _ = out.Close() })
	return s
}

func (s *stream) send(text string) {
	s.t.Helper()
	_, err := s.out.Write(frame(text))
	require.NoError(s.t, err)
}

func (s *stream) receive() (string, error) {
	s.t.Helper()
	if s.resp == nil {
		s.resp = <-s.head
		require.NotNil(s.t, s.resp)
		require.Equal(s.t, http.StatusOK, s.resp.StatusCode)
		s.t.Cleanup(func() { _ = s.resp.Body.Close() })
	}
	return readFrame(s.resp.Body)
}

func (s *stream) receives(texts ...string) {
	s.t.Helper()
	for _, want := range texts {
		got, err := s.receive()
		require.NoError(s.t, err)
		require.Equal(s.t, want, got)
	}
}

// ends closes the direction of the client, and requires a complete answer.
func (s *stream) ends() {
	s.t.Helper()
	require.NoError(s.t, s.out.Close())
	_, err := s.receive()
	require.ErrorIs(s.t, err, io.EOF)
	require.Equal(s.t, "0", s.resp.Trailer.Get("Grpc-Status"))
}

func TestTimeoutsOfSilentStreams(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		settings       frontproxy.Settings
		server, client time.Duration // 0 means the default of haproxycfg
	}{
		"http1":              {frontproxy.Settings{}, 15 * time.Second, 0},
		"h2c":                {frontproxy.Settings{Protocol: haproxycfg.H2C}, 15 * time.Second, 0},
		"grpc":               {frontproxy.Settings{Protocol: haproxycfg.GRPC}, time.Hour, time.Hour},
		"grpc with a server": {frontproxy.Settings{Protocol: haproxycfg.GRPC, Server: time.Minute}, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			p := frontproxy.Proxy{Service: "ns.web", Zone: "a", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:80"}}, Settings: tc.settings}
			c, _, err := p.Config(nil, 0, nil)
			require.NoError(t, err)
			require.Equal(t, tc.server, c.Defaults.Server)
			require.Equal(t, tc.client, c.Defaults.Client)
		})
	}
}

// TestGRPCStreams: messages of all kinds of gRPC streams arrive one by one. If a stream is open
// when a drain begins, it continues to its end, even after HAProxy has closed its listeners.
func TestGRPCStreams(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		pods := servePods(t, 2, "a", true, streams)
		settings := frontproxy.Settings{Protocol: haproxycfg.GRPC, Grace: -1}
		f := h.start(t, frontproxy.Proxy{Settings: settings}, pods.pods, 2)
		client := h2cClient(t)

		one := f.stream(t, client, "Client")
		for _, text := range []string{"a", "b", "c"} {
			one.send(text)
		}
		require.NoError(t, one.out.Close())
		one.receives("a,b,c")
		one.ends()

		one = f.stream(t, client, "Server")
		one.send("x")
		one.receives("x0", "x1", "x2")
		one.ends()

		open := make([]*stream, 4)
		for i := range open {
			open[i] = f.stream(t, client, "Both")
			open[i].send("before")
			open[i].receives("echo before")
		}
		// The drain of the front proxy: first a variable, then SIGUSR1.
		require.NoError(t, f.socket.SetVariable(t.Context(), frontproxy.Draining, 1))
		for _, s := range open {
			s.send("during the drain")
			s.receives("echo during the drain")
		}
		f.process.SoftStop()
		eventually(t, "HAProxy closes its listeners", func() bool {
			nc, err := net.DialTimeout("tcp", strings.TrimPrefix(f.url, "http://"), time.Second)
			if err == nil {
				_ = nc.Close()
			}
			return err != nil
		})
		for _, s := range open {
			s.send("after the listeners")
			s.receives("echo after the listeners")
			s.ends()
		}
		client.CloseIdleConnections()
		select {
		case <-f.process.Done():
		case <-time.After(time.Minute):
			t.Error("HAProxy does not end after the last stream")
		}
	})
}
