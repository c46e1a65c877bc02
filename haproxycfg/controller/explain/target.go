package explain

import (
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/dotsegment"
	"github.com/headgate/headgate/internal/hostname"
)

// Target is a host and a path of requests.
type Target struct {
	// Host is a name in the normal form of declarations: in lower case, without a port and without
	// a final dot. It may be a wildcard such as "*.example.com", which stands for the declared
	// wildcard itself.
	Host string
	// Path is the path that a client sends in a request, without the query. It begins with a slash.
	Path string
}

// String returns host and path.
func (t Target) String() string { return t.Host + t.Path }

// route returns the route of the table that serves the target. For a wildcard, it looks up the host
// with "-" as its first label, because no declared host begins with "-". HAProxy has no route for
// the host "*.example.com" itself.
func (t Target) route(table routes.Table) (routes.Route, bool) {
	host := t.Host
	if parent, ok := strings.CutPrefix(host, "*."); ok {
		host = "-." + parent
	}
	return table.Match(host, t.Path)
}

// maxTarget is the largest length of the argument of ParseTarget in bytes.
const maxTarget = 8 << 10

// ParseTarget parses HOST/PATH or a URL with http:// or https://. A missing path means "/".
// ParseTarget removes a port, a query and a fragment. It returns an error if the host is not a host
// name, or if the path has a character that is not visible ASCII.
func ParseTarget(text string) (Target, error) {
	if len(text) > maxTarget {
		return Target{}, fmt.Errorf("explain: the text has more than %d bytes", maxTarget)
	}
	rest := text
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(rest) >= len(scheme) && strings.EqualFold(rest[:len(scheme)], scheme) {
			rest = rest[len(scheme):]
			break
		}
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	host, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if strings.HasSuffix(host, ":") && strings.HasPrefix(path, "//") {
		return Target{}, fmt.Errorf("explain: %.300q: want http://, https:// or no scheme", text)
	}
	return NewTarget(host, path)
}

// NewTarget returns the Target of a host, in any spelling that a declaration may contain, and a
// path. An empty path means "/".
func NewTarget(host, path string) (Target, error) {
	if host == "" {
		return Target{}, errors.New("explain: want HOST/PATH, such as api.example.com/tracks")
	}
	name, err := hostname.NormalizePattern(host)
	if err != nil {
		return Target{}, fmt.Errorf("explain: the host %.300q: %w", host, err)
	}
	if path == "" {
		path = "/"
	}
	if path[0] != '/' {
		return Target{}, fmt.Errorf("explain: the path %.300q does not begin with a slash", path)
	}
	if len(path) > maxTarget {
		return Target{}, fmt.Errorf("explain: the path has more than %d bytes", maxTarget)
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ' || c > '~':
			return Target{}, fmt.Errorf("explain: byte %d of the path is %q: write it with percent-encoding, as clients do", i, c)
		case c == '?' || c == '#':
			return Target{}, fmt.Errorf("explain: byte %d of the path is %q, with which a query or a fragment begins", i, c)
		}
	}
	return Target{name, path}, nil
}

// refused returns the reason why HAProxy refuses the request before it looks for a route. It
// returns "" if HAProxy does not refuse the request.
func (t Target) refused() string {
	if dotsegment.In(t.Path) {
		return "HAProxy answers 400: the path has a segment that some servers read as \".\" or \"..\""
	}
	return ""
}
