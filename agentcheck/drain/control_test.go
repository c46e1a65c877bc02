package drain_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck/drain"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

func ask(c drain.Control, method, target string, header ...string) (int, string) {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "[::ffff:127.0.0.1]:4000"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := true
		d := &drain.Drainer{
			Settings: drain.Settings{Delay: 2 * time.Second, Timeout: 3 * time.Second},
			Count: func() drain.Load {
				if open {
					return drain.Load{Connections: 1}
				}
				return drain.Load{}
			},
		}
		c := drain.Control{Drainer: d, Allow: drain.AllowFrom(drain.Loopback()...), AllowGET: true}
		requireAnswer := func(code int, body, method, target string) {
			t.Helper()
			gotCode, got := ask(c, method, target)
			require.Equal(t, body, got)
			require.Equal(t, code, gotCode)
		}
		requireAnswer(200, "serving 1 connection, 0 requests", "GET", "/drain")
		requireAnswer(200, "there was no drain", "DELETE", "/drain")
		requireAnswer(400, "wait=soon: want a duration such as 5s", "POST", "/drain?wait=soon")
		require.Equal(t, drain.Serving, d.Progress().State)
		requireAnswer(202, "draining, serves new requests for 2s more; 1 connection, 0 requests; at most 5s more", "POST", "/drain?wait=0s")
		requireAnswer(202, "draining, serves new requests for 1s more; 1 connection, 0 requests; at most 4s more", "POST", "/drain?wait=1s")
		requireAnswer(200, "the drain since 2000-01-01T00:00:00Z has ended", "POST", "/drain?undo")
		requireAnswer(504, "the timeout is over; still open: 1 connection, 0 requests", "GET", "/drain?begin")
		requireAnswer(200, "the drain since 2000-01-01T00:00:01Z has ended", "DELETE", "/drain")
		requireAnswer(200, strings.Join([]string{
			"draining, serves new requests for 1s more; 1 connection, 0 requests; at most 4s more",
			"waiting for 1 connection, 0 requests, at most 3s more",
			"waiting for 1 connection, 0 requests, at most 2s more",
			"waiting for 1 connection, 0 requests, at most 1s more",
			"the timeout is over; still open: 1 connection, 0 requests",
		}, "\n"), "POST", "/drain?stream")

		open = false
		requireAnswer(200, "done; 0 connections, 0 requests", "POST", "/drain")
		_, err := d.Undo()
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { d.Undo() })
		requireAnswer(409, "the drain was undone", "POST", "/drain")
		_, err = d.Shutdown(t.Context(), nil)
		require.NoError(t, err)
		requireAnswer(409, "drain: the server stops; its drain cannot be undone", "DELETE", "/drain")
	})
}

