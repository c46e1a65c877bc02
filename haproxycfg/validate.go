package haproxycfg

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrInvalid is in each error of [Config.Validate].
var ErrInvalid = errors.New("haproxycfg: invalid configuration")

const (
	// MaxName is the largest length in bytes of the name of a proxy or map.
	MaxName = 255
	// MaxRoundRobin is the largest number of servers in a backend with [RoundRobin] (manual,
	// "balance").
	MaxRoundRobin = 4095
)

const (
	// maxFaults is the largest number of faults in an error. Generated configurations can contain
	// the same fault thousands of times.
	maxFaults = 20
	// maxWord is the largest length, in bytes, of one word of haproxy.cfg. HAProxy reads a line
	// into a buffer, and a line with several words of this length still fits.
	maxWord = 1024
	// maxMapText is the largest length in bytes of a key or value of a map. If two keys have the
	// same first 2,048 bytes (2^14 bits), HAProxy 2.6 may not find the longer of the two when it
	// looks for the longest prefix of a text.
	maxMapText = 2000
	// maxSocketPath is the largest length, in bytes, of the path of a Unix socket. The system
	// allows ten bytes more. But HAProxy first binds the socket to a temporary name, which is up to
	// ten bytes longer than the path.
	maxSocketPath = 97
)

// Validate reports values that HAProxy would refuse or read with another meaning. Its error joins
// the first 20 faults, each with its place.
//
// Validate reads no files, so it does not find, for example, a missing certificate. A Config
// without frontends is valid, although HAProxy does not start with it.
func (c *Config) Validate() error {
	_, err := c.validate(false)
	return err
}

// validate does the work of Valid. If validBackends is true, the caller knows that the backends have
// no fault.
func (c *Config) validate(validBackends bool) (Valid, error) {
	v := validator{tracked: map[string]bool{}, checked: map[string]map[string]bool{}}
	maxConn := c.MaxConn()
	v.fragment(c)
	v.global(c, maxConn)
	v.variables(c.Global.Variables)
	v.defaults(&c.Defaults)
	v.names(c)
	for i := range c.Maps {
		v.mapTable(&c.Maps[i])
	}
	for i := range c.CertificateLists {
		v.certificateList(&c.CertificateLists[i])
	}
	if !validBackends {
		for i := range c.Backends {
			v.backend(c, &c.Backends[i])
		}
	}
	for i := range c.Frontends {
		v.frontend(c, &c.Frontends[i])
	}
	v.bindsTwice(c)
	if len(v.faults) > 0 {
		return Valid{}, errors.Join(v.faults...)
	}
	return Valid{config: c, maxConn: maxConn}, nil
}

// Valid is a Config that has passed [Config.Validate], made by [Config.Valid]. Do not change the
// Config while you use a Valid of it. The methods of the zero Valid panic.
type Valid struct {
	config   *Config
	maxConn  int               // the result of Config.MaxConn
	backends *renderedBackends // of config; nil if Render must render the backends
}

// Valid validates c. It returns c as a Valid, or the error of [Config.Validate].
func (c *Config) Valid() (Valid, error) { return c.validate(false) }

// StateFile returns Global.StateFile.
func (v Valid) StateFile() string { return v.config.Global.StateFile }

// WithStateFile returns a copy of the configuration with another Global.StateFile.
func (v Valid) WithStateFile(file string) (Valid, error) {
	var f validator
	f.word("StateFile", file)
	c := *v.config
	c.Global.StateFile = file
	return Valid{config: &c, maxConn: v.maxConn}, errors.Join(f.faults...)
}

// validator collects the faults of one Config.
type validator struct {
	place    string // the place of the current value, such as "backend b: "
	faults   []error
	backends map[string]int             // index by name
	maps     map[string]int             // index by name
	lists    map[string]bool            // the names of certificate lists
	tracked  map[string]bool            // the results of isChecked
	checked  map[string]map[string]bool // the results of serversChecked, by backend
}

