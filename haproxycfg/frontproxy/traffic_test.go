package frontproxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

// TestZoneShares stops pods of the zone. The expected shares come from Envoy's formula.
func TestZoneShares(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own, other := servePods(t, 12, "a", false, nil), servePods(t, 12, "b", false, nil)
		f := h.start(t, frontproxy.Proxy{}, append(own.pods[:12:12], other.pods...), 12)
		down := 0
		for _, tt := range []struct {
			up, requests int
			share        float64
		}{{12, 200, 0}, {9, 200, 0}, {8, 1200, 6.7}, {6, 3200, 30}, {4, 3200, 53.3}, {0, 200, 100}} { // 6 percentage points are at least 6.8 standard deviations
			for ; down < 12-tt.up; down++ {
				f.command(t, "set server %s state maint", f.server(t, "web:local", own.pods[down]))
			}
			other.reset()
			require.Equal(t, map[int]int{200: tt.requests}, f.load(t, tt.requests))
			require.InDelta(t, tt.share, 100*float64(other.sum())/float64(tt.requests), 6, "%d of 12 are up", tt.up)
		}
		// Now the zone expects half as many pods, so half as many pods have room for all requests.
		for i := range 6 {
			f.command(t, "set server %s state ready", f.server(t, "web:local", own.pods[i]))
		}
		require.NoError(t, f.socket.SetVariable(t.Context(), "expected_pods", 6))
		other.reset()
		f.load(t, 200)
		require.Zero(t, other.sum())
	})
}

func TestPanicLine(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 12, "a", false, nil)
		// A pod that a command has set to down is up again after two thirds of EjectTime.
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{EjectTime: time.Hour}}, own.pods, 12)
		for i := range 9 {
			f.command(t, "set server %s health down", f.server(t, "web:local", own.pods[i]))
		}
		f.load(t, 120)
		require.Equal(t, 120, own.of(9)+own.of(10)+own.of(11), "3 of 12 are 25%%, which is no panic")
		f.command(t, "set server %s health down", f.server(t, "web:local", own.pods[9]))
		own.reset()
		f.load(t, 120)
		for i := range own.pods {
			require.NotZero(t, own.of(i), "in a panic each pod gets requests")
		}
	})
}

// TestMonitorWithoutPods: the monitor fails while no pod gets requests, with and without the
// backend for a panic.
func TestMonitorWithoutPods(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		for name, s := range map[string]frontproxy.Settings{
			"defaults": {}, "no panic": {PanicBelow: -1}, "no checks": {EjectErrors: -1},
		} {
			own := servePods(t, 2, "a", false, nil)
			own.pods[1].Zone = "b"
			f := h.start(t, frontproxy.Proxy{Settings: s}, own.pods, 1)
			for i, status := range []int{http.StatusOK, http.StatusOK, http.StatusServiceUnavailable} {
				resp, _ := f.do(t, http.MethodGet, f.admin+"/ready")
				require.Equal(t, status, resp.StatusCode, "%s, %d pods gone", name, i)
				if i == 2 {
					break
				}
				for _, b := range f.config.Backends {
					for _, server := range b.Servers {
						if server.Addr == own.pods[i].Addr {
							f.command(t, "set server %s/%s state maint", b.Name, server.Name())
						}
					}
				}
			}
		}
	})
}

// TestEjection: after three errors in a row, a pod gets no requests until HAProxy has checked it
// several times. The test counts checks and not time, so it also works on a slow machine. HAProxy
// needs three checks, and one of them may be on its way when the pod fails. So the test requires at
// least two checks for each ejection. It allows twice the errors, because a good check between two
// errors starts the count of errors again.
func TestEjection(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		const limit = 3
		var failures, checks, early atomic.Int64
		own := servePods(t, 4, "a", false, func(pod int, w http.ResponseWriter, r *http.Request) {
			switch {
			case pod != 0:
			case r.URL.Path == "/healthz":
				checks.Add(1)
			default:
				if failures.Add(1) > 2*limit*(1+checks.Load()/2) {
					early.Add(1)
				}
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{EjectErrors: limit, EjectTime: 900 * time.Millisecond, HealthPath: "/healthz"}}, own.pods, 4)
		eventually(t, "the pod does not come back", func() bool {
			for range 4 {
				f.get(t, "/")
			}
			return failures.Load() > 4*limit
		})
		require.Zero(t, early.Load(), "requests before an ejection was over")
	})
}

