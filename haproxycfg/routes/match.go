package routes

import (
	"strings"

	"github.com/headgate/headgate/internal/hostname"
)

// Match returns the route that serves a request, and false if none does. It is
// the meaning of a table; what is rendered from one must agree with it.
//
// host is the Host header or :authority of the request: ASCII letters are
// lowered, a port is cut, then one trailing dot. A declared host beats the
// wildcard above it and hides it, even where none of its paths matches. path is
// the raw path as it was sent, without query, and compared byte by byte: an
// exact path first, then the longest declared path that covers it by whole
// segments.
//
// Match searches by halves and does not allocate.
func (t Table) Match(host, path string) (Route, bool) {
	i := t.matchIndex(host, path)
	if i < 0 {
		return Route{}, false
	}
	return t.routes[i], true
}

// matchIndex returns the index in Routes, or -1.
func (t Table) matchIndex(host, path string) int {
	if len(path) == 0 || path[0] != '/' {
		return -1 // CONNECT and "OPTIONS *" have no path
	}
	var buf [2 + hostname.MaxName]byte // room for "*." before the name
	name := requestHost(buf[2:2], host)
	if len(name) == 0 {
		return -1
	}
	lo, hi := t.hostRange(name)
	if lo == hi {
		if name = wildcardOf(buf[:2+len(name)]); name == nil {
			return -1
		}
		if lo, hi = t.hostRange(name); lo == hi {
			return -1
		}
	}
	return t.matchPath(lo, hi, path)
}

// requestHost appends the normal form of a Host header to dst, at most
// hostname.MaxName; a host that no table can serve gives nothing.
func requestHost(dst []byte, host string) []byte {
	end := len(host)
	for end > 0 && '0' <= host[end-1] && host[end-1] <= '9' {
		end--
	}
	if end > 0 && host[end-1] == ':' {
		host = host[:end-1]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > hostname.MaxName {
		// No declared name is so long, but a wildcard may cover it, and "-" is
		// no label of a declared name.
		first, rest, _ := strings.Cut(host, ".")
		if first == "" || len(rest)+2 > hostname.MaxName {
			return nil
		}
		dst, host = append(dst, "-."...), rest
	}
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// wildcardOf replaces the first label of the name in buf[2:] by "*" in place,
// or returns nil if there is no label to replace or nothing after it.
func wildcardOf(buf []byte) []byte {
	for i := 2; i < len(buf); i++ {
		if buf[i] != '.' {
			continue
		}
		if i == 2 || i+1 == len(buf) {
			return nil
		}
		buf[i-1] = '*'
		return buf[i-1:]
	}
	return nil
}

// hostRange returns the bounds of a host's routes. The conversions within
// comparisons do not allocate.
func (t Table) hostRange(name []byte) (lo, hi int) {
	lo = search(0, len(t.routes), func(i int) bool { return t.routes[i].Host >= string(name) })
	if lo == len(t.routes) || t.routes[lo].Host != string(name) {
		return lo, lo
	}
	hi = search(lo, len(t.routes), func(i int) bool { return t.routes[i].Host > string(name) })
	return lo, hi
}

// matchPath finds path among the routes of one host.
func (t Table) matchPath(lo, hi int, path string) int {
	find := func(p string) int {
		return search(lo, hi, func(i int) bool { return t.routes[i].Path >= p })
	}
	at := func(i int, p string, exact bool) bool {
		return i < hi && t.routes[i].Path == p && t.routes[i].Exact == exact
	}
	if len(path) <= maxPathBytes {
		if i := find(path); at(i, path, true) { // exact sorts before prefix
			return i
		}
	}
	// Every prefix that ends before a slash, or at the end, longest first.
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if end > maxPathBytes {
			continue
		}
		i := find(path[:end])
		if at(i, path[:end], true) {
			i++
		}
		if at(i, path[:end], false) {
			return i
		}
	}
	if i := find("/"); at(i, "/", false) {
		return i
	} else if at(i, "/", true) && at(i+1, "/", false) {
		return i + 1
	}
	return -1
}

// search returns the first index of [lo, hi) for which ok holds, or hi, given
// that ok holds for all after it.
func search(lo, hi int, ok func(int) bool) int {
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if ok(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