func (v *validator) addf(format string, args ...any) {
	if len(v.faults) < maxFaults {
		v.faults = append(v.faults, fmt.Errorf("%w: %s%s", ErrInvalid, v.place, fmt.Sprintf(format, args...)))
	}
}

// word adds a fault if haproxy.cfg cannot contain s as one word, even in quotes: s is too long, or
// contains a line end or NUL. The argument "what" names the setting in the fault.
func (v *validator) word(what, s string) {
	switch {
	case len(s) > maxWord:
		v.addf("%s is longer than %d bytes", what, maxWord)
	case strings.ContainsAny(s, "\n\r\x00"):
		v.addf("%s %q contains a line end or NUL", what, s)
	}
}

// name adds a fault and returns false if HAProxy does not allow s as the name of a proxy.
func (v *validator) name(what, s string) bool {
	switch {
	case s == "" || len(s) > MaxName:
		v.addf("%s %q: a name has 1 to %d bytes", what, s, MaxName)
	case !validName(s):
		v.addf(`%s %q: a name is made of letters, digits and "-_.:"`, what, s)
	default:
		return true
	}
	return false
}

// validName reports whether HAProxy allows s as the name of a proxy or server.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameByte[s[i]] {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}

// path adds a fault if s cannot be the path of a request.
func (v *validator) path(what, s string) {
	v.target(what, s, "?")
}

// target adds a fault if s cannot be a path with a query, or if s contains one of the bytes in the
// argument "forbidden".
func (v *validator) target(what, s, forbidden string) {
	v.word(what, s)
	if s == "" {
		return
	}
	if s[0] != '/' {
		v.addf("%s %q does not begin with a slash", what, s)
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' || strings.IndexByte(forbidden, s[i]) >= 0 {
			v.addf("%s %q contains %q, which no path of a request contains", what, s, s[i])
			return
		}
	}
}

// duration adds a fault if d is too long for HAProxy's timers. They count milliseconds in 31 bits.
func (v *validator) duration(what string, d time.Duration) {
	switch {
	case d < 0:
		v.addf("%s %v is negative", what, d)
	case d%time.Millisecond != 0:
		v.addf("%s %v is not whole milliseconds", what, d)
	case d.Milliseconds() > math.MaxInt32:
		v.addf("%s %v is longer than 24 days", what, d)
	}
}

func (v *validator) number(what string, n, least, most int) {
	if n < least || n > most {
		v.addf("%s %d is not from %d to %d", what, n, least, most)
	}
}

