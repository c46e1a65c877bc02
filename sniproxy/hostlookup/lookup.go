package hostlookup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Endpoint is the answer to "where does the traffic for this host go?".
// It is a plain comparable value. The zero Endpoint is no answer. As JSON it is
// {"app": …, "host": …, "endpoint": …}, in hosts files and in the host API (package httpapi).
type Endpoint struct {
	// App names the application, for logs and pages. May be empty.
	App string `json:"app"`

	// Host is the name that the source knows the host by. It may differ from
	// the name that was asked for: an alias, or a wildcard such as "*.example.com".
	Host string `json:"host"`

	// Addr is where to connect: "10.0.0.24", "10.0.0.24:443", "[2001:db8::1]:443",
	// "backend.internal" or "backend.internal:8443". Without a port the traffic goes
	// to the port that the client used; see DialAddr.
	Addr string `json:"endpoint"`

	// TTL is the source's word on how long the answer may be kept. 0: it has
	// none, a Cache takes its own. Negative: not at all. It is the source's
	// figure as given, not what is left of it.
	TTL time.Duration `json:"-"`
}

// ErrNotFound says with authority that a host does not exist. A source returns
// it, or an error that wraps it, only when it knows; any other error means
// "unknown for now", and is never taken for ErrNotFound.
var ErrNotFound = errors.New("hostlookup: host not found")

// A Lookup finds the endpoint of a host. The host is in normal form: lower case,
// A-labels, without port and trailing dot, as package peek gives it.
//
// A Lookup must be safe for concurrent use, and should return soon after ctx ends.
type Lookup interface {
	LookupHost(ctx context.Context, host string) (Endpoint, error)
}

// Func makes a Lookup of a function.
type Func func(ctx context.Context, host string) (Endpoint, error)

// LookupHost calls f.
func (f Func) LookupHost(ctx context.Context, host string) (Endpoint, error) { return f(ctx, host) }

// An Error is an answer other than an endpoint together with the time for which
// the source asks not to be asked again. Sources may return any error; this one
// lets them steer a Cache.
type Error struct {
	// Err is ErrNotFound, or what went wrong.
	Err error

	// TTL is for how long the answer holds. With ErrNotFound: how long that may
	// be kept; 0 is the cache's choice, negative is not at all. With another
	// error: do not ask about this host again earlier, as the Retry-After header
	// has it; 0 and negative are the cache's choice.
	TTL time.Duration
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// errorTTL returns what err says about its own lifetime.
func errorTTL(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.TTL
	}
	return 0
}

// A Level tells where an answer came from.
type Level uint8

const (
	Miss     Level = iota // the source was asked, or waited for
	Hit                   // a stored endpoint within its TTL
	Negative              // a stored "not found" within its TTL
	Stale                 // a stored endpoint past its TTL, because the source failed, is slow, or is being asked
	Failed                // a failure of the source a moment ago; it was not asked again
)

// String returns the level as a word in lower case, as metrics and logs have it.
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

// A LevelLookup is a Lookup that tells where its answer came from. Cache is one,
// and so are Chain and Default around one.
type LevelLookup interface {
	Lookup
	Get(ctx context.Context, host string) (Endpoint, Level, error)
}

// Get asks l, and returns the level of its answer too: Miss unless l is a
// LevelLookup.
func Get(ctx context.Context, l Lookup, host string) (Endpoint, Level, error) {
	if ll, ok := l.(LevelLookup); ok {
		return ll.Get(ctx, host)
	}
	ep, err := l.LookupHost(ctx, host)
	return ep, Miss, err
}
