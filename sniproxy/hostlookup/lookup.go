package hostlookup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Endpoint is where the traffic for a host goes. Endpoints are comparable. The zero Endpoint is
// not valid. The JSON of an Endpoint is {"app": …, "host": …, "endpoint": …}, both in a hosts file
// and in the host API (package httpapi).
type Endpoint struct {
	// App is the name of the application, for logs and pages. It may be empty.
	App string `json:"app"`

	// Host is the name under which the source has the host. It differs from the name in the
	// lookup if the source has an alias, or a wildcard such as "*.example.com".
	Host string `json:"host"`

	// Addr is the address to connect to: "10.0.0.24", "10.0.0.24:443", "[2001:db8::1]:443",
	// "backend.internal" or "backend.internal.:8443". If Addr has no port, the router connects to
	// the port that the client used; see DialAddr.
	Addr string `json:"endpoint"`

	// TTL is how long the source allows to keep this endpoint, counted from the source's answer.
	// 0 means that the source does not say, and a Cache uses its own TTL. A negative TTL forbids
	// to keep the endpoint.
	TTL time.Duration `json:"-"`
}

// ErrNotFound reports that a host does not exist. A source returns ErrNotFound, or an error that
// wraps it, only if it knows that. Any other error means that the source cannot answer at the
// moment.
var ErrNotFound = errors.New("hostlookup: host not found")

// An Answer is an endpoint, and the Level that it comes from.
type Answer struct {
	Endpoint
	Level Level
}

// A Lookup finds the endpoint of a host.
//
// The host is in normal form, as package peek returns it: lower case, IDNA A-labels, without a
// port and a final dot. If LookupHost fails, the Answer has a Level and no Endpoint.
//
// A Lookup must be safe for concurrent use, and should return soon after ctx ends.
type Lookup interface {
	LookupHost(ctx context.Context, host string) (Answer, error)
}

// A Peeker is a Lookup that can answer some lookups at once. Cache, File and Hosts are Peekers,
// and so are the results of Chain and Default.
type Peeker interface {
	Lookup

	// Peek returns the result of LookupHost if that needs neither a source nor any other wait.
	// Otherwise it returns ErrWouldWait.
	Peek(host string) (Answer, error)
}

// ErrWouldWait reports that a Peek has no result: LookupHost would wait.
var ErrWouldWait = errors.New("hostlookup: the lookup would wait")

// peek returns the result of l.Peek if l is a Peeker. Otherwise it returns ErrWouldWait.
func peek(l Lookup, host string) (Answer, error) {
	if p, ok := l.(Peeker); ok {
		return p.Peek(host)
	}
	return Answer{}, ErrWouldWait
}

// A Func is a function that is a Lookup. The Level of its answers is Miss.
type Func func(ctx context.Context, host string) (Endpoint, error)

// LookupHost calls f.
func (f Func) LookupHost(ctx context.Context, host string) (Answer, error) {
	ep, err := f(ctx, host)
	return Answer{Endpoint: ep}, err
}

// An Error is an error with a lifetime. A source may return any error; with an Error it controls
// how long a Cache keeps it.
type Error struct {
	// Err is ErrNotFound, or the failure.
	Err error

	// TTL is how long a Cache keeps ErrNotFound: 0 means the Cache's own time, negative not at
	// all. With a failure, TTL is how long the Cache waits before it asks the source about this
	// host again, like the Retry-After header: 0 and negative mean the Cache's own time.
	TTL time.Duration
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// errorTTL returns the TTL of the Error that err is or wraps, else 0.
func errorTTL(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.TTL
	}
	return 0
}

// A Level is where an answer comes from.
type Level uint8

const (
	Miss     Level = iota // the source
	Hit                   // a stored endpoint within its TTL
	Negative              // a stored ErrNotFound within its TTL
	Stale                 // a stored endpoint past its TTL, because the source failed or has not answered yet
	Failed                // a stored failure of the source; the source was not asked again
)

// String returns the level as metrics and logs show it: "miss", "hit", "negative", "stale" or
// "failed".
func (l Level) String() string {
	switch l {
	case Miss:
		return "miss"
	case Hit:
		return "hit"
	case Negative:
		return "negative"
	case Stale:
		return "stale"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}