func TestControlPermission(t *testing.T) {
	loopback := drain.AllowFrom(drain.Loopback()...)
	for name, test := range map[string]struct {
		control drain.Control
		method  string
		target  string
		header  []string
		want    int
	}{
		"report":                  {drain.Control{}, "GET", "/drain", nil, 200},
		"no permission":           {drain.Control{}, "POST", "/drain?wait=0s", nil, 403},
		"from loopback":           {drain.Control{Allow: loopback}, "POST", "/drain?wait=0s", nil, 202},
		"from another network":    {drain.Control{Allow: drain.AllowFrom(netip.MustParsePrefix("10.0.0.0/8"))}, "POST", "/drain?wait=0s", nil, 403},
		"undo without permission": {drain.Control{}, "DELETE", "/drain", nil, 403},
		"forwarded":               {drain.Control{Allow: loopback}, "POST", "/drain?wait=0s", []string{"X-Forwarded-For", "192.0.2.1"}, 403},
		"through a proxy":         {drain.Control{Allow: loopback}, "POST", "/drain?wait=0s", []string{"Via", "1.1 p"}, 403},
		"from a web page":         {drain.Control{Allow: loopback}, "POST", "/drain?wait=0s", []string{"Origin", "http://a"}, 403},
		"a link in a browser":     {drain.Control{Allow: loopback, AllowGET: true}, "GET", "/drain?begin&wait=0s", []string{"Sec-Fetch-Site", "none"}, 403},
		"GET":                     {drain.Control{Allow: loopback}, "GET", "/drain?begin&wait=0s", nil, 405},
		"HEAD":                    {drain.Control{Allow: loopback, AllowGET: true}, "HEAD", "/drain?begin&wait=0s", nil, 405},
		"preStop httpGet":         {drain.Control{Allow: loopback, AllowGET: true}, "GET", "/drain?begin&wait=0s", nil, 202},
		"GET without permission":  {drain.Control{AllowGET: true}, "GET", "/drain?begin&wait=0s", nil, 403},
		"PUT":                     {drain.Control{Allow: loopback}, "PUT", "/drain", nil, 405},
	} {
		t.Run(name, func(t *testing.T) {
			test.control.Drainer = &drain.Drainer{}
			code, body := ask(test.control, test.method, test.target, test.header...)
			require.Equal(t, test.want, code, body)
			require.Equal(t, code == 202, test.control.Drainer.Progress().State == drain.Draining)
		})
	}
}

// A preStop hook can send its POST to Control on the server that drains. Such a POST does not delay
// the drain. If SIGTERM comes while the POST waits, the POST still gets its answer.
func TestControlOnItsOwnServer(t *testing.T) {
	socket := filepath.Join(haproxytest.Dir(t), "drain.sock")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	d := &drain.Drainer{Settings: drain.Settings{Delay: 2 * time.Second, Timeout: patience}}
	mux := http.NewServeMux()
	mux.Handle("/drain", drain.Control{Drainer: d})
	mux.Handle("/readyz", d.ReadyHandler(func(context.Context) error { return nil }))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- d.Serve(ctx, &http.Server{Handler: mux, WriteTimeout: time.Second}, l)
	}()
	for _, sigterm := range []bool{false, true} {
		type answer struct {
			text string
			err  error
		}
		answers := make(chan answer, 1)
		go func() {
			text, err := drain.Request(t.Context(), "unix:"+socket, "/drain")
			answers <- answer{text, err}
		}()
		require.Eventually(t, func() bool { return d.Progress().State != drain.Serving }, patience, time.Millisecond)
		if sigterm {
			stop()
		}
		got := <-answers
		require.NoError(t, got.err)
		require.Equal(t, "done; 0 connections, 0 requests", got.text)
		if !sigterm {
			text, err := drain.Request(t.Context(), "unix:"+socket, "/drain?undo")
			require.NoError(t, err)
			require.Contains(t, text, "has ended")
		}
	}
	require.NoError(t, <-done)
}

func TestReadyHandler(t *testing.T) {
	d := &drain.Drainer{}
	var failure error
	h := d.ReadyHandler(func(context.Context) error { return failure })
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w.Code, w.Body.String()
	}
	code, body := ask()
	require.Equal(t, "ok\n", body)
	require.Equal(t, 200, code)
	failure = io.ErrUnexpectedEOF
	code, body = ask()
	require.Equal(t, 503, code)
	require.Equal(t, "unexpected EOF\n", body)
	d.Begin()
	code, body = ask()
	require.Equal(t, 503, code)
	require.Contains(t, body, "draining, serves new requests for ")
}

func TestRequestFails(t *testing.T) {
	d := &drain.Drainer{}
	srv := httptest.NewServer(drain.Control{Drainer: d})
	defer srv.Close()
	_, err := drain.Request(t.Context(), srv.Listener.Addr().String(), "/drain")
	require.ErrorContains(t, err, "drain: 403 Forbidden: clients at 127.0.0.1:")
	_, err = drain.Request(t.Context(), "unix:/nowhere", "/drain")
	require.Error(t, err)
}
