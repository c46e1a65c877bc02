package pod

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var id = Identity{Pod: "tracks-1", App: "tracks", Node: "eu-1-a", Cluster: "eu-1"}

func ask(target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host, r.RemoteAddr = "api.example.com", "10.64.0.10:4711"
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	w := httptest.NewRecorder()
	id.Handler().ServeHTTP(w, r)
	return w
}

func TestAnswer(t *testing.T) {
	w := ask("/tracks/1")
	require.Equal(t, http.StatusOK, w.Code)
	var answer Answer
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Equal(t, Answer{
		Pod: "tracks-1", App: "tracks", Node: "eu-1-a", Cluster: "eu-1",
		Source: "10.64.0.10", Host: "api.example.com", Path: "/tracks/1", ForwardedFor: "192.0.2.1",
	}, answer)
}

func TestAnswerOfSize(t *testing.T) {
	small := ask("/").Body.Len()
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		body := ask("/?bytes=" + jsonNumber(size)).Body.String()
		require.Len(t, body, small+size)
		line, padding, _ := strings.Cut(body, "\n")
		require.True(t, json.Valid([]byte(line)))
		require.Empty(t, strings.Trim(padding, "x"))
	}
}

func jsonNumber(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestAnswerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.Equal(t, http.StatusOK, ask("/?wait=2s").Code)
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestInvalidQueries(t *testing.T) {
	for _, query := range []string{"wait=x", "wait=-1s", "wait=2m", "bytes=x", "bytes=-1", "bytes=99999999999"} {
		require.Equal(t, http.StatusBadRequest, ask("/?"+query).Code, query)
	}
}

func TestBehaviour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := id.Handler()
		do := func(method, target string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
			return w
		}
		require.Equal(t, http.StatusOK, do(http.MethodPut, BehaviourPath+"?"+Behaviour{Fail: 1, Status: 503}.Query()).Code)
		require.Equal(t, http.StatusServiceUnavailable, do(http.MethodGet, "/").Code)
		require.Equal(t, http.StatusOK, do(http.MethodPut, BehaviourPath+"?"+Behaviour{Shortest: time.Second, Longest: time.Second}.Query()).Code)
		start := time.Now()
		require.Equal(t, http.StatusOK, do(http.MethodGet, "/").Code)
		require.GreaterOrEqual(t, time.Since(start), time.Second)
		var counts Counts
		require.NoError(t, json.Unmarshal(do(http.MethodGet, CountsPath).Body.Bytes(), &counts))
		require.Equal(t, Counts{Requests: 2, Failed: 1, MostInFlight: 1}, counts)
		for _, query := range []string{"", "fail=0&status=200&shortest=0s&longest=0s", "fail=2&status=500&shortest=0s&longest=0s", "fail=0&status=500&shortest=2s&longest=1s", "fail=0&status=500&shortest=x&longest=1s"} {
			require.Equal(t, http.StatusBadRequest, do(http.MethodPut, BehaviourPath+"?"+query).Code, query)
		}
	})
}
