package routes

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/dotsegment"
	"github.com/headgate/headgate/internal/hostname"
)

const (
	// maxPathBytes is the largest length of a path. Real paths are far shorter. HAProxy builds the
	// key of a map from host and path in a buffer of 16 KiB by default, so a host and a path of
	// this length fit.
	maxPathBytes = 1024

	// maxCount is the largest check.rise and check.fall.
	maxCount = 100

	// maxLimit is the largest value of a field of "limits". Each of these fields is a number of
	// requests or connections.
	maxLimit = 10_000_000

	// maxDuration is the longest time that HAProxy's timers can count (manual section 2.5).
	maxDuration = math.MaxInt32 * time.Millisecond

	// minInterval is the shortest check.interval. A shorter interval probably has a wrong unit, and
	// would make every terminator check the service on every node very often.
	minInterval = 100 * time.Millisecond
)

// faultFunc is a function that reports the error err about a field of a route. value is the text of
// the field, which the message quotes unless it is empty. If err is nil, the function does nothing.
type faultFunc func(field, value string, err error)

// normalRoute returns r in normal form. It alone checks the values of a route, and calls "report"
// for each fault, with the path of the faulty field. The result shares no memory with r.
func normalRoute(r Route, report func(field, message string)) Route {
	fault := faultFunc(func(field, value string, err error) {
		if err == nil {
			return
		}
		message := err.Error()
		if value != "" {
			message = quote(value) + " " + message
		}
		report(field, message)
	})
	var err error
	if declared := r.Host; declared == "" {
		report("host", "is missing")
	} else {
		r.Host, err = normalPattern(declared)
		fault("host", declared, err)
	}
	declared := r.Path
	r.Path, err = normalPath(declared, r.Exact)
	fault("path", declared, err)
	r.Backends = normalBackends(r.Backends, fault)
	switch declared := r.Protocol; declared {
	case HTTP1, H2C, GRPC:
	case "http1":
		r.Protocol = HTTP1
	default:
		fault("protocol", string(declared), errProtocol)
	}
	if r.Check != nil {
		c := normalCheck(*r.Check, fault)
		r.Check = &c
		switch {
		case c.GRPC && r.Protocol == HTTP1:
			fault("check.grpc", "", errors.New("needs protocol h2c or grpc"))
		case c.GRPC && c.Path != "":
			fault("check.grpc", "", errors.New("needs a check without a path"))
		}
	}
	for _, l := range []struct {
		field string
		value int
	}{
		{"limits.requests", r.Limits.Requests},
		{"limits.connections", r.Limits.Connections},
		{"limits.source.requests", r.Limits.Source.Requests},
		{"limits.source.connections", r.Limits.Source.Connections},
	} {
		if l.value < 0 || l.value > maxLimit {
			fault(l.field, "", errLimit)
		}
	}
	for _, t := range []struct {
		field string
		value time.Duration
	}{{"timeouts.server", r.Timeouts.Server}, {"timeouts.tunnel", r.Timeouts.Tunnel}} {
		if t.value != 0 {
			fault(t.field, t.value.String(), checkDuration(t.value, time.Millisecond))
		}
	}
	if bs := r.Backends; len(bs) > 0 && bs[0].Cluster == bs[len(bs)-1].Cluster { // the backends are sorted by cluster
		if r.Shift {
			fault("shift", "", errOneCluster)
		}
		if len(r.Prefer) > 0 {
			fault("prefer", "", errOneCluster)
		}
	}
	if r.Prefer != nil {
		r.Prefer = normalPreferences(r.Prefer, r.Clusters(), fault)
	}
	return r
}

var errOneCluster = errors.New("needs backends in at least two clusters")

// normalPreferences returns the preferences in normal form. clusters are the names of the clusters
// of the route, sorted. If clusters is empty, normalPreferences does not compare the names: the
// backends of the route have a fault, and normalBackends has reported it.
func normalPreferences(declared []Preference, clusters []string, fault faultFunc) []Preference {
	if n := len(declared); n > MaxPreferences {
		fault("prefer", "", fmt.Errorf("has more than %d entries", MaxPreferences))
		return nil
	}
	var sorted []Preference
	first := make(map[string]int, len(declared))
	for i, p := range declared {
		field := "prefer[" + strconv.Itoa(i) + "]"
		if p.Region != "" {
			fault(field+".region", p.Region, checkDNSLabel(p.Region))
		}
		if j, ok := first[p.Region]; ok {
			fault(field, "", fmt.Errorf("has the same region as prefer[%d]", j))
		} else {
			first[p.Region] = i
		}
		if p.Quorum < 0 || p.Quorum > maxQuorum {
			fault(field+".quorum", "", errQuorum)
		}
		switch n := len(p.Clusters); {
		case n == 0:
			fault(field+".clusters", "", errors.New("is missing or empty"))
		case n > MaxPreferred:
			fault(field+".clusters", "", fmt.Errorf("has more than %d entries", MaxPreferred))
			continue
		}
		for j, name := range p.Clusters {
			at := field + ".clusters[" + strconv.Itoa(j) + "]"
			if len(clusters) > 0 && !slices.Contains(clusters, name) {
				fault(at, name, errors.New("is not a cluster of the backends of this route"))
			}
			if slices.Contains(p.Clusters[:j], name) {
				fault(at, name, errors.New("occurs twice"))
			}
		}
		p.Clusters = slices.Clone(p.Clusters)
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, func(a, b Preference) int { return strings.Compare(a.Region, b.Region) })
	return sorted
}

