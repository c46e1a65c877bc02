package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// network is an http.RoundTripper that serves requests in memory, by host name.
type network struct {
	mu       sync.Mutex
	servers  map[string]http.Handler // a missing server refuses connections
	requests []string
}

func (n *network) set(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h == nil {
		delete(n.servers, host)
		return
	}
	n.servers[host] = h
}

// take returns the URLs of the requests since the last call.
func (n *network) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	requests := n.requests
	n.requests = nil
	return requests
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.requests = append(n.requests, r.URL.String())
	h := n.servers[r.URL.Host]
	n.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn(r.URL.Host)
	trace.WroteRequest(httptrace.WroteRequestInfo{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// follow starts a Follow in a synctest bubble, and returns the channel of its answers.
func follow(t *testing.T, n *network, hosts ...string) <-chan Answer {
	client := &Client{HTTPClient: &http.Client{Transport: n}}
	for _, host := range hosts {
		client.URLs = append(client.URLs, "http://"+host)
	}
	answers := make(chan Answer, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- client.Follow(ctx, tracks, func(a Answer) { answers <- a }) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
	synctest.Wait()
	return answers
}

func addresses(a Answer) string {
	var list []string
	for _, p := range a.Pods {
		list = append(list, p.Addr.String())
	}
	return strings.Join(list, " ")
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t)
		n := &network{servers: map[string]http.Handler{"a": h}}
		answers := follow(t, n, "a")
		first := <-answers
		want, _ := some().Pods(tracks)
		require.Equal(t, want, first.Pods, "the pods of the server, in the same order")
		require.True(t, first.Known)
		require.NoError(t, first.Err)
		require.Zero(t, first.Age)
		require.Equal(t, []string{"http://a/v1/pods/media/tracks/http", "http://a/v1/pods/media/tracks/http?wait=5s"}, n.take())

		time.Sleep(10*time.Minute + time.Second)
		require.Empty(t, answers, "nothing has changed")
		require.Len(t, n.take(), 120, "each request waits for 5 s")
		began := time.Now()
		h.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{})
		require.Equal(t, "10.0.0.9:8080", addresses(<-answers))
		h.Publish(group(slice("tracks")), Source{})
		last := <-answers
		require.Empty(t, last.Pods, "the client does not judge")
		require.Zero(t, time.Since(began))
	})
}

// No server answers for an hour. The pods stay, and the client does not ask often.
func TestFollowKeepsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t)
		n := &network{servers: map[string]http.Handler{"a": h}}
		answers := follow(t, n, "a")
		first := <-answers
		n.set("a", nil)
		time.Sleep(6 * time.Second)
		failed := <-answers
		require.ErrorContains(t, failed.Err, "http://a/v1/pods/media/tracks/http")
		require.ErrorContains(t, failed.Err, "connection refused")
		require.WithinDuration(t, time.Now(), failed.Since, 2*time.Second)
		require.Equal(t, first.Pods, failed.Pods)
		require.Equal(t, first.Revision, failed.Revision)
		n.take()
		time.Sleep(time.Hour)
		require.Empty(t, answers)
		requests := len(n.take())
		require.GreaterOrEqual(t, requests, 360)
		require.LessOrEqual(t, requests, 725, "the pause grows to 5 to 10 s")

		n.set("a", http.NotFoundHandler())
		time.Sleep(maxPause)
		failed = <-answers
		require.ErrorContains(t, failed.Err, "404")
		require.Equal(t, first.Pods, failed.Pods, "an unknown service does not end the pods")
		require.Greater(t, time.Since(failed.Since), time.Hour)

		n.set("a", h)
		time.Sleep(maxPause)
		last := <-answers
		require.NoError(t, last.Err)
		require.Zero(t, last.Since)
		require.Equal(t, first.Pods, last.Pods)
		require.Empty(t, answers)
	})
}

func TestFollowFailsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, other := serving(t), serving(t)
		n := &network{servers: map[string]http.Handler{"b": h}}
		answers := follow(t, n, "a", "b", "c")
		require.Len(t, (<-answers).Pods, 4)
		n.set("c", other)
		n.set("b", nil)
		time.Sleep(35 * time.Second)
		require.Empty(t, answers, "one server answers, and the pods are the same")
		other.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{})
		require.Equal(t, "10.0.0.9:8080", addresses(<-answers))
	})
}