func (v *validator) global(c *Config, maxConn int) {
	g := &c.Global
	v.place = "global: "
	v.number("MaxConn", g.MaxConn, 0, math.MaxInt32)
	v.number("Descriptors", g.Descriptors, 0, math.MaxInt32)
	v.number("Threads", g.Threads, 0, 4096)
	if g.MaxConn == 0 && g.Descriptors > 0 && maxConn == 0 {
		v.addf("%d descriptors leave none for connections: checks, agents and listeners need %d", g.Descriptors, c.ReservedDescriptors())
	}
	v.number("HTTP2Requests", g.HTTP2Requests, 0, math.MaxInt32)
	if g.BufferSize != 0 {
		v.number("BufferSize", g.BufferSize, 16384, 1<<20)
	}
	v.number("MaxHeaders", g.MaxHeaders, 0, 32767)
	v.word("User", g.User)
	v.word("Group", g.Group)
	if g.StatsSocket != "" {
		v.socketPath("StatsSocket", g.StatsSocket)
	}
	v.word("StateFile", g.StateFile)
	v.duration("HardStopAfter", g.HardStopAfter)
	v.number("MaxReloads", g.MaxReloads, 0, math.MaxInt32)
	v.duration("Grace", g.Grace)
	v.duration("CloseSpread", g.CloseSpread)
	for i, l := range g.Logs {
		v.place = "global: log " + strconv.Itoa(i) + ": "
		v.logAddress(l.Address)
		oneOf(v, "Format", l.Format, "", "rfc3164", "rfc5424", "raw", "short", "timed", "priority", "local", "iso")
		oneOf(v, "Facility", l.Facility, "", "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
			"auth2", "ftp", "ntp", "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")
		oneOf(v, "Level", l.Level, "", "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
	}
}

func oneOf[T ~string](v *validator, what string, s T, allowed ...T) {
	if !slices.Contains(allowed, s) {
		v.addf("unknown %s %q", what, s)
	}
}

func (v *validator) defaults(d *Defaults) {
	v.place = "defaults: "
	v.timeouts(&d.Timeouts)
	v.duration("Client", d.Client)
	v.duration("ClientFin", d.ClientFin)
	v.duration("HTTPRequest", d.HTTPRequest)
	v.duration("KeepAlive", d.KeepAlive)
	v.number("Retries", d.Retries, math.MinInt32, 100)
	if d.RetryOn != nil && len(d.RetryOn) == 0 {
		v.addf("RetryOn is empty: nil means the default, negative Retries mean no retries")
	}
	for i, e := range d.RetryOn {
		oneOf(v, "RetryOn", e, RetryConnFailure, RetryEmptyResponse, RetryResponseTimeout, RetryJunkResponse, Retry502, Retry503, Retry504)
		if slices.Contains(d.RetryOn[:i], e) {
			v.addf("RetryOn names %q twice", e)
		}
	}
}

// socketPath adds a fault if s cannot be the path of a socket. In an address, HAProxy expands "$"
// and ends the path at ",", even inside quotes. With such a character, HAProxy would listen on
// another path (str2sa_range and str2listener in its source).
func (v *validator) socketPath(what, s string) {
	v.word(what, s)
	if !strings.HasPrefix(s, "/") || len(s) > maxSocketPath {
		v.addf("%s %q: the absolute path of a socket has at most %d bytes", what, s, maxSocketPath)
	}
	if strings.ContainsAny(s, "$,") {
		v.addf(`%s %q: the path of a socket has neither "$" nor ","`, what, s)
	}
}

func (v *validator) logAddress(s string) {
	if s == "stdout" || s == "stderr" {
		return
	}
	if strings.HasPrefix(s, "/") {
		v.socketPath("Address", s)
		return
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(s)
		addr = ap.Addr()
	}
	if err != nil || addr.Zone() != "" {
		v.addf(`Address %q is neither "stdout", "stderr", an IP address with or without a port nor the path of a socket`, s)
	}
}

func (v *validator) timeouts(t *Timeouts) {
	v.duration("Connect", t.Connect)
	v.duration("Queue", t.Queue)
	v.duration("Server", t.Server)
	v.duration("Tunnel", t.Tunnel)
	v.duration("Check", t.Check)
}

// names adds a fault for each name that two backends, two maps or two frontends have. It also fills
// v.backends and v.maps, which map a name to the index of its backend or map in c.
func (v *validator) names(c *Config) {
	v.place = ""
	v.backends = index(v, "backends", c.Backends, func(b *Backend) string { return b.Name })
	v.maps = index(v, "maps", c.Maps, func(m *Map) string { return m.Name })
	v.listNames(c)
	index(v, "frontends", c.Frontends, func(f *Frontend) string { return f.Name })
	if _, ok := v.backends[observedTable]; ok && c.Global.Observe {
		v.addf("the name of backend %q is reserved with Global.Observe", observedTable)
	}
	for i := range c.Frontends {
		name := c.Frontends[i].Name
		if b, ok := v.backends[name]; ok {
			v.addf("frontend %d and backend %d are both named %q, which HAProxy 3.3 and later refuse", i, b, name)
		}
	}
}

// index returns the index of each element of the slice "all", by the name of the element. It adds a
// fault for each name that occurs twice. In the text of the fault, kind says what the elements are,
// such as "backend".
func index[T any](v *validator, kind string, all []T, name func(*T) string) map[string]int {
	found := make(map[string]int, len(all))
	for i := range all {
		n := name(&all[i])
		if first, ok := found[n]; ok {
			v.addf("%s %d and %d are both named %q", kind, first, i, n)
			continue
		}
		found[n] = i
	}
	return found
}