func TestRetriesOnlyOfSafeMethods(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 2, "a", false, func(pod int, w http.ResponseWriter, _ *http.Request) {
			if pod == 0 {
				panic(http.ErrAbortHandler) // closes the connection without an answer
			}
		})
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{EjectErrors: -1, RetryPercent: -1}}, own.pods, 2)
		for range 20 {
			resp, _ := f.get(t, "/")
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}
		require.Greater(t, own.sum(), 20, "the pods got repeated requests")
		own.reset()
		failed := 0
		for range 20 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url, http.NoBody)
			require.NoError(t, err)
			resp, err := f.client.Do(req)
			if err != nil {
				failed++ // HAProxy closes a kept connection without an answer
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				failed++
			}
		}
		require.NotZero(t, failed)
		require.Equal(t, 20, own.sum(), "no POST is repeated")
	})
}

// TestRetryBudget: the pods answer half of the requests with an error.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		var n atomic.Int64
		own := servePods(t, 4, "a", false, func(_ int, w http.ResponseWriter, _ *http.Request) {
			if n.Add(1)*2654435761>>7&1 == 0 { // a hash instead of a pattern, because retries could follow a pattern
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		settings := frontproxy.Settings{
			Retries: 3, RetryOn: []haproxycfg.RetryEvent{haproxycfg.RetryConnFailure, haproxycfg.Retry503}, EjectErrors: -1,
			RetriesPerSecond: -1, // on a slow machine, the repetitions per second would add up
		}
		f := h.start(t, frontproxy.Proxy{Settings: settings}, own.pods, 4)
		const requests = 1200
		if h.version.AtLeast(2, 9) {
			// HAProxy may exceed the budget of each second once. Each of the four connections of load may
			// then have begun a request, and HAProxy repeats it up to three times.
			began := time.Now()
			f.load(t, requests)
			seconds := 1 + int(time.Since(began)/time.Second)
			require.LessOrEqual(t, own.sum(), requests*125/100+seconds*4*settings.Retries)
			require.Greater(t, own.sum(), requests*105/100, "some requests are repeated")
			own.reset()
		}
		require.NoError(t, f.socket.SetVariable(t.Context(), frontproxy.MayRetry, 0))
		f.load(t, 200)
		require.Equal(t, 200, own.sum(), "the switch is off")
		own.reset()
		require.NoError(t, f.socket.SetVariable(t.Context(), frontproxy.MayRetry, 1))
		f.load(t, 200)
		require.Greater(t, own.sum(), 200)
	})
}

// TestShedding: the only pod has one request, and two requests wait. HAProxy refuses the next
// request while they wait. Requests go to the other zone only if it has a pod.
func TestShedding(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		release := make(chan struct{})
		var atOnce, most atomic.Int64
		own := servePods(t, 1, "a", false, func(int, http.ResponseWriter, *http.Request) {
			if k := atOnce.Add(1); k > most.Load() {
				most.Store(k)
			}
			<-release
			atOnce.Add(-1)
		})
		settings := frontproxy.Settings{PerPod: 1, Pending: 2, QueueTime: time.Minute}
		f := h.start(t, frontproxy.Proxy{Settings: settings}, own.pods, 1)
		var waiting sync.WaitGroup
		var released sync.Once
		defer waiting.Wait()
		defer released.Do(func() { close(release) })
		var ok atomic.Int64
		for range 3 {
			waiting.Go(func() {
				resp, err := f.client.Get(f.url)
				if err == nil {
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						ok.Add(1)
					}
				}
			})
		}
		eventually(t, "two requests wait", func() bool {
			return queued(t, f, "web:local") == 2
		})
		resp, body := f.get(t, "/")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
		require.Equal(t, "the queue is full", body)
		released.Do(func() { close(release) })
		waiting.Wait()
		require.EqualValues(t, 3, ok.Load(), "the requests in the queue are answered")
		require.EqualValues(t, 1, most.Load(), "PerPod")
	})
}

var qcur = regexp.MustCompile(`(?m)^([^,]+),BACKEND,([0-9]+),`)

