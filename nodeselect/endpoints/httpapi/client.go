package httpapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/internal/apiclient"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// Client follows the pods of services at one or several servers of the discovery API.
//
// Set the fields before the first use, and do not change them afterwards. A Client is safe for
// concurrent use, and several Follows may run at the same time.
type Client struct {
	// URLs are the addresses of the servers, such as "http://discovery:9100"; a path becomes the
	// beginning of the path of each request. Each Follow begins with a random server, and continues
	// with the next one after a failure. Required.
	URLs []string

	// HTTPClient makes the requests. nil means a client that follows no redirects, accepts no
	// compression, and uses the proxy from the environment. HTTPClient.Timeout must be 0 or longer
	// than Wait.
	HTTPClient *http.Client

	// TLS has the CA certificates and the client certificate of the default client. If HTTPClient
	// is set, the Client ignores TLS.
	TLS *tls.Config

	// Token, if not nil, returns the bearer token for a request. TokenFile makes such a function.
	Token func(context.Context) (string, error)

	// Wait is how long a server should delay its answer while nothing changes; 0 means 5 s, and a
	// Handler waits at most MaxWait. With a longer Wait, servers get fewer requests, and the Client
	// notices a silent server later.
	Wait time.Duration

	// AnswerTimeout limits how long a server may be silent; 0 means 3 s. The Client tries the next
	// server after AnswerTimeout without a connection, or after Wait plus AnswerTimeout without the
	// first byte of the answer.
	AnswerTimeout time.Duration

	// Timeout is how long a whole request may take in addition to Wait. 0 means 10 s.
	Timeout time.Duration

	// MaxBody is the largest size of an answer's body in bytes. 0 means 8 MiB. A larger answer is not
	// usable.
	MaxBody int64

	// MaxPods is the largest number of pods of a service. 0 means 10,000. An answer with more pods is
	// not usable.
	MaxPods int

	once sync.Once
	err  error
	urls []*url.URL
	http atomic.Pointer[http.Client]
}

// Answer contains the last good pods of a service, and whether the servers answer. Client.Follow
// passes an Answer to its caller.
type Answer struct {
	// Known means that a server has answered at least once. Until then, Pods is empty and means
	// nothing.
	Known bool
	// Pods are the pods in the last good answer, sorted by address. Later Answers may contain the
	// same slice, so the receiver must not change it.
	Pods []endpoints.Pod
	// Revision names the content of Pods. Equal pods have equal revisions.
	Revision string
	// Age is how old the Pods were when the last good answer arrived. It is 0 if the server was in
	// contact with the source of its Pods, such as the API server. Otherwise it is the time since
	// the server lost this contact.
	Age time.Duration
	// Err says why no server answers, or why no answer is usable. nil means that a server has given
	// a usable answer to the last request. While Err is not nil, the other fields keep their last
	// values.
	Err error
	// Since is the time of the first failure since the last good answer. It is zero if Err is nil.
	Since time.Time
}

const (
	// minPollInterval is the shortest time from one request to the next if the answer to the first
	// has no new pods. Without this limit, a server that ignores the parameter "wait" would get one
	// request after another without a pause.
	minPollInterval = time.Second
	// The pause after all servers have failed grows from minPause to maxPause.
	minPause, maxPause = 500 * time.Millisecond, 10 * time.Second
	// If an answer says that its list of pods is at least staleAge old, a Client also sends its
	// request to the other servers.
	staleAge = 10 * time.Second
)

func (c *Client) init() error {
	c.once.Do(func() {
		c.http.Store(cmp.Or(c.HTTPClient, apiclient.New(c.TLS)))
		if len(c.URLs) == 0 {
			c.err = errors.New("httpapi: no URL")
		}
		for _, text := range c.URLs {
			u, err := url.Parse(text)
			switch {
			case err != nil:
				c.err = fmt.Errorf("httpapi: %w", err)
			case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
				c.err = fmt.Errorf("httpapi: %.80q is not an HTTP URL", text)
			case u.RawQuery != "" || u.Fragment != "":
				c.err = fmt.Errorf("httpapi: %.80q: want no query and no fragment", text)
			}
			if c.err != nil {
				return
			}
			c.urls = append(c.urls, u)
		}
	})
	return c.err
}

// Check returns an error for the first wrong field, or nil.
func (c *Client) Check() error { return c.init() }

// CloseIdleConnections closes the connections that no request is using.
func (c *Client) CloseIdleConnections() {
	if c.init() == nil {
		c.client().CloseIdleConnections()
	}
}

func (c *Client) client() *http.Client { return c.http.Load() }

// SetTLS replaces the field TLS for new connections, for example when the file of authorities has
// changed. If HTTPClient is set, SetTLS does nothing. SetTLS is safe for concurrent use.
func (c *Client) SetTLS(conf *tls.Config) {
	if c.init() == nil && c.HTTPClient == nil {
		c.http.Swap(apiclient.New(conf)).CloseIdleConnections()
	}
}