// maxQuorum is the largest prefer.quorum, in percent.
const maxQuorum = 100

var errQuorum = fmt.Errorf("must be a percentage from 1 to %d, or left out", maxQuorum)

var errProtocol = errors.New("must be http1, h2c or grpc; HAProxy speaks no TLS to services")

func normalBackends(declared []Backend, fault faultFunc) []Backend {
	switch n := len(declared); {
	case n == 0:
		fault("backends", "", errors.New("is missing or empty: nothing would serve the route"))
	case n > MaxBackends:
		fault("backends", "", fmt.Errorf("has %d entries; at most %d are allowed", n, MaxBackends))
		return nil
	}
	first := make(map[Ref]int, len(declared))
	for i, b := range declared {
		field := "backends[" + strconv.Itoa(i) + "]"
		fault(field+".cluster", b.Cluster, checkDNSLabel(b.Cluster))
		fault(field+".namespace", b.Namespace, checkDNSLabel(b.Namespace))
		fault(field+".service", b.Service, checkDNSLabel(b.Service))
		fault(field+".port", b.Port, checkPort(b.Port))
		if b.Weight < 0 || b.Weight > 256 {
			fault(field+".weight", "", fmt.Errorf("%d is not from 0 to 256", b.Weight))
		}
		if j, ok := first[b.Ref]; ok {
			fault(field, "", fmt.Errorf("%s is backends[%d] already; give it once, with its whole weight", b.Ref, j))
			continue
		}
		first[b.Ref] = i
	}
	sorted := slices.Clone(declared)
	slices.SortFunc(sorted, func(a, b Backend) int { return a.Compare(b.Ref) })
	return sorted
}

func normalCheck(c Check, fault faultFunc) Check {
	if c.Path != "" {
		fault("check.path", c.Path, checkRequestPath(c.Path))
	}
	if c.Host != "" {
		declared := c.Host
		var err error
		c.Host, err = normalHost(declared)
		fault("check.host", declared, err)
		if c.Path == "" {
			fault("check.host", "", errors.New("needs check.path: without a path the check sends no request"))
		}
	}
	if c.Interval != 0 {
		fault("check.interval", c.Interval.String(), checkDuration(c.Interval, minInterval))
	}
	for _, n := range []struct {
		field string
		value int
	}{{"check.rise", c.Rise}, {"check.fall", c.Fall}} {
		if n.value < 0 || n.value > maxCount {
			fault(n.field, "", errCount)
		}
	}
	return c
}

var errLimit = fmt.Errorf("must be from 1 to %d, or left out", maxLimit)

var errCount = fmt.Errorf("must be from 1 to %d, or left out", maxCount)

// normalPattern returns the normal form of a declared host, which may be a wildcard.
func normalPattern(s string) (string, error) { return declaredHost(hostname.NormalizePattern(s)) }

// normalHost returns the normal form of a host. If s is a wildcard, normalHost returns an error.
func normalHost(s string) (string, error) { return declaredHost(hostname.NormalizeHost(s)) }

func declaredHost(name string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("is not a host name: %w", err)
	}
	return name, nil
}

// normalPath returns the normal form of a route's path. An empty path means "/".
func normalPath(s string, exact bool) (string, error) {
	switch {
	case s == "":
		return "/", nil
	case s[0] != '/':
		return "", errors.New(`must begin with "/"`)
	case len(s) > maxPathBytes:
		return "", fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxPathBytes)
	case strings.ContainsAny(s, "?#"):
		return "", errors.New("must be a path alone: routing ignores a query and a fragment")
	case strings.Contains(s, "*"):
		return "", errors.New(`has a "*", but paths are no patterns: /a covers itself and all below it, unless it is exact`)
	}
	if err := checkURI(s); err != nil {
		return "", err
	}
	if strings.Contains(s, "//") {
		return "", errors.New(`has an empty segment ("//"), which some programs on the way remove and others keep`)
	}
	for seg := range strings.SplitSeq(s[1:], "/") {
		if isDotSegment(seg) {
			return "", fmt.Errorf("has the segment %s, which clients resolve before they send a request", quote(seg))
		}
	}
	if dotsegment.In(s) {
		return "", errors.New(`has a segment that some servers read as "." or "..", so HAProxy answers 400`)
	}
	if !exact && len(s) > 1 {
		s = strings.TrimSuffix(s, "/")
	}
	return s, nil
}

