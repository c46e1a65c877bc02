package drain

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// answerTime is a pause of Serve after the end of a drain. In this time, Control answers the
// requests that waited for the end of the drain. One second is enough, because each of these
// requests notices the end within 100 ms.
const answerTime = time.Second

// Run listens on srv.Addr, with TLS if srv.TLSConfig is set, and serves until ctx ends or the
// process receives SIGTERM or SIGINT. Then it drains as Serve does. A second signal ends the
// process at once.
func (d *Drainer) Run(ctx context.Context, srv *http.Server) error {
	byDefault := ":http"
	if srv.TLSConfig != nil {
		byDefault = ":https"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cmp.Or(srv.Addr, byDefault))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // so that a second signal has its default action
	return d.Serve(ctx, srv, l)
}

// Serve attaches the Drainer to srv and serves the listeners, with TLS if srv.TLSConfig is set.
// When ctx ends, Serve drains:
//
//  1. Readiness fails, and srv serves new requests until Delay is over.
//  2. Serve closes the listeners and the idle connections.
//  3. It waits for requests and connections until Timeout is over.
//  4. It closes all connections that are still open, after at most 1 s in which requests to Control
//     get their answers.
//
// Serve returns nil if nothing was open after step 3, and an *ExpiredError otherwise. It does not
// close hijacked connections. If a listener fails, Serve closes everything at once and returns the
// error.
//
// Use srv for this call only. Other servers of the program can share the Drainer through Attach.
func (d *Drainer) Serve(ctx context.Context, srv *http.Server, listeners ...net.Listener) error {
	d.Attach(srv)
	serve := srv.Serve
	if srv.TLSConfig != nil { // check this now, because Serve sets a TLSConfig for HTTP/2
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- serve(l) }()
	}
	running := len(listeners)
	var err error
	select {
	case err = <-served:
		running--
	case <-ctx.Done():
		working, failed := context.WithCancelCause(context.WithoutCancel(ctx))
		shut := make(chan struct{})
		finished := make(chan struct{})
		go func() { // if a listener fails during Delay, the drain ends
			defer close(finished)
			for running > 0 {
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					failed(err)
				}
				running--
			}
		}()
		_, err = d.Shutdown(working, func() {
			go func() {
				defer close(shut)
				_ = srv.Shutdown(working) // returns when the context working ends, or when nothing is open
			}()
		})
		select { // requests to Control get their answer now
		case <-shut:
		case <-time.After(answerTime):
		}
		failed(nil)
		<-shut
		_ = srv.Close()
		<-finished
		return err
	}
	err = errors.Join(err, srv.Close())
	for range running {
		<-served
	}
	return err
}
