package routes

import (
	"strings"

	"github.com/headgate/headgate/internal/hostname"
)

// Match returns the route that serves a request, and false if no route serves it. It defines the
// meaning of a table: the maps of HAProxy, for example, must choose the same route.
//
// The argument "host" is the Host header or :authority of the request. Match converts ASCII letters
// to lower case, and removes a port and one final dot. If the host then has a character other than
// letters, digits, ".", "-" and "_", no route serves the request. If the host is declared, Match
// ignores the wildcard that covers it.
//
// The argument "path" is the path as the client sent it, without a query, and is compared byte by
// byte. An exact path wins, and then the longest path that covers it by whole segments. HAProxy
// refuses a path with a segment "." or "..". Match does not refuse such a path.
//
// Match uses binary search and does not allocate.
func (t Table) Match(host, path string) (Route, bool) {
	i := t.matchIndex(host, path)
	if i < 0 {
		return Route{}, false
	}
	return t.routes[i], true
}

// matchIndex returns the index in t.routes of the route that Match returns, or -1 if there is none.
func (t Table) matchIndex(host, path string) int {
	if len(path) == 0 || path[0] != '/' {
		return -1 // requests for CONNECT and "OPTIONS *" have no path
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

// requestHost appends the host of a Host header to dst: in lower case, without a port and without a
// final dot. It returns nil if no table can serve the host, because it is too long or has a
// character other than letters, digits, ".", "-" and "_". If the host is longer than
// hostname.MaxName, only a wildcard can match it, so requestHost replaces the first label by "-".
func requestHost(dst []byte, host string) []byte {
	end := len(host)
	for end > 0 && '0' <= host[end-1] && host[end-1] <= '9' {
		end--
	}
	if end > 0 && host[end-1] == ':' {
		host = host[:end-1]
	}
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		c := host[i]
		if (c|0x20 < 'a' || 'z' < c|0x20) && (c < '0' || '9' < c) && c != '.' && c != '-' && c != '_' {
			return nil
		}
	}
	if len(host) > hostname.MaxName {
		// The host is longer than any declared name. But a wildcard may match it, because a
		// wildcard ignores the first label. So replace the first label by "-", which is the first
		// label of no declared name.
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

// wildcardOf returns the wildcard that matches the name that begins at buf[2], or nil if the name
// has only one label or an empty first label. It overwrites the last byte of the first label:
// "www.example.com" becomes "ww*.example.com", and the result is "*.example.com".
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

// hostRange returns the bounds in t.routes of the routes of a host: lo is the first index, hi is
// one more than the last. The conversions to string in the comparisons do not allocate.
func (t Table) hostRange(name []byte) (lo, hi int) {
	lo = search(0, len(t.routes), func(i int) bool { return t.routes[i].Host >= string(name) })
	if lo == len(t.routes) || t.routes[lo].Host != string(name) {
		return lo, lo
	}
	hi = search(lo, len(t.routes), func(i int) bool { return t.routes[i].Host > string(name) })
	return lo, hi
}

// matchPath returns the index of the route for a path, or -1 if there is none. The routes of its
// host are t.routes[lo:hi].
func (t Table) matchPath(lo, hi int, path string) int {
	find := func(p string) int {
		return search(lo, hi, func(i int) bool { return t.routes[i].Path >= p })
	}
	at := func(i int, p string, exact bool) bool {
		return i < hi && t.routes[i].Path == p && t.routes[i].Exact == exact
	}
	if len(path) <= maxPathBytes {
		if i := find(path); at(i, path, true) { // an exact route comes before the prefix route of the same path
			return i
		}
	}
	// Try each prefix of path that ends before a slash or at the end of path, the longest one
	// first.
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

// search returns the first index in [lo, hi) for which ok returns true. If there is none, it
// returns hi. If ok returns true for an index, it must return true for all later indices.
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
