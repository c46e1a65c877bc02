package haproxycfg

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// ServerOptions are settings that all servers of a backend share.
type ServerOptions struct {
	// MaxConn is the largest number of requests that HAProxy sends to one server at the same time;
	// further requests wait in a queue. 0 means no limit.
	MaxConn int
	// SlowStart is the time over which a server that comes up gets its full share of requests. It
	// does not apply when HAProxy starts. 0 means that the server gets its full share immediately.
	SlowStart time.Duration
	// EjectErrors is the number of consecutive bad answers after which HAProxy marks a server with
	// Check as down. Bad answers are failed connections, broken responses, time-outs, and the
	// statuses 500 to 599 except 501 and 505. The server is up again after Health.Rise good health
	// checks: the first comes within Health.Interval, then one comes every Health.FastInterval. 0
	// means that HAProxy does not look at answers.
	EjectErrors int
	// PoolPurge is the time after which HAProxy closes half of the idle connections that it did not
	// need ("pool-purge-delay"). 0 means HAProxy's default, 5s.
	PoolPurge time.Duration
	// NoPool makes HAProxy close each connection to a server as soon as it is idle and its client
	// has gone, so no other client's request uses it. Use it if servers close idle connections so
	// early that requests fail.
	NoPool bool
}

func (o *ServerOptions) append(t *text) {
	if o.MaxConn > 0 {
		t.raw(" maxconn")
		t.int(o.MaxConn)
	}
	if o.SlowStart > 0 {
		t.raw(" slowstart")
		t.duration(o.SlowStart)
	}
	if o.EjectErrors > 0 {
		t.raw(" observe layer7 error-limit")
		t.int(o.EjectErrors)
		t.raw(" on-error mark-down")
	}
	if o.PoolPurge > 0 {
		t.raw(" pool-purge-delay")
		t.duration(o.PoolPurge)
	}
	if o.NoPool {
		t.raw(" pool-max-conn 0")
	}
}

func (v *validator) serverOptions(o *ServerOptions) {
	v.number("Options.MaxConn", o.MaxConn, 0, math.MaxInt32)
	v.duration("Options.SlowStart", o.SlowStart)
	v.number("Options.EjectErrors", o.EjectErrors, 0, math.MaxInt16)
	v.duration("Options.PoolPurge", o.PoolPurge)
}

// Reuse says when a request may use an idle connection to a server that HAProxy opened for another
// client ("http-reuse").
type Reuse string

// The values of Reuse.
const (
	ReuseNever      Reuse = "never"
	ReuseSafe       Reuse = "safe"       // except the first request of a client's connection; HAProxy's default
	ReuseAggressive Reuse = "aggressive" // also the first request, if the connection has already served several requests
	ReuseAlways     Reuse = "always"     // every request
)

// appendSharedWords appends the words that the servers of the backend share. HAProxy's configuration
// has them in the line default-server, and the command "add server" on each server.
func (b *Backend) appendSharedWords(t *text, checkProto bool) {
	b.Health.appendWords(t, b.AgentInterval)
	if b.http2() {
		t.raw(" proto h2")
		if checkProto && !b.Health.GRPC { // GRPC sends its own frames
			t.raw(" check-proto h2")
		}
	}
	b.Options.append(t)
}

// AddServer returns the command of HAProxy's runtime API that adds a server to the running backend
// b: "add server BACKEND/NAME ADDRESS WORD…". The command ignores the line default-server. So
// AddServer writes the words that Render writes in the server line and in default-server, and the
// server has the same settings after a reload.
//
// HAProxy adds the server in maintenance, and with its checks off. To put it into service, send
// "enable health BACKEND/NAME" if s.Check is true, "enable agent BACKEND/NAME" if s.AgentPort is not
// 0, then "enable server BACKEND/NAME".
//
// AddServer returns an error if HAProxy cannot add such a server at run time: a server of a backend
// with [Source] or [URI], a server with AgentSend, or an invalid server. Track works only if the
// tracked server was not added at run time.
func (b *Backend) AddServer(s Server) (string, error) {
	switch {
	case b.Balance == Source || b.Balance == URI:
		return "", fmt.Errorf("haproxycfg: backend %s: HAProxy adds no servers with balance %s at run time", b.Name, b.Balance)
	case s.AgentSend != "":
		return "", fmt.Errorf("haproxycfg: backend %s: HAProxy adds no servers with AgentSend at run time", b.Name)
	}
	var v validator
	checked := s
	checked.Track = "" // HAProxy itself checks whether the tracked server exists
	if !v.serverOK(nil, &checked) || !validTrack(s.Track) || !validName(b.Name) {
		return "", fmt.Errorf("%w: backend %s: server %s", ErrInvalid, b.Name, s.Name())
	}
	t := append(make(text, 0, 256), "add server "...)
	t.raw(b.Name)
	t.raw("/")
	t = s.appendWords(t)
	// HAProxy refuses check-proto at run time unless the check is an HTTP request. A check that
	// only connects works without it.
	b.appendSharedWords(&t, b.Health.Path != "")
	return string(t), nil
}

// validTrack reports whether s is "" or consists of two names and a slash.
func validTrack(s string) bool {
	backend, server, _ := strings.Cut(s, "/")
	return s == "" || validName(backend) && validName(server)
}
