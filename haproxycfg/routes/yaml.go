package routes

import (
	"strconv"
	"strings"
	"time"
)

// AppendYAML appends the table as a declaration file. Parse reads the same table from this file,
// except for Route.Position. Equal tables give equal bytes.
func AppendYAML(dst []byte, t Table) []byte {
	if len(t.routes) == 0 {
		return append(dst, "routes: []\n"...)
	}
	dst = append(dst, "routes:\n"...)
	for _, r := range t.routes {
		dst = appendField(dst, "- host: ", r.Host)
		dst = appendField(dst, "  path: ", r.Path)
		if r.Exact {
			dst = append(dst, "  exact: true\n"...)
		}
		dst = append(dst, "  backends:\n"...)
		for _, b := range r.Backends {
			dst = appendScalar(append(dst, "  - {cluster: "...), b.Cluster)
			dst = appendScalar(append(dst, ", namespace: "...), b.Namespace)
			dst = appendScalar(append(dst, ", service: "...), b.Service)
			dst = append(dst, ", port: "...)
			if isDigits(b.Port) {
				dst = append(dst, b.Port...)
			} else {
				dst = appendScalar(dst, b.Port)
			}
			if b.Weight != DefaultWeight {
				dst = strconv.AppendInt(append(dst, ", weight: "...), int64(b.Weight), 10)
			}
			dst = append(dst, "}\n"...)
		}
		dst = appendCheck(dst, r.Check)
		if r.Protocol != HTTP1 {
			dst = appendField(dst, "  protocol: ", string(r.Protocol))
		}
		dst = appendLimits(dst, r.Limits)
		if r.Timeouts != (Timeouts{}) {
			dst = append(dst, "  timeouts:\n"...)
			dst = appendDuration(dst, "    server: ", r.Timeouts.Server)
			dst = appendDuration(dst, "    tunnel: ", r.Timeouts.Tunnel)
		}
		if r.Shift {
			dst = append(dst, "  shift: true\n"...)
		}
		dst = appendPreferences(dst, r.Prefer)
	}
	return dst
}

func appendCheck(dst []byte, c *Check) []byte {
	if c == nil {
		return dst
	}
	if *c == (Check{}) {
		return append(dst, "  check: {}\n"...)
	}
	dst = append(dst, "  check:\n"...)
	if c.Path != "" {
		dst = appendField(dst, "    path: ", c.Path)
	}
	if c.Host != "" {
		dst = appendField(dst, "    host: ", c.Host)
	}
	if c.GRPC {
		dst = append(dst, "    grpc: true\n"...)
	}
	dst = appendDuration(dst, "    interval: ", c.Interval)
	dst = appendNumber(dst, "    rise: ", c.Rise)
	return appendNumber(dst, "    fall: ", c.Fall)
}

func appendLimits(dst []byte, l Limits) []byte {
	if l == (Limits{}) {
		return dst
	}
	dst = append(dst, "  limits:\n"...)
	dst = appendNumber(dst, "    requests: ", l.Requests)
	dst = appendNumber(dst, "    connections: ", l.Connections)
	if l.Source != (Limit{}) {
		dst = append(dst, "    source:\n"...)
		dst = appendNumber(dst, "      requests: ", l.Source.Requests)
		dst = appendNumber(dst, "      connections: ", l.Source.Connections)
	}
	return dst
}

func appendPreferences(dst []byte, ps []Preference) []byte {
	if len(ps) == 0 {
		return dst
	}
	dst = append(dst, "  prefer:\n"...)
	for _, p := range ps {
		dst = append(dst, "  - {"...)
		if p.Region != "" {
			dst = append(appendScalar(append(dst, "region: "...), p.Region), ", "...)
		}
		dst = append(dst, "clusters: ["...)
		for i, name := range p.Clusters {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendScalar(dst, name)
		}
		dst = append(dst, ']')
		if p.Quorum != 0 {
			dst = strconv.AppendInt(append(dst, ", quorum: "...), int64(p.Quorum), 10)
		}
		dst = append(dst, "}\n"...)
	}
	return dst
}

// appendNumber appends the field with the value n. If n is 0, it appends nothing.
func appendNumber(dst []byte, field string, n int) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(append(dst, field...), int64(n), 10), '\n')
}

func appendField(dst []byte, field, value string) []byte {
	return append(appendScalar(append(dst, field...), value), '\n')
}

func appendDuration(dst []byte, field string, d time.Duration) []byte {
	if d == 0 {
		return dst
	}
	return append(append(append(dst, field...), formatDuration(d)...), '\n')
}

// appendScalar appends a string without quotes if every YAML parser reads the plain text as the
// same string. Otherwise it appends the string in quotes. It escapes nothing, because values in
// normal form contain no quotes and no backslashes.
func appendScalar(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	return append(append(append(dst, '"'), s...), '"')
}

func isPlain(s string) bool {
	switch s {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false // YAML 1.1 reads these words as other types
	}
	if c := s[0]; c != '/' && (c < 'a' || c > 'z') {
		return false
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && strings.IndexByte("/.-_~ABCDEFGHIJKLMNOPQRSTUVWXYZ", s[i]) < 0 {
			return false
		}
	}
	return true
}
