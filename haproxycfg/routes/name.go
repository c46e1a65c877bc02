package routes

import (
	"errors"
	"strings"
)

// Name returns host and path of the route, such as "api.example.com/tracks". The name of an exact
// route begins with "=". No two routes of a Table have the same name.
func (r *Route) Name() string {
	if r.Exact {
		return "=" + r.Host + r.Path
	}
	return r.Host + r.Path
}

// ParseName parses the name of a route in any spelling that a declaration may contain. It returns
// the parts in normal form, as Route.Host, Route.Path and Route.Exact. The path of
// "API.example.com" is "/".
func ParseName(name string) (host, path string, exact bool, err error) {
	text, exact := strings.CutPrefix(name, "=")
	host, path = text, ""
	if i := strings.IndexByte(text, '/'); i >= 0 {
		host, path = text[:i], text[i:]
	}
	if host == "" {
		return "", "", false, errors.New("routes: the name of a route begins with its host")
	}
	if host, err = normalPattern(host); err == nil {
		path, err = normalPath(path, exact)
	}
	if err != nil {
		return "", "", false, errors.New("routes: " + quote(name) + " " + err.Error())
	}
	return host, path, exact, nil
}

// CanonicalName returns the name of a route as Route.Name returns it. The argument "name" may have
// any spelling that ParseName accepts: "API.example.com" → "api.example.com/".
func CanonicalName(name string) (string, error) {
	host, path, exact, err := ParseName(name)
	if err != nil {
		return "", err
	}
	r := Route{Host: host, Path: path, Exact: exact}
	return r.Name(), nil
}
