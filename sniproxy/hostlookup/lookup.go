package hostlookup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Endpoint is the destination of the traffic for a host. Endpoints are comparable; the zero
// Endpoint is not valid. In a hosts file and in the host API (package httpapi), it is the JSON
// object {"app": …, "host": …, "endpoint": …}.
type Endpoint struct {
	// App is the name of the application, for logs and status pages. It may be "".
	App string `json:"app"`

	// Host is the name under which the source has the endpoint. It differs from the name in the
	// lookup if the source has an alias or a wildcard such as "*.example.com".
	Host string `json:"host"`

	// Addr is the address to connect to: "10.0.0.24", "10.0.0.24:443", "[2001:db8::1]:443",
	// "backend.internal" or "backend.internal.:8443". Without a port, the router uses the port that
	// the client used; see DialAddr.
	Addr string `json:"endpoint"`

	// TTL is how long a cache may keep this endpoint after the source has returned it:
	//
	//   - 0 means Cache.TTL.
	//   - A negative value means that a cache must not keep the endpoint.
	//   - Revalidate means that a Cache asks the source at each lookup. It serves the kept endpoint
	//     only while the source fails or is slow.
	TTL time.Duration `json:"-"`
}

// ErrNotFound reports that a host does not exist. A source may return ErrNotFound, or an error that
// wraps it, only if the source is certain. If the source cannot answer at the moment, it must
// return another error.
var ErrNotFound = errors.New("hostlookup: host not found")

// An Answer is an endpoint, and the Level that says where it comes from.
type Answer struct {
	Endpoint
	Level Level
}

// A Lookup finds the endpoint of a host. It must be safe for concurrent use.
//
// The host is in normal form, as package peek returns it: lower case, IDNA A-labels, no port, no
// final dot. If LookupHost returns an error, the Answer has only a Level. LookupHost should return
// soon after ctx ends.
type Lookup interface {
	LookupHost(ctx context.Context, host string) (Answer, error)
}

// A Peeker is a Lookup that can answer some lookups without waiting. Cache, File, Hosts, and the
// results of Chain and Default are Peekers.
type Peeker interface {
	Lookup

	// Peek returns the result of LookupHost if it is available without waiting. If LookupHost would
	// have to ask a source or wait for anything else, Peek returns ErrWouldWait.
	Peek(host string) (Answer, error)
}

// ErrWouldWait is the error of Peek if LookupHost would have to wait.
var ErrWouldWait = errors.New("hostlookup: the lookup would wait")

// peek returns the result of l.Peek if l is a Peeker. Otherwise it returns ErrWouldWait.
func peek(l Lookup, host string) (Answer, error) {
	if p, ok := l.(Peeker); ok {
		return p.Peek(host)
	}
	return Answer{}, ErrWouldWait
}

// A Func is a Lookup that calls a function. The Level of its answers is Miss.
type Func func(ctx context.Context, host string) (Endpoint, error)

// LookupHost calls f.
func (f Func) LookupHost(ctx context.Context, host string) (Answer, error) {
	ep, err := f(ctx, host)
	return Answer{Endpoint: ep}, err
}

// An Error is an error of a source, with the time for which a Cache stores it. A source may also
// return errors of other types; the Cache then decides how long it stores them.
type Error struct {
	// Err is ErrNotFound, or the failure of the source.
	Err error

	// If Err is ErrNotFound, TTL is how long a Cache keeps this answer. 0 means Cache.NegativeTTL. A
	// negative TTL, or the constant Revalidate, means that a Cache does not keep the answer.
	//
	// If Err is a failure, TTL is the time after which a Cache asks the source about this host again,
	// as with the header Retry-After. It is at most 5 minutes. If TTL is 0 or negative, the Cache
	// decides when to ask.
	TTL time.Duration
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// errorTTL returns the TTL of err if err is an Error or wraps an Error. Otherwise it returns 0.
func errorTTL(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.TTL
	}
	return 0
}

// A Level says where an answer comes from.
type Level uint8

const (
	Miss     Level = iota // the source has answered this lookup
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
