package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ReadyHandler serves a readiness endpoint such as /readyz. The endpoint answers 200 while there is
// no drain, and 503 with the progress during a drain. If check is not nil and returns an error, the
// endpoint answers 503 with the text of the error.
func (d *Drainer) ReadyHandler(check func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := d.Ready()
		if err == nil && check != nil {
			err = check(r.Context())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// Control serves the endpoint /drain:
//
//	POST             begins a drain, and answers when the drain is over
//	POST ?wait=5s    answers after 5 s at the latest; wait=0s answers at once
//	POST ?stream     answers with a line of progress each second; the last line has the result
//	POST ?undo       ends the drain, as DELETE does
//	DELETE           ends the drain
//	GET, HEAD        reports the progress and changes nothing
//	GET ?begin       works like POST, for httpGet of a preStop hook; needs AllowGET
//
// The answer is one line of text. With stream, the status is always 200. Without stream, the status
// means:
//
//	200  POST: no request or connection is open any more
//	202  POST: the time in wait has passed, and the drain is not over yet
//	409  POST: somebody has undone the drain; DELETE: it is too late, after Drainer.Shutdown
//	504  POST: requests or connections are still open at the end of Settings.Timeout
type Control struct {
	Drainer *Drainer
	// Allow decides whether a client may begin or undo a drain. nil permits only clients of a Unix
	// socket. Control always refuses requests that a web page sends.
	Allow func(*http.Request) bool
	// AllowGET lets clients begin a drain with a GET request that has the parameter "begin" ("GET
	// ?begin"). Allow must permit this request too. A GET without this parameter never begins a
	// drain, because links, crawlers and monitors send GET too.
	AllowGET bool
}

// AllowFrom returns a value for Control.Allow that permits clients of a Unix socket, and clients
// whose address is in one of the networks. It refuses requests with a header Forwarded, Via or
// X-Forwarded-For, because their address is the address of a proxy. Some proxies add none of these
// headers, so serve Control on a port that no proxy forwards to.
func AllowFrom(networks ...netip.Prefix) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if isUnix(r) {
			return true
		}
		for _, header := range []string{"Forwarded", "Via", "X-Forwarded-For"} {
			if r.Header[header] != nil {
				return false
			}
		}
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		addr := peer.Addr().Unmap().WithZone("")
		for _, n := range networks {
			if n.Contains(addr) {
				return true
			}
		}
		return false
	}
}

// Loopback returns the networks of the loopback device, for AllowFrom. In a pod, all containers of
// the pod, and the programs that "kubectl exec" starts in them, connect from these networks.
func Loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func isUnix(r *http.Request) bool {
	_, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return unix
}

// ServeHTTP answers the request; see Control.
func (c Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	_, isPage := r.Header["Sec-Fetch-Site"]
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && !query.Has("begin") {
		fmt.Fprintln(w, c.Drainer.Progress())
		return
	}
	allow := c.Allow
	if allow == nil {
		allow = isUnix
	}
	switch {
	case reads && (!c.AllowGET || r.Method == http.MethodHead), !reads && r.Method != http.MethodPost && r.Method != http.MethodDelete:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "a drain begins with POST", http.StatusMethodNotAllowed)
	case isPage || r.Header["Origin"] != nil:
		http.Error(w, "not from a web page", http.StatusForbidden)
	case !allow(r):
		http.Error(w, "clients at "+r.RemoteAddr+" may not control the drain", http.StatusForbidden)
	case r.Method == http.MethodDelete || query.Has("undo"):
		c.undo(w)
	default:
		c.begin(w, r)
	}
}

func (c Control) undo(w http.ResponseWriter) {
	before, err := c.Drainer.Undo()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case before.State == Serving:
		fmt.Fprintln(w, "there was no drain")
	default:
		fmt.Fprintln(w, "the drain since "+before.Since.UTC().Format(time.RFC3339)+" has ended")
	}
}

func (c Control) begin(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if text := r.URL.Query().Get("wait"); text != "" {
		wait, err := time.ParseDuration(text)
		if err != nil || wait < 0 {
			http.Error(w, fmt.Sprintf("wait=%s: want a duration such as 5s", text), http.StatusBadRequest)
			return
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	if e, ok := ctx.Value(entryKey{}).(*connEntry); ok {
		c.Drainer.countControl(e, 1)
		defer c.Drainer.countControl(e, -1)
	}
	// Remove the write time-out of this response, because the drain may last longer than the
	// WriteTimeout of the server.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{})
	c.Drainer.Begin()
	if r.URL.Query().Has("stream") {
		c.stream(ctx, w, control)
		return
	}
	p, err := c.Drainer.Wait(ctx)
	switch {
	case err == nil:
		fmt.Fprintln(w, p)
	case errors.Is(err, ErrUndone):
		http.Error(w, "the drain was undone", http.StatusConflict)
	case p.State == Expired:
		http.Error(w, p.String(), http.StatusGatewayTimeout)
	default: // wait is over, or the client is gone
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintln(w, p)
	}
}

// stream writes the progress of the drain as lines of text, until the drain is over or ctx ends. It
// looks at the progress once a second, and writes a line if the text has changed.
func (c Control) stream(ctx context.Context, w http.ResponseWriter, control *http.ResponseController) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	var last string
	for {
		second, cancel := context.WithTimeout(ctx, time.Second)
		p, err := c.Drainer.Wait(second)
		cancel()
		line := p.String()
		if errors.Is(err, ErrUndone) {
			line = "the drain was undone"
		}
		if line != last {
			fmt.Fprintln(w, line)
			last = line
		}
		if control.Flush() != nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return
		}
	}
}

// countControl records that a request to Control begins (change is 1) or ends (change is -1) on the
// connection e.
func (d *Drainer) countControl(e *connEntry, change int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.control += change
}

// Request begins or undoes a drain in another process: it sends a POST request to the Control of
// that process, and returns the text of the answer. address is unix:PATH or HOST:PORT; path is the
// path and query of Control, such as "/drain?undo". A status other than 200 and 202 is an error.
//
// Request has no timeout of its own, so give ctx a deadline. A program can call Request in a
// subcommand for its preStop hook; then its container needs no shell and no curl.
func Request(ctx context.Context, address, path string) (string, error) {
	network := "tcp"
	host := address
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address, host = "unix", socket, "localhost"
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+path, nil)
	if err != nil {
		return "", err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return "", err
	}
	answer := strings.TrimSpace(string(text))
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("drain: %s: %s", res.Status, answer)
	}
	return answer, nil
}
