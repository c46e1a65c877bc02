package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

// settings are what a user asks for. Those that need no reading are used as they are.
type settings struct {
	tls, http    cli.Strings
	admin        string
	drainDelay   time.Duration
	drainTimeout time.Duration
	drainSpread  time.Duration

	hosts, api, changes       string
	apiToken, apiCA           string
	apiCertificate, apiKey    string
	apiTimeout, poll          time.Duration
	defaultTo, noName         string
	ttl, negativeTTL, staleIf time.Duration
	revalidate                time.Duration
	size, negativeSize        int
	cacheFile                 string

	unknownTLS, notFoundPage               string
	hello, lookup, dial, idle, keepAlive   time.Duration
	maxHello, maxConns, perSource, peeking int
	proxyIn, allow, deny                   cli.Strings
	proxyRequired                          bool
	proxyOut                               string

	logSample float64
	logFormat string
}

func register(fs *flag.FlagSet) *settings {
	s := &settings{}
	fs.Var(&s.tls, "tls", "`address` for TLS; may be given several times")
	fs.Var(&s.http, "http", "`address` for plain HTTP/1 and HTTP/2, which may be one of -tls; may be given several times")
	fs.StringVar(&s.admin, "admin", "", "`address` of the status page, /metrics, /healthz, /readyz and /drain; none if empty")

	fs.StringVar(&s.api, "api", "", "`URL` to ask about a host, with {host} in it")
	fs.StringVar(&s.changes, "changes", "", "`URL` of the API's changes, to know of them before the cache's time is over; none if empty")
	fs.StringVar(&s.apiToken, "api-token-file", "", "`file` with a bearer token for the API")
	fs.StringVar(&s.apiCA, "api-ca", "", "PEM `file` with the authorities of the API's certificate; those of the system if empty")
	fs.StringVar(&s.apiCertificate, "api-certificate", "", "PEM `file` with a client certificate for the API")
	fs.StringVar(&s.apiKey, "api-key", "", "PEM `file` with its key")
	fs.DurationVar(&s.apiTimeout, "api-timeout", 5*time.Second, "time that the API has for an answer")
	fs.StringVar(&s.hosts, "hosts", "", "JSON `file` with an array of {\"app\", \"host\", \"endpoint\"}, asked before the API")
	fs.DurationVar(&s.poll, "poll", time.Second, "time between two looks at the file of -hosts")
	fs.StringVar(&s.defaultTo, "default", "", "`endpoint` of hosts that are not found; without port, the one that the client used")
	fs.StringVar(&s.noName, "no-name", "", "`endpoint` of connections that name no host")

	fs.DurationVar(&s.ttl, "cache-ttl", 30*time.Second, "how long an answer of the API is believed that does not say it itself")
	fs.DurationVar(&s.negativeTTL, "cache-negative-ttl", 5*time.Second, "the same of a host that is not found")
	fs.DurationVar(&s.staleIf, "cache-stale-for", 24*time.Hour, "how long after that an answer still stands in while the API fails")
	fs.DurationVar(&s.revalidate, "cache-stale-while-revalidate", 0, "how long after that an answer is used at once, while the API is asked")
	fs.IntVar(&s.size, "cache-size", 100_000, "`number` of known hosts that are kept")
	fs.IntVar(&s.negativeSize, "cache-negative-size", 10_000, "`number` of hosts not found that are kept")
	fs.StringVar(&s.cacheFile, "cache-file", "", "`file` that keeps the known hosts over a restart, in the form of -hosts with the time when each expires; they stand in while the API fails, no longer than without a restart")

	fs.StringVar(&s.unknownTLS, "unknown-tls", "alert", "what TLS clients of unknown hosts get: alert, close, or fallback=`ENDPOINT`, a server with a certificate for a page that says so")
	fs.StringVar(&s.notFoundPage, "not-found-page", "", "HTML `file` that HTTP clients of unknown hosts get; a template that knows {{.Host}}, {{.Status}}, {{.Text}} and {{.Message}}")

	fs.DurationVar(&s.hello, "hello-timeout", 10*time.Second, "time that a client has to name its host")
	fs.DurationVar(&s.lookup, "lookup-timeout", 5*time.Second, "time that a lookup has, and then DNS where the endpoint is a name")
	fs.DurationVar(&s.dial, "dial-timeout", 10*time.Second, "time to connect to an endpoint")
	fs.DurationVar(&s.idle, "idle-timeout", 10*time.Minute, "time without a byte in either direction after which a connection ends; negative is never")
	fs.DurationVar(&s.keepAlive, "keep-alive", 15*time.Second, "time of silence after which TCP probes its peer; negative is never")
	fs.IntVar(&s.maxHello, "max-hello", peek.MaxBytes, "`bytes` of a ClientHello or the head of a request")
	fs.IntVar(&s.maxConns, "max-connections", 0, "`number` of connections at one time; 0 is no limit")
	fs.IntVar(&s.perSource, "max-connections-per-source", 0, "the same for one IPv4 address or IPv6 /64; 0 is no limit")
	fs.IntVar(&s.peeking, "max-peeking", 10_000, "`number` of connections that have not named a host; the oldest makes room; 0 is no limit")

	fs.Var(&s.proxyIn, "proxy-protocol-in", "`network` of proxies that may send a PROXY header, such as 10.0.0.0/8; may be given several times")
	fs.BoolVar(&s.proxyRequired, "proxy-protocol-required", false, "refuse connections without a PROXY header")
	fs.StringVar(&s.proxyOut, "proxy-protocol-out", "", "version of the PROXY header that upstreams get: v1 or v2; none if empty")
	fs.Var(&s.allow, "allow", "`network` that endpoints must be in; may be given several times. Loopback, link-local and own addresses are allowed only by a network within their range")
	fs.Var(&s.deny, "deny", "`network` that no endpoint may be in; may be given several times")

	fs.DurationVar(&s.drainDelay, "drain-delay", 0, "time to go on accepting after SIGTERM or /drain, while balancers notice /readyz")
	fs.DurationVar(&s.drainTimeout, "drain-timeout", time.Minute, "time that connections then have to end by themselves")
	fs.DurationVar(&s.drainSpread, "drain-spread", 0, "how long before the end of that time connections begin to be closed, one by one; 0 is a quarter of it")
	fs.Float64Var(&s.logSample, "log-sample", 1, "`share` of the connections without fault that are logged, 0 to 1; others always are")
	fs.StringVar(&s.logFormat, "log-format", "text", "text or json")
	return s
}

