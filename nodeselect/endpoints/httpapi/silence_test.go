package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// silent is a server that receives requests and never answers.
var silent = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })

// A silent server delays the failover by less than 10 s, even if it answered before it became
// silent.
func TestFailoverFromASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := serving(t), serving(t)
		second.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{})
		n := &network{servers: map[string]http.Handler{"a": first, "b": silent}}
		answers := follow(t, n, "a", "b")
		time.Sleep(3*time.Second + time.Millisecond) // the first request does not wait for a change
		require.Len(t, answers, 1)
		require.True(t, (<-answers).Known)

		n.set("b", second)
		time.Sleep(time.Minute)
		n.set("a", silent)
		time.Sleep(5*time.Second + 8*time.Second + time.Millisecond) // the running request, and the silent one
		require.Len(t, answers, 1)
		require.Equal(t, "10.0.0.9:8080", addresses(<-answers))

		n.set("b", silent)
		time.Sleep(5*time.Second + 2*8*time.Second + time.Millisecond)
		require.Len(t, answers, 1)
		failed := <-answers
		require.ErrorContains(t, failed.Err, "http://a: the server is silent: no answer within 8s")
		require.ErrorContains(t, failed.Err, "http://b: the server is silent: no answer within 8s")
		require.Equal(t, "10.0.0.9:8080", addresses(failed))
		time.Sleep(time.Hour)
		require.Empty(t, answers, "the text of the error stays the same")
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowBody delays the first byte of a body.
type slowBody struct {
	io.ReadCloser
	ctx   context.Context
	delay time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	select {
	case <-time.After(b.delay):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	b.delay = 0
	return b.ReadCloser.Read(p)
}

// If a server accepts no connection, the client tries the next server after AnswerTimeout. A slow
// body is allowed.
func TestSlowConnectionAndSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t)
		client := &Client{URLs: []string{"http://unreachable", "http://slow"}, Wait: time.Hour}
		client.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GetConn(r.URL.Host)
			if r.URL.Host == "unreachable" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			trace.GotFirstResponseByte()
			trace.WroteRequest(httptrace.WroteRequestInfo{}) // may come late
			resp := w.Result()
			resp.Body = &slowBody{resp.Body, r.Context(), 9 * time.Second}
			return resp, nil
		})}
		require.NoError(t, client.Check())
		f := &follower{client: client, ref: tracks, last: Answer{Known: true, Revision: "old"}}
		began := time.Now()
		got, err := f.poll(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, got.pods)
		require.Equal(t, 3*time.Second+9*time.Second, time.Since(began))
	})
}