// Follow follows the pods of one service until ctx ends, and returns the error of ctx. If a field
// of the Client or a name in ref is wrong, Follow returns another error immediately.
//
// Follow calls the function "changed", in the goroutine that calls Follow:
//
//   - after the first answer;
//   - after each change of the pods;
//   - when the servers begin or cease to fail;
//   - when Age becomes 0, or is no longer 0.
//
// An answer is usable if its status is 200 or 304, its fields are correct, and it is not too large.
// While no server sends a usable answer, the last pods stay without a time limit. Follow tries
// again after 0.25 to 0.5 s, and doubles the pause with each failure, to at most 5 to 10 s.
//
// Follow accepts every usable answer, even if it contains no pods. It need not doubt an empty
// answer, because the server has already checked the lists of its source.
func (c *Client) Follow(ctx context.Context, ref nodeselect.Ref, changed func(Answer)) error {
	if err := c.init(); err != nil {
		return err
	}
	if err := checkRef(ref); err != nil {
		return fmt.Errorf("httpapi: %w", err)
	}
	f := &follower{client: c, ref: ref, server: rand.N(len(c.urls)), changed: changed}
	pause := minPause
	for ctx.Err() == nil {
		began := time.Now()
		fresh, err := f.poll(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			f.failed(err, began)
			apiclient.Sleep(ctx, pause/2+rand.N(pause/2)) // so that many clients do not send their requests at the same moment
			pause = min(2*pause, maxPause)
		default:
			pause = minPause
			if news := f.answered(fresh); !news {
				apiclient.Sleep(ctx, minPollInterval-time.Since(began))
			}
		}
	}
	return context.Cause(ctx)
}

// follower is a running Follow.
type follower struct {
	client  *Client
	ref     nodeselect.Ref
	server  int // index of the server to ask next
	last    Answer
	changed func(Answer)
}

// poll sends the request to one server after the other, beginning with the current one, until a
// server answers. If the age in the answer is at least staleAge, poll also sends the request to the
// other servers, and returns the answer with the smallest age. If no server answers, it returns the
// errors of all servers.
func (f *follower) poll(ctx context.Context) (received, error) {
	wait := cmp.Or(max(f.client.Wait, 0), 5*time.Second)
	var failures []error
	for range f.client.urls {
		best, err := f.ask(ctx, f.server, wait)
		if err == nil {
			if best.age >= staleAge {
				best = f.younger(ctx, best)
			}
			return best, nil
		}
		failures = append(failures, err)
		f.server = (f.server + 1) % len(f.client.urls)
	}
	return received{}, fmt.Errorf("httpapi: %w", errors.Join(failures...))
}

// The method "younger" asks the other servers too, because the answer "best" is old. It returns the
// answer with the smallest age: "best", or the answer of another server. The next request goes to
// the server of the returned answer.
func (f *follower) younger(ctx context.Context, best received) received {
	present := f.server
	for i := range f.client.urls {
		if i == present {
			continue
		}
		if other, err := f.ask(ctx, i, 0); err == nil && other.age < best.age {
			f.server, best = i, other
		}
	}
	return best
}

// ask sends one request to a server. If the pods have not changed, the result has the pods of the
// last answer.
func (f *follower) ask(ctx context.Context, server int, wait time.Duration) (received, error) {
	c := f.client
	ctx, cancel := context.WithTimeout(ctx, wait+cmp.Or(max(c.Timeout, 0), 10*time.Second))
	defer cancel()
	answerTimeout := cmp.Or(max(c.AnswerTimeout, 0), 3*time.Second)
	u := c.urls[server].JoinPath("v1", "pods", f.ref.Namespace, f.ref.Service, f.ref.Port)
	req := apiclient.Request{UserAgent: "headgate-discovery", Token: c.Token, MaxBody: cmp.Or(max(c.MaxBody, 0), 8<<20)}
	if f.last.Known {
		req.IfNoneMatch = `"` + f.last.Revision + `"`
		if wait > 0 {
			u.RawQuery = url.Values{"wait": {wait.String()}}.Encode()
		}
	}
	req.URL = u.String()
	if u.RawQuery == "" {
		wait = 0
	}
	ctx, stop := boundSilence(ctx, wait, answerTimeout)
	defer stop()
	resp, body, err := apiclient.Get(ctx, c.client(), req)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errSilent) {
		return received{}, fmt.Errorf("%s: %w", c.urls[server].Redacted(), cause)
	}
	if err != nil {
		return received{}, err // a *url.Error, which names the URL
	}
	switch {
	case resp.StatusCode == http.StatusNotModified && f.last.Known:
		seconds, _ := apiclient.ParseSeconds(resp.Header.Get("Age"))
		return received{revision: f.last.Revision, age: time.Duration(seconds) * time.Second, pods: f.last.Pods}, nil
	case resp.StatusCode != http.StatusOK:
		return received{}, fmt.Errorf("%s answered %s: %.300q", c.urls[server].Redacted(), resp.Status, body)
	}
	answer, err := parseAnswer(body, f.ref, cmp.Or(max(c.MaxPods, 0), 10000))
	if err != nil {
		return received{}, fmt.Errorf("answer of %s: %w", c.urls[server].Redacted(), err)
	}
	return answer, nil
}

// answered stores an answer, and passes it to the caller of Follow if it differs from the last
// answer. The result "news" is true if the pods have changed.
func (f *follower) answered(fresh received) (news bool) {
	before := f.last
	f.last = Answer{Known: true, Pods: fresh.pods, Revision: fresh.revision, Age: fresh.age}
	news = !before.Known || before.Revision != fresh.revision
	if news && slices.Equal(before.Pods, fresh.pods) {
		f.last.Pods = before.Pods
	}
	if news || before.Err != nil || (before.Age == 0) != (fresh.age == 0) {
		f.changed(f.last)
	}
	return news
}

// failed stores a failure of the request. It calls the function "changed" with the failure, unless
// the last failure had the same text.
func (f *follower) failed(err error, began time.Time) {
	before := f.last.Err
	if before == nil {
		f.last.Since = began
	}
	f.last.Err = err
	if before == nil || before.Error() != err.Error() {
		f.changed(f.last)
	}
}