// queued returns the number of requests that wait in a backend.
func queued(t *testing.T, f *running, backend string) int {
	t.Helper()
	answer, err := f.socket.Do(t.Context(), "show stat")
	require.NoError(t, err)
	for _, m := range qcur.FindAllStringSubmatch(answer, -1) {
		var n int
		if m[1] == backend {
			_, err := fmt.Sscan(m[2], &n)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("no backend %s", backend)
	return 0
}

func TestSpillOnQueue(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		release := make(chan struct{})
		own := servePods(t, 1, "a", false, func(int, http.ResponseWriter, *http.Request) { <-release })
		other := servePods(t, 1, "b", false, nil)
		settings := frontproxy.Settings{PerPod: 1, Pending: 5, QueueTime: time.Minute}
		f := h.start(t, frontproxy.Proxy{Settings: settings}, append(own.pods[:1:1], other.pods...), 1)
		var waiting sync.WaitGroup
		defer waiting.Wait()
		defer close(release)
		for range 2 {
			waiting.Go(func() {
				if resp, err := f.client.Get(f.url); err == nil {
					_ = resp.Body.Close()
				}
			})
			eventually(t, "the pod gets a request", func() bool { return own.of(0) == 1 })
		}
		eventually(t, "one request waits", func() bool { return queued(t, f, "web:local") == 1 })
		for range 5 {
			f.get(t, "/")
		}
		require.Equal(t, 5, other.sum())
	})
}

func TestConnectionsClose(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, nil)
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{CloseOneIn: 10}}, own.pods, 1)
		closed := 0
		for range 500 {
			if resp, _ := f.get(t, "/"); resp.Close {
				closed++
			}
		}
		require.InDelta(t, 50, closed, 49, "HAProxy closes at random; 50 more or less have a probability below 1e-9")
	})
}

// TestHTTP2ConnectionsEnd: from 3.0 on, HAProxy ends an HTTP/2 connection after HTTP2Requests
// requests, and no request fails, because the client can repeat requests after the GOAWAY.
func TestHTTP2ConnectionsEnd(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 2, "a", false, nil)
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{HTTP2Requests: 50}}, own.pods, 2)
		client, connections := h2cClient(t), sync.Map{}
		var senders errgroup.Group
		const requests = 1000
		for range 4 {
			senders.Go(func() error {
				for range requests / 4 {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
						connections.Store(c.Conn.LocalAddr().String(), true)
					}})
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, strings.NewReader("load"))
					if err != nil {
						return err
					}
					resp, err := client.Do(req)
					if err != nil {
						return err
					}
					_, err = io.Copy(io.Discard, resp.Body)
					if err := errors.Join(err, resp.Body.Close()); err != nil {
						return err
					}
					if resp.StatusCode != http.StatusOK {
						return errors.New(resp.Status)
					}
				}
				return nil
			})
		}
		require.NoError(t, senders.Wait())
		opened := 0
		connections.Range(func(any, any) bool { opened++; return true })
		if h.version.AtLeast(3, 0) {
			require.InDelta(t, requests/50, opened, 8)
		} else {
			require.Equal(t, 1, opened)
		}
	})
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, func(_ int, w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Traceparent", "Tracestate", "X-Request-Id", "X-Forwarded-For", "Api_key"} {
				w.Header().Set("Got-"+name, strings.Join(r.Header.Values(name), "|"))
			}
		})
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{TraceSample: 10_000}}, own.pods, 1)
		newTrace := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`)
		const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
		for value, kept := range map[string]bool{
			"00-" + id + "-" + span + "-00":      true,
			"01-" + id + "-" + span + "-01-more": true,
			"":                                   false,
			"00-" + id + "-" + span + "-00-more": false,
			"ff-" + id + "-" + span + "-00":      false,
			"00-" + strings.Repeat("0", 32) + "-" + span + "-00": false,
			"00-" + id + "-" + strings.Repeat("0", 16) + "-00":   false,
			"00-" + strings.ToUpper(id) + "-" + span + "-00":     false,
			"00-" + id + "-" + span + "-0\u00e9":                 false,
		} {
			header := []string{"Tracestate", "x=y", "X-Request-ID", "abc-1", "Api_key", "k", "X-Forwarded-For", "192.0.2.7"}
			if value != "" {
				header = append(header, "Traceparent", value)
			}
			resp, _ := f.get(t, "/", header...)
			got := resp.Header.Get("Got-Traceparent")
			if kept {
				require.Equal(t, value, got)
				require.Equal(t, "x=y", resp.Header.Get("Got-Tracestate"))
			} else {
				require.Regexp(t, newTrace, got, value)
				require.NotContains(t, got, id)
				require.Empty(t, resp.Header.Get("Got-Tracestate"))
			}
			require.Equal(t, "abc-1", resp.Header.Get("Got-X-Request-Id"))
			require.Equal(t, "k", resp.Header.Get("Got-Api_key"))
			require.Equal(t, "192.0.2.7|127.0.0.1", resp.Header.Get("Got-X-Forwarded-For"))
		}
		resp, _ := f.get(t, "/", "X-Request-ID", `a" server=x`)
		require.Regexp(t, `^[0-9a-f-]{36}$`, resp.Header.Get("Got-X-Request-Id"))
	})
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, nil)
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{AccessLog: true}}, own.pods, 1)
		f.get(t, "/logged", "X-Request-ID", "abc-1")
		f.do(t, http.MethodGet, f.admin+"/metrics")
		want := `"GET /logged HTTP/1.1" id=abc-1 server=` + own.pods[0].Addr.String()
		eventually(t, "no log line", func() bool { return strings.Contains(f.process.Output(), want) })
		require.NotContains(t, f.process.Output(), "/metrics")
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, nil)
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{Limits: haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: 5}}}}, own.pods, 1)
		answered := map[int]int{}
		eventually(t, "HAProxy refuses a request", func() bool { // a slow machine may send fewer than 5 in a second
			for status, n := range f.load(t, 100) {
				answered[status] += n
			}
			return answered[http.StatusTooManyRequests] > 0
		})
		require.GreaterOrEqual(t, answered[http.StatusOK], 5)
		require.Equal(t, answered[http.StatusOK], own.sum())
	})
}