// If the pods of a server are old, the client follows another server whose pods are current.
func TestFollowPrefersYoungAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost, well := serving(t), serving(t)
		n := &network{servers: map[string]http.Handler{"lost": lost}}
		answers := follow(t, n, "lost", "well")
		require.Len(t, (<-answers).Pods, 4)
		lost.Publish(some(), Source{Err: errors.New("no API server"), LastContact: time.Now()})
		time.Sleep(31 * time.Second)
		old := <-answers
		require.NotZero(t, old.Age)
		require.Len(t, old.Pods, 4)
		require.NoError(t, old.Err)

		well.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{})
		n.set("well", well)
		time.Sleep(31 * time.Second)
		young := <-answers
		require.Equal(t, "10.0.0.9:8080", addresses(young))
		require.Zero(t, young.Age)
		n.take()
		time.Sleep(time.Minute)
		for _, url := range n.take() {
			require.Contains(t, url, "http://well/")
		}

		// The pods of all servers are old. So the client stays with the server that has the
		// youngest pods.
		well.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{Err: errors.New("no API server"), LastContact: time.Now()})
		time.Sleep(5 * time.Minute)
		aged := <-answers
		require.NotZero(t, aged.Age)
		require.Equal(t, "10.0.0.9:8080", addresses(aged))
		require.Empty(t, answers)
	})
}

// The client pauses between requests if the server ignores the parameter "wait", or if the content
// changes with each request.
func TestFollowLimitsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t)
		n := &network{servers: map[string]http.Handler{"a": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.RawQuery = ""
			h.ServeHTTP(w, r)
		})}}
		follow(t, n, "a")
		time.Sleep(time.Minute)
		require.LessOrEqual(t, len(n.take()), 62)
	})
}

// If an answer has a mistake, Follow passes on no part of it.
func TestFollowRefusesWrongAnswers(t *testing.T) {
	good := string(newView(tracks, mustPods(t)).answer(Source{}))
	for name, tt := range map[string]struct{ body, err string }{
		"cut off":              {good[:len(good)/2], "unexpected end of JSON input"},
		"empty":                {"", "unexpected end of JSON input"},
		"a page":               {"<html>", "invalid character"},
		"a list":               {"[]", "an array where an object belongs"},
		"another version":      {strings.Replace(good, `"version":1`, `"version":2`, 1), "version: 2; only 1 is supported"},
		"no version":           {strings.Replace(good, `"version":1,`, ``, 1), "version: 0; only 1 is supported"},
		"another service":      {strings.Replace(good, `"service":"tracks"`, `"service":"users"`, 1), `service: the answer is about "media/users:http"`},
		"no service":           {strings.Replace(good, `"service":{`, `"other":{`, 1), "service: missing"},
		"no revision":          {strings.Replace(good, `"revision":`, `"other":`, 1), "revision: want 1 to 128 bytes"},
		"a quote in it":        {strings.Replace(good, `"revision":"`, `"revision":"\"`, 1), "revision: cannot be an ETag"},
		"no age":               {strings.Replace(good, `"age":0`, `"age":null`, 1), "age: want seconds"},
		"a negative age":       {strings.Replace(good, `"age":0`, `"age":-1`, 1), "age: want seconds"},
		"no zones":             {strings.Replace(good, `"zones":`, `"Zones":`, 1), "zones: missing"},
		"a zone without name":  {strings.Replace(good, `"zone":"eu-1b",`, ``, 1), "zones[1]: zone: missing"},
		"a zone without pods":  {strings.Replace(good, `"pods":`, `"other":`, 1), "zones[0]: pods: missing"},
		"a wrong zone":         {strings.Replace(good, `"zone":"eu-1b"`, `"zone":"eu\n1b"`, 1), "zones[1]: zone: "},
		"a host name":          {strings.Replace(good, "10.0.0.3", "pod-3", 1), `zones[0]: pods[1]: address: "pod-3" is not an IP address`},
		"no address":           {strings.Replace(good, "10.0.0.3", "0.0.0.0", 1), "zones[0]: pods[1]: address: 0.0.0.0 cannot be"},
		"an address twice":     {strings.Replace(good, "10.0.0.4", "10.0.0.1", 1), "zones: 10.0.0.1:8080 comes twice"},
		"port 0":               {strings.Replace(good, `"port":8080`, `"port":0`, 1), "zones[0]: pods[0]: port: want 1 to 65535"},
		"port 70000":           {strings.Replace(good, `"port":8080`, `"port":70000`, 1), "zones[0]: pods[0]: port: want 1 to 65535"},
		"no conditions":        {strings.Replace(good, `"ready":true,`, ``, 1), "zones[0]: pods[0]: ready: ready, serving and terminating are required"},
		"a wrong node":         {strings.Replace(good, "node-a", "node a", 1), "zones[0]: pods[0]: node: "},
		"a member comes twice": {strings.Replace(good, `"age":0`, `"age":0,"age":0`, 1), "age: member comes twice"},
		"too long":             {good + strings.Repeat(" ", 8<<20), "longer than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := serving(t)
				n := &network{servers: map[string]http.Handler{"a": h}}
				answers := follow(t, n, "a")
				first := <-answers
				n.set("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(tt.body)) }))
				time.Sleep(31 * time.Second)
				failed := <-answers
				require.ErrorContains(t, failed.Err, tt.err)
				require.Equal(t, first.Pods, failed.Pods)
			})
		})
	}
}

