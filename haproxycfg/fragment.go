package haproxycfg

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxFragment is the largest length in bytes of Config.Fragment. It leaves room for the names that
// package edge makes.
const maxFragment = 32

// Requirement is a setting of the section "global" that a fragment needs from the files that HAProxy
// loads before it.
type Requirement struct {
	// Keyword is the name of the setting in HAProxy, such as "tune.bufsize". If it is "stats socket",
	// Value is the path of the socket, and the socket must have "level admin".
	Keyword string
	// Value is the wanted value as HAProxy writes it, such as "32768" or "24h". The file may have
	// another value if Bound permits it.
	Value string
	// Bound says which other values suffice.
	Bound Bound
	// Reason says what happens if the setting is missing.
	Reason string

	optional bool // true if HAProxy's default meets the requirement
}

// Bound compares the value of a setting with the value of a [Requirement].
type Bound int

const (
	Exactly Bound = iota // the same text
	AtLeast              // the same number or time, or a larger one
	AtMost               // the same number or time, or a smaller one
)

// String returns the bound in words: "exactly", "at least" or "at most".
func (b Bound) String() string { return [...]string{"exactly", "at least", "at most"}[b] }

// Met reports whether the section "global" meets the requirement. The argument "value" is the value
// of the setting in the section, or "" if the section does not have the setting. If Met cannot read
// value as a number or a time, for example because of an environment variable, it returns true.
func (r Requirement) Met(value string) bool {
	if value == "" {
		return r.optional
	}
	if r.Bound == Exactly {
		return value == r.Value || strings.Contains(value, "$")
	}
	got, ok1 := parseSetting(value)
	want, ok2 := parseSetting(r.Value)
	if !ok1 || !ok2 {
		return true
	}
	if r.Bound == AtLeast {
		return got >= want
	}
	return got <= want
}

// settingUnits are the units of times in a haproxy.cfg. HAProxy reads a time without a unit as
// milliseconds.
var settingUnits = map[string]time.Duration{
	"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// parseSetting parses a number, or a time such as "24h". A time becomes a number of nanoseconds.
// parseSetting reads a plain number as milliseconds, so that Met compares numbers and times in the
// same way.
func parseSetting(s string) (n int64, ok bool) {
	digits := strings.TrimRight(s, "usmhd")
	unit, known := settingUnits[s[len(digits):]]
	number, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || number < 0 || number > math.MaxInt64/int64(unit) {
		return 0, false
	}
	return number * int64(unit), true
}

// Requirements returns what a fragment (see Config.Fragment) needs from the section "global" of the
// files that HAProxy loads before it. The settings come from the fields of Global. If a field is 0,
// HAProxy's default suffices. Only MaxReloads differs: 0 means that the section needs the largest
// number.
func (c *Config) Requirements() []Requirement {
	g := &c.Global
	var all []Requirement
	number := func(keyword string, n, byDefault int, b Bound, reason string) {
		if n > 0 {
			r := Requirement{keyword, strconv.Itoa(n), b, reason, false}
			r.optional = byDefault > 0 && r.Met(strconv.Itoa(byDefault))
			all = append(all, r)
		}
	}
	duration := func(keyword string, d time.Duration, b Bound, reason string) {
		if d > 0 {
			var t text
			t.duration(d)
			all = append(all, Requirement{keyword, strings.TrimSpace(string(t)), b, reason, false})
		}
	}
	const defaultBuffer, defaultHeaders, defaultReloads = 16384, 101, 50
	number("tune.bufsize", g.BufferSize, defaultBuffer, AtLeast, "HAProxy refuses requests with larger heads")
	number("tune.http.maxhdr", g.MaxHeaders, defaultHeaders, AtLeast, "HAProxy refuses requests with more headers")
	if g.Version.AtLeast(3, 0) {
		number("tune.h2.fe.max-total-streams", g.HTTP2Requests, 0, AtMost, "clients keep their HTTP/2 connections for ever")
	}
	duration("hard-stop-after", g.HardStopAfter, AtMost, "a replaced process runs until its last connection ends")
	reloads := math.MaxInt32 // the default of HAProxy before 3.3
	if g.Version.AtLeast(3, 3) {
		reloads = defaultReloads
	}
	number("mworker-max-reloads", cmp.Or(g.MaxReloads, math.MaxInt32), reloads, AtLeast, "a process that has seen so many reloads ends, and cuts its streams")
	duration("grace", g.Grace, AtLeast, "a stopping process accepts no more connections")
	duration("close-spread-time", g.CloseSpread, AtLeast, "a stopping process closes all idle connections at once")
	duration("max-spread-checks", c.checkSpread(), AtMost, "a drained server may get requests after a start, until its first agent check")
	if g.StatsSocket != "" {
		all = append(all, Requirement{"stats socket", g.StatsSocket, Exactly, "no program can read the counters of HAProxy, or change HAProxy at run time, at this socket", false})
	}
	if g.StateFile != "" {
		all = append(all, Requirement{"server-state-file", g.StateFile, Exactly, "a drained server may get requests after a reload, until its agent answers again", false})
	}
	return all
}

// Fragment returns Config.Fragment.
func (v Valid) Fragment() string { return v.config.Fragment }

// Requirements returns [Config.Requirements] of the configuration.
func (v Valid) Requirements() []Requirement { return v.config.Requirements() }

// fragment adds faults of a Config whose Fragment is not empty.
func (v *validator) fragment(c *Config) {
	if c.Fragment == "" {
		return
	}
	v.place = "fragment: "
	if len(c.Fragment) > maxFragment || !validName(c.Fragment) || strings.Contains(c.Fragment, ":") {
		v.addf(`prefix %q: a prefix has at most %d letters, digits and "-_."`, c.Fragment, maxFragment)
	}
	g := &c.Global
	for _, setting := range []struct {
		name string
		set  bool
	}{
		{"MaxConn", g.MaxConn != 0},
		{"Descriptors", g.Descriptors != 0},
		{"Threads", g.Threads != 0},
		{"User", g.User != ""},
		{"Group", g.Group != ""},
		{"Observe", g.Observe},
		{"Variables", len(g.Variables) > 0},
	} {
		if setting.set {
			v.addf("a fragment has no section \"global\", and so no %s", setting.name)
		}
	}
	check := func(kind, name string) {
		if !strings.HasPrefix(name, c.Fragment) {
			v.addf("%s %q does not begin with %q", kind, name, c.Fragment)
		}
	}
	for i := range c.Frontends {
		check("frontend", c.Frontends[i].Name)
	}
	for i := range c.Backends {
		check("backend", c.Backends[i].Name)
	}
	if slices.ContainsFunc(c.Frontends, func(f Frontend) bool { return f.RetryBudget != nil }) {
		v.addf("a fragment has no RetryBudget")
	}
}
