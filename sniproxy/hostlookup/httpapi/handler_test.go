package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// serve returns the status, the body and the header of an answer to GET target.
func serve(h *Handler, target string) (int, string, http.Header) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body), w.Result().Header
}

func TestHandlerBeforePublish(t *testing.T) {
	h := &Handler{}
	require.Nil(t, h.Hosts())
	for _, target := range []string{"/hosts/a.com", "/changes", "/changes?since=v1&wait=9"} {
		code, body, header := serve(h, target)
		require.Equal(t, 503, code)
		require.Equal(t, `{"error":"no hosts are published yet"}`+"\n", body)
		require.Equal(t, "1", header.Get("Retry-After"))
	}
}

func TestHandlerLifetimes(t *testing.T) {
	for name, tt := range map[string]struct {
		h               *Handler
		found, notFound string
	}{
		"zero values": {&Handler{}, "max-age=30", "max-age=5"},
		"set":         {&Handler{MaxAge: time.Minute, NegativeMaxAge: time.Second}, "max-age=60", "max-age=1"},
		"negative":    {&Handler{MaxAge: -1, NegativeMaxAge: -1}, "max-age=0", "max-age=0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tt.h.Publish(hostsOf("a.com=1"))
			require.NoError(t, err)
			_, _, header := serve(tt.h, "/hosts/a.com")
			require.Equal(t, tt.found, header.Get("Cache-Control"))
			_, _, header = serve(tt.h, "/hosts/b.com")
			require.Equal(t, tt.notFound, header.Get("Cache-Control"))
		})
	}
}

func TestHandlerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handler{MaxWaiting: 1}
		update, err := h.Publish(hostsOf("a.com=1"))
		require.NoError(t, err)
		require.Zero(t, update.Set)
		began := time.Now()
		answers := make(chan string)
		ask := func(wait string) {
			_, body, _ := serve(h, "/changes?since="+update.Version+wait)
			answers <- body
		}
		same := `{"version":"` + update.Version + `"}` + "\n"

		go ask("")
		require.Equal(t, same, <-answers)
		require.Equal(t, defaultWait, time.Since(began))
		go ask("&wait=3600")
		synctest.Wait()
		require.Equal(t, 1, h.Waiting())
		code, body, header := serve(h, "/changes?since="+update.Version)
		require.Equal(t, 503, code, body)
		require.Equal(t, "5", header.Get("Retry-After"))
		require.Equal(t, same, <-answers)
		require.Equal(t, defaultWait+MaxWait, time.Since(began))

		go ask("")
		synctest.Wait()
		next, err := h.Publish(hostsOf("a.com=2"))
		require.NoError(t, err)
		require.Equal(t, 1, next.Set)
		require.Equal(t, `{"version":"`+next.Version+`","changes":[{"host":"a.com","endpoint":"10.0.0.2","max_age":30}]}`+"\n", <-answers)

		update = next
		go ask("")
		synctest.Wait()
		h.StopWaiting()
		h.StopWaiting()
		require.Contains(t, <-answers, next.Version)
		go ask("")
		require.Contains(t, <-answers, next.Version)
		require.Equal(t, defaultWait+MaxWait, time.Since(began), "from then on no request waits")
	})
}

// One client address has as many waiting requests as MaxWaiting allows. When a request of another
// address arrives, the Handler answers the oldest waiting request.
func TestHandlerSharesWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 4
		h := &Handler{MaxWaiting: limit}
		update, err := h.Publish(hostsOf("a.com=1"))
		require.NoError(t, err)
		began := time.Now()
		type answer struct {
			client string
			code   int
		}
		answers := make(chan answer, 10)
		ask := func(client string) {
			go func() {
				r := httptest.NewRequest("GET", "/changes?wait=60&since="+update.Version, nil)
				r.RemoteAddr = client
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				answers <- answer{client, w.Code}
			}()
			synctest.Wait()
		}
		for _, client := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"} {
			ask(client)
			time.Sleep(time.Second)
		}
		ask("192.0.2.1:5")
		require.Equal(t, answer{"192.0.2.1:5", 503}, <-answers)
		ask("192.0.2.2:1")
		require.Equal(t, answer{"192.0.2.1:1", 200}, <-answers)
		ask("192.0.2.2:2")
		require.Equal(t, answer{"192.0.2.1:2", 200}, <-answers)
		ask("192.0.2.2:3")
		require.Equal(t, answer{"192.0.2.2:3", 503}, <-answers)
		require.Equal(t, limit, h.Waiting())
		require.Equal(t, limit*time.Second, time.Since(began))
		h.StopWaiting()
		synctest.Wait()
		require.Zero(t, h.Waiting())
	})
}

// deadlineWriter records whether a handler has limited the time of the body.
type deadlineWriter struct {
	*httptest.ResponseRecorder
	limited bool
}

func (w *deadlineWriter) SetReadDeadline(time.Time) error { w.limited = true; return nil }

// TestBodyHasADeadline checks that a client that announces a body and does not send it cannot keep
// its connection open.
func TestBodyHasADeadline(t *testing.T) {
	for body, limited := range map[string]bool{"{": true, "": false} {
		w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
		(&Handler{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body)))
		require.Equal(t, limited, w.limited)
	}
}