// checkRequestPath returns an error if s cannot be the path of a health check. The path may have a
// query.
func checkRequestPath(s string) error {
	path, query, _ := strings.Cut(s, "?")
	switch {
	case s == "" || s[0] != '/':
		return errors.New(`must begin with "/"`)
	case len(s) > maxPathBytes:
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxPathBytes)
	}
	if err := checkURI(path); err != nil {
		return err
	}
	return checkURI(strings.ReplaceAll(query, "?", "/")) // in a query, "?" is data (RFC 3986 section 3.4)
}

// checkURI returns an error if s contains a character that the path of a request cannot contain.
// RFC 3986 section 3.3 allows unreserved, sub-delims, ":", "@", "/", and "%" with two hexadecimal
// digits.
func checkURI(s string) error {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isLowerAlnum(c), 'A' <= c && c <= 'Z', strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0:
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return fmt.Errorf("has a %% without two hexadecimal digits after it at byte %d", i)
			}
			i += 2
		default:
			r, _ := utf8.DecodeRuneInString(s[i:])
			if c >= utf8.RuneSelf && r == utf8.RuneError {
				return fmt.Errorf("has the byte 0x%02x, which is not UTF-8", c)
			}
			encoded := fmt.Sprintf("% X", string(r))
			return fmt.Errorf("has the character %s; write it as requests carry it: %%%s", strconv.QuoteRune(r), strings.ReplaceAll(encoded, " ", "%"))
		}
	}
	return nil
}

// isDotSegment reports whether a segment is "." or "..". It also recognizes percent-encoded dots,
// because browsers resolve such segments, too (WHATWG URL, "double-dot URL path segment").
func isDotSegment(seg string) bool {
	if len(seg) > len("%2e%2e") {
		return false
	}
	seg = strings.ReplaceAll(strings.ToLower(seg), "%2e", ".")
	return seg == "." || seg == ".."
}

// checkDNSLabel returns an error if s is not a DNS label by the rules of Kubernetes (RFC 1123).
func checkDNSLabel(s string) error {
	switch {
	case s == "":
		return errors.New("is missing")
	case len(s) > hostname.MaxLabel:
		return errors.New("is longer than 63 bytes")
	case !isLowerAlnum(s[0]), !isLowerAlnum(s[len(s)-1]):
		return errors.New("must begin and end with a lower-case letter or a digit")
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return errors.New("may have lower-case letters, digits and hyphens")
		}
	}
	return nil
}

// checkPort returns an error if s is neither the number nor the name of a Service's port. A name is
// a DNS label, and may be longer than 15 bytes: that limit (RFC 6335) applies only to ports of
// containers.
func checkPort(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); isDigits(s) && (err != nil || n == 0 || s[0] == '0') {
		return errors.New("must be a number from 1 to 65535, or the name of a service port")
	}
	return checkDNSLabel(s)
}

var errDuration = errors.New(`must be a duration with its unit, such as "30s", "1h30m" or "2d"`)

// parseDuration reads a duration as time.ParseDuration does, and also accepts days at the
// beginning: "2d12h".
func parseDuration(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || rest[0] == '-' || rest[0] == '+' || rest == "0" {
		return 0, errDuration
	}
	return days + min(d, 2*maxDuration), nil // the limit prevents an overflow of the sum
}

func checkDuration(d, least time.Duration) error {
	switch {
	case d%time.Millisecond != 0 && d < maxDuration:
		return errors.New("must be whole milliseconds")
	case d < least:
		return fmt.Errorf("must be at least %s", formatDuration(least))
	case d > maxDuration:
		return fmt.Errorf("must be at most %s, the longest that HAProxy counts", formatDuration(maxDuration))
	}
	return nil
}

// formatDuration writes d as a whole number of the largest possible unit: 90 s as "90s", and 120 s
// as "2m". d must be in whole milliseconds.
func formatDuration(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// quote returns s with quotes around it, for a message. s is any text from a file. If s has more
// than 64 bytes, quote keeps the first 64.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "…"
}