// check finds what the packages that get the settings would not find.
func (s *settings) check() error {
	switch {
	case len(s.tls)+len(s.http) == 0:
		return errors.New("-tls or -http is needed")
	case s.api == "" && s.hosts == "" && s.defaultTo == "":
		return errors.New("-api, -hosts or -default is needed")
	case s.api == "" && (s.changes != "" || s.cacheFile != ""):
		return errors.New("-changes and -cache-file are for -api")
	case (s.apiCertificate == "") != (s.apiKey == ""):
		return errors.New("-api-certificate and -api-key go together")
	case s.size < 1 || s.negativeSize < 1:
		return errors.New("-cache-size and -cache-negative-size must be 1 or more")
	case s.poll <= 0:
		return errors.New("-poll must be more than 0")
	case !(s.logSample >= 0 && s.logSample <= 1):
		return errors.New("-log-sample: want a share, 0 to 1")
	case s.logFormat != "text" && s.logFormat != "json":
		return errors.New("-log-format: want text or json")
	case !slices.Contains([]string{"", "v1", "v2"}, s.proxyOut):
		return errors.New("-proxy-protocol-out: want v1 or v2")
	case min(s.drainDelay, s.drainTimeout, s.drainSpread) < 0:
		return errors.New("-drain-delay, -drain-timeout and -drain-spread must not be negative")
	case min(s.maxConns, s.perSource, s.peeking) < 0 || s.maxHello < 1 || s.maxHello > peek.MaxBytes:
		return fmt.Errorf("limits must not be negative, and -max-hello is from 1 to %d", peek.MaxBytes)
	}
	for name, d := range map[string]time.Duration{
		"-hello-timeout": s.hello, "-lookup-timeout": s.lookup, "-dial-timeout": s.dial, "-api-timeout": s.apiTimeout,
		"-cache-ttl": s.ttl, "-cache-negative-ttl": s.negativeTTL,
	} {
		if d <= 0 {
			return fmt.Errorf("%s must be more than 0", name)
		}
	}
	for name, addrs := range map[string][]string{"-tls": s.tls, "-http": s.http} {
		for _, addr := range addrs {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if s.staleIf < 0 || s.revalidate < 0 {
		return errors.New("-cache-stale-for and -cache-stale-while-revalidate must not be negative")
	}
	return nil
}

// endpoint reads an endpoint, which may be empty.
func endpoint(flag, addr string) (hostlookup.Endpoint, error) {
	ep := hostlookup.Endpoint{Addr: addr}
	if addr != "" {
		if err := ep.Validate(); err != nil {
			return ep, fmt.Errorf("-%s: %w", flag, err)
		}
	}
	return ep, nil
}

// unknown reads -unknown-tls.
func (s *settings) unknown() (fallback hostlookup.Endpoint, closes bool, err error) {
	addr, falls := strings.CutPrefix(s.unknownTLS, "fallback=")
	switch {
	case falls && addr != "":
		fallback, err = endpoint("unknown-tls", addr)
		return fallback, false, err
	case s.unknownTLS == "alert" || s.unknownTLS == "close":
		return hostlookup.Endpoint{}, s.unknownTLS == "close", nil
	}
	return hostlookup.Endpoint{}, false, errors.New("-unknown-tls: want alert, close or fallback=ENDPOINT")
}

// networks reads networks, or single addresses.
func networks(flag string, texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			prefix, err := netip.ParsePrefix(part)
			if addr, addrErr := netip.ParseAddr(part); addrErr == nil && addr.Zone() == "" {
				prefix, err = addr.Prefix(addr.BitLen())
			}
			if err != nil || prefix.Addr().Is4In6() { // which would match nothing
				return nil, fmt.Errorf("-%s: %q: want a network such as 10.0.0.0/8", flag, part)
			}
			list = append(list, prefix.Masked())
		}
	}
	return list, nil
}

// protocols returns what is accepted at each address.
func (s *settings) protocols() map[string]peek.Protocol {
	protocols := map[string]peek.Protocol{}
	for _, addr := range s.tls {
		protocols[addr] |= peek.TLS
	}
	for _, addr := range s.http {
		protocols[addr] |= peek.HTTP1 | peek.HTTP2
	}
	return protocols
}