func h2cClient(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// TestHTTP2: clients use HTTP/2 without TLS on the same address as HTTP/1.1, with each protocol of
// the pods. The gRPC status in the trailers reaches the client. A server that the command "add
// server" has added gets requests.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		pods := servePods(t, 2, "a", true, func(_ int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s", r.Proto, body)
			w.Header().Set("Grpc-Status", "5")
		})
		settings := frontproxy.Settings{Protocol: haproxycfg.GRPC, HealthPath: "/healthz"}
		f := h.start(t, frontproxy.Proxy{Settings: settings}, pods.pods[:1], 1)
		resp, err := h2cClient(t).Post(f.url, "application/grpc", strings.NewReader("message"))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, 2, resp.ProtoMajor)
		require.Equal(t, "HTTP/2.0 message", string(body))
		require.Equal(t, "5", resp.Trailer.Get("Grpc-Status"))
		resp, _ = f.get(t, "/")
		require.Equal(t, 1, resp.ProtoMajor)

		if !h.version.AtLeast(3, 0) {
			return
		}
		b := f.config.Backends[0]
		command, err := b.AddServer(haproxycfg.Server{Addr: pods.pods[1].Addr, Check: true})
		require.NoError(t, err)
		answer, err := f.socket.Do(t.Context(), command)
		require.NoError(t, err)
		require.Contains(t, answer, "New server registered")
		name := b.Name + "/" + pods.pods[1].Addr.String()
		f.command(t, "enable health %s", name)
		f.command(t, "enable server %s", name)
		eventually(t, "the new pod gets requests", func() bool { f.load(t, 8); return pods.of(1) > 0 })
	})
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		f := h.start(t, frontproxy.Proxy{}, nil, 0)
		resp, _ := f.do(t, http.MethodGet, f.admin+"/ready")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "no pods")
		resp, _ = f.get(t, "/")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)

		own := servePods(t, 1, "a", false, nil)
		f = h.start(t, frontproxy.Proxy{}, own.pods, 0)
		resp, _ = f.do(t, http.MethodGet, f.admin+"/ready")
		require.Equal(t, http.StatusOK, resp.StatusCode)
		_, metrics := f.do(t, http.MethodGet, f.admin+"/metrics")
		require.Contains(t, metrics, `haproxy_server_http_responses_total{proxy="web:local",server="`)
		require.NotContains(t, metrics, `server="s8"`, "an empty slot")
	})
}

func TestSidecar(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		app := servePods(t, 1, "", false, nil)
		f := h.start(t, frontproxy.Proxy{LocalPort: app.pods[0].Addr.Port()}, nil, 0)
		require.Equal(t, map[int]int{200: 40}, f.load(t, 40))
		require.Equal(t, 40, app.sum())
		resp, _ := f.do(t, http.MethodGet, f.admin+"/ready")
		require.Equal(t, http.StatusOK, resp.StatusCode)
	})
}
