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
	// SlowStart is the time over which a server gets its full share of requests after it has come
	// up; 0 means that it gets its full share immediately. SlowStart does not apply when HAProxy
	// starts.
	SlowStart time.Duration
	// EjectErrors is the number of bad answers in a row after which HAProxy marks a server with
	// Check as down; 0 means that HAProxy does not look at answers. Bad answers are failed
	// connections, broken responses, time-outs, and the statuses 500 to 599 except 501 and 505. The
	// server is up again after Health.Rise good health checks, one every Health.FastInterval.
	EjectErrors int
	// PoolPurge is a period ("pool-purge-delay"). After each period, HAProxy closes half of the
	// surplus connections: the idle connections that it did not need in the period. 0 means
	// HAProxy's default, 5s.
	PoolPurge time.Duration
	// NoPool makes HAProxy close a connection to a server as soon as the connection is idle and its
	// client has gone. So HAProxy never uses it for a request of another client. Set NoPool if
	// servers close idle connections so early that requests fail.
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

// Reuse says which requests may use an idle connection to a server if HAProxy has opened the
// connection for another client ("http-reuse").
type Reuse string

// The values of Reuse.
const (
	ReuseNever      Reuse = "never"
	ReuseSafe       Reuse = "safe"       // every request except the first one of a client's connection; HAProxy's default
	ReuseAggressive Reuse = "aggressive" // also the first request, if the connection to the server has already served several requests
	ReuseAlways     Reuse = "always"     // every request
)

// appendSharedWords appends the words that all servers of the backend share. Render writes them in
// the line default-server. AddServer writes them in the command "add server" of each server.
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
// b: "add server BACKEND/NAME ADDRESS WORD…". The words include the settings of the line
// default-server, because the command ignores this line.
//
// HAProxy adds the server in maintenance, without checks. To put it into service, send "enable
// health BACKEND/NAME" if s.Check is true, then "enable server BACKEND/NAME", and then "enable agent
// BACKEND/NAME" if s.AgentPort is not 0. In another order, the server is down until the first answer
// of its agent.
//
// AddServer returns an error for an invalid server, a server with AgentSend, and a backend with
// [Source] or [URI]. HAProxy lets no server track a server that was added at run time.
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
	// only connects works without check-proto.
	b.appendSharedWords(&t, b.Health.Path != "")
	return string(t), nil
}

// validTrack reports whether s is "", or two names with a slash between them, such as
// "backend/server".
func validTrack(s string) bool {
	backend, server, _ := strings.Cut(s, "/")
	return s == "" || validName(backend) && validName(server)
}