func mustPods(t testing.TB) []endpoints.Pod {
	t.Helper()
	pods, problems := some().Pods(tracks)
	require.Empty(t, problems)
	return pods
}

// Over TCP, the client refuses a body that ends early. A server that stops answers the request of
// its waiting client.
func TestFollowOverTCP(t *testing.T) {
	h := serving(t)
	var cut atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !cut.Load() {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(newView(tracks, nil).answer(Source{}))
	}))
	defer srv.Close()
	client := &Client{URLs: []string{srv.URL + "/"}, Token: func(context.Context) (string, error) { return "secret", nil }}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	answers, ended := make(chan Answer, 10), make(chan error)
	go func() { ended <- client.Follow(ctx, tracks, func(a Answer) { answers <- a }) }()
	require.Len(t, (<-answers).Pods, 4)
	cut.Store(true)
	h.StopWaiting()
	failed := <-answers
	require.ErrorContains(t, failed.Err, "unexpected EOF")
	require.Len(t, failed.Pods, 4)
	h.Publish(group(slice("tracks", "10.0.0.9 eu-1a ready")), Source{})
	cut.Store(false) // from here on, the client gets no answer with the old pods
	require.Equal(t, "10.0.0.9:8080", addresses(<-answers))
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestClientCheck(t *testing.T) {
	for url, want := range map[string]string{
		"http://discovery:9100": "", "https://10.0.0.1/api": "", "http://[::1]:9100/": "",
		"discovery:9100": "not an HTTP URL", "ftp://discovery": "not an HTTP URL", "http://": "not an HTTP URL", "http://a/?b=c": "no query", "http://a b": "invalid character",
	} {
		err := (&Client{URLs: []string{url}}).Check()
		if want == "" {
			require.NoError(t, err, url)
		} else {
			require.ErrorContains(t, err, want, url)
		}
	}
	require.ErrorContains(t, (&Client{}).Check(), "no URL")
	client := &Client{URLs: []string{"http://discovery:9100"}}
	for _, ref := range []nodeselect.Ref{{}, {Namespace: "media"}, {Namespace: "..", Service: "tracks"}, {Namespace: "media", Service: "a/b"}, {Namespace: "media", Service: "tracks", Port: "ht tp"}} {
		require.Error(t, client.Follow(t.Context(), ref, nil), "%v", ref)
	}
}

// The parser of the client accepts every answer that the server renders. It accepts no answer that
// breaks a promise in the comment of Answer.
func FuzzParseAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		const maxPods = 100
		got, err := parseAnswer(body, tracks, maxPods)
		if err != nil {
			if len(got.pods) > 0 {
				t.Fatal("pods in spite of an error")
			}
			return
		}
		if len(got.pods) > maxPods || got.age < 0 || checkRevision(got.revision) != nil {
			t.Fatalf("%+v", got)
		}
		before := netip.AddrPort{}
		for _, p := range got.pods {
			if !p.Addr.IsValid() || p.Addr.Port() == 0 || p.Addr.Compare(before) <= 0 || checkLabel(p.Name) != nil || checkLabel(p.Node) != nil || checkLabel(p.Zone) != nil {
				t.Fatalf("%+v", p)
			}
			before = p.Addr
		}
		again, err := parseAnswer(newView(tracks, got.pods).answer(Source{}), tracks, maxPods)
		if err != nil || !slices.Equal(again.pods, got.pods) {
			t.Fatalf("%v: %+v, want %+v", err, again.pods, got.pods)
		}
	})
}

// Each name in a parsed DiscoveryRequest can be part of an answer. If the names are put into
// another DiscoveryRequest, the parser accepts it.
func FuzzParseDiscoveryRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseDiscoveryRequest(body)
		if err != nil {
			if _, ok := errors.AsType[*FieldError](err); !ok {
				t.Fatalf("%v names no field", err)
			}
			return
		}
		if len(req.refs) != len(req.names) || len(req.names) == 0 || len(req.names) > maxResourceNames {
			t.Fatalf("%+v", req)
		}
		for i, ref := range req.refs {
			name := ref.Namespace + "/" + ref.Service
			if ref.Port != "" {
				name += "/" + ref.Port
			}
			if name != req.names[i] || checkRef(ref) != nil {
				t.Fatalf("%q is %+v", req.names[i], ref)
			}
		}
		again, err := parseDiscoveryRequest(marshal(map[string]any{"version_info": req.version, "resource_names": req.names}))
		if err != nil || again.version != req.version || !slices.Equal(again.names, req.names) {
			t.Fatalf("%v: %+v, want %+v", err, again, req)
		}
	})
}
