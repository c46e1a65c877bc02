package main

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the values of the flags.
type settings struct {
	tls, http    cli.Strings
	quic         cli.Strings
	admin        cli.AdminFlags
	drainDelay   time.Duration
	drainTimeout time.Duration
	drainSpread  time.Duration

	hosts, api, changes        string
	apiToken                   string
	apiTLS                     cli.ClientTLS
	apiTimeout, poll           time.Duration
	defaultTo, noName          string
	ttl, negativeTTL, staleFor time.Duration
	revalidate                 time.Duration
	size, negativeSize         int
	cacheFile                  string

	echKeys                                string
	unknownTLS, notFoundPage               string
	hello, lookup, dial, idle, keepAlive   time.Duration
	halfClose, quicIdle                    time.Duration
	maxHello, maxConns, perSource, peeking int
	perHost, hostRate                      int
	proxyIn, trusted, allow, deny, nat64   cli.Strings
	proxyRequired                          bool
	proxyTLVs                              cli.Strings
	proxyOut                               string

	logSample float64
	logFaults int
	logFormat cli.LogFormat
}

func register(fs *flag.FlagSet) *settings {
	s := &settings{}
	fs.Var(&s.tls, "tls", "`address` for TLS; systemd:NAME is a socket that systemd passes; may be given several times")
	fs.Var(&s.http, "http", cli.Meaning("http", "HTTP/1 and HTTP/2; may be one of -tls; systemd:NAME is a socket that systemd passes"))
	fs.Var(&s.quic, "quic", "UDP `address` for QUIC (HTTP/3); systemd:NAME is a socket that systemd passes; may be given several times")
	s.admin.Register(fs, "the status page, /metrics, /healthz and /readyz", "the drain command")

	fs.StringVar(&s.api, "api", "", "`URL` of the host API, with {host} in place of the host")
	fs.StringVar(&s.changes, "changes", "", "`URL` of the API's changes; a change then counts before the cached answer expires; none if empty")
	fs.StringVar(&s.apiToken, "api-token-file", "", "`file` with a bearer token for the API")
	s.apiTLS.Register(fs, "api", "the API")
	fs.DurationVar(&s.apiTimeout, "api-timeout", 5*time.Second, "how long the API may take for an answer")
	fs.StringVar(&s.hosts, "hosts", "", cli.Meaning("hosts", "the router asks the API about the other hosts"))
	fs.DurationVar(&s.poll, "poll", time.Second, cli.Meaning("poll"))
	fs.StringVar(&s.defaultTo, "default", "", "`endpoint` of hosts that are not found; without a port, the port that the client used")
	fs.StringVar(&s.noName, "no-name", "", "`endpoint` of connections that name no host")

	fs.DurationVar(&s.ttl, "cache-ttl", 30*time.Second, "how long to keep an answer of the API, if the API does not say")
	fs.DurationVar(&s.negativeTTL, "cache-negative-ttl", 5*time.Second, "how long to remember that a host is not found, if the API does not say")
	fs.DurationVar(&s.staleFor, "cache-stale-for", 24*time.Hour, "how long an expired answer is still used while the API fails")
	fs.DurationVar(&s.revalidate, "cache-stale-while-revalidate", 0, "how long an expired answer is used at once, while the router asks the API")
	fs.IntVar(&s.size, "cache-size", 100_000, "`number` of known hosts to keep")
	fs.IntVar(&s.negativeSize, "cache-negative-size", 10_000, "`number` of hosts to remember as not found")
	fs.StringVar(&s.cacheFile, "cache-file", "", "`file` for the known hosts, in the format of -hosts with the time when each expires; after a restart they are used while the API fails, for as long as without the restart")

	fs.StringVar(&s.echKeys, "ech-keys", "", "`directory` with key files for Encrypted ClientHello (RFC 9934); the router then routes TLS connections by the inner name")
	fs.StringVar(&s.unknownTLS, "unknown-tls", "alert", "`answer` to TLS clients of unknown hosts: alert, close, or fallback=ENDPOINT, a server with a certificate that serves an error page")
	fs.StringVar(&s.notFoundPage, "not-found-page", "", "HTML `file` for HTTP clients of unknown hosts; a template with {{.Host}}, {{.Status}}, {{.Text}} and {{.Message}}")

	fs.DurationVar(&s.hello, "hello-timeout", 10*time.Second, "how long a client may take to name its host")
	fs.DurationVar(&s.lookup, "lookup-timeout", 5*time.Second, "how long a lookup may take, and after it a DNS query if the endpoint is a name")
	fs.DurationVar(&s.dial, "dial-timeout", 10*time.Second, "how long connecting to an endpoint may take")
	fs.DurationVar(&s.idle, "idle-timeout", 10*time.Minute, "a connection ends after this time without a byte in either direction; negative means never")
	fs.DurationVar(&s.quicIdle, "quic-idle-timeout", 2*time.Minute, "a QUIC connection ends after this time without a datagram; snirouter does not see its end otherwise")
	fs.DurationVar(&s.halfClose, "half-close-timeout", time.Minute, "a connection ends after this time without a byte when one side has ended or reset its direction; negative means that only -idle-timeout applies")
	fs.DurationVar(&s.keepAlive, "keep-alive", 15*time.Second, "TCP probes a silent peer after this time; negative means never")
	fs.IntVar(&s.maxHello, "max-hello", peek.MaxBytes, "largest ClientHello or request head in `bytes`")
	fs.IntVar(&s.maxConns, "max-connections", 0, cli.Meaning("max-connections", "for one more, the source that holds the most makes room; 0 means that only the descriptors of the process limit it"))
	fs.IntVar(&s.perSource, "max-connections-per-source", 0, "`number` of connections at one time from one IPv4 address or IPv6 /64; 0 means no limit")
	fs.IntVar(&s.peeking, "max-peeking", 10_000, "`number` of connections at one time that have not named a host; a further one closes the oldest of the source that has the most; a client that has sent more than 4 KiB counts once for each 4 KiB; 0 means no limit")
	fs.IntVar(&s.perHost, "max-connections-per-host", 0, "`number` of connections at one time to one host; a wildcard counts as one host; 0 means no limit")
	fs.IntVar(&s.hostRate, "max-rate-per-host", 0, "`number` of new connections in a second to one host; a wildcard counts as one host; 0 means no limit")
	fs.Var(&s.trusted, "trusted-sources", "`network` of balancers whose connections count for no source, such as 10.0.0.0/8; with a PROXY header the client in the header counts instead; may be given several times")

	fs.Var(&s.proxyIn, "proxy-protocol-in", "`network` of proxies that may send a PROXY header, such as 10.0.0.0/8; may be given several times")
	fs.BoolVar(&s.proxyRequired, "proxy-protocol-required", false, "refuse connections without a PROXY header")
	fs.Var(&s.proxyTLVs, "proxy-protocol-tlv", "`fact` about the client that a v2 PROXY header for upstreams has: authority, the host that the client named, or alpn, the application protocol if snirouter can determine it; may be given several times")
	fs.StringVar(&s.proxyOut, "proxy-protocol-out", "", "`version` of the PROXY header for upstreams, v1 or v2; none if empty")
	fs.Var(&s.allow, "allow", "`network` that endpoints must be in; may be given several times. Loopback, link-local, documentation, benchmark and own addresses are only allowed by a network within their range")
	fs.Var(&s.deny, "deny", "`network` that no endpoint may be in; may be given several times")

	fs.Var(&s.nat64, "nat64-prefix", "`network` of a NAT64 translator of the site, such as 2001:db8:64::/96: the IPv4 address in an endpoint of it must be allowed too; may be given several times")

	fs.DurationVar(&s.drainDelay, "drain-delay", 0, cli.Meaning("drain-delay"))
	fs.DurationVar(&s.drainTimeout, "drain-timeout", time.Minute, cli.Meaning("drain-timeout"))
	fs.DurationVar(&s.drainSpread, "drain-spread", 0, "the router closes the remaining connections one by one during this time at the end of -drain-timeout; 0 means a quarter of it")
	fs.Float64Var(&s.logSample, "log-sample", 1, "`share` of the connections without a fault that are logged, 0 to 1; see -log-faults for the others")
	fs.IntVar(&s.logFaults, "log-faults", 10, "`number` of connections with a fault that are logged each second, for each outcome; one line counts the rest; 0 means that only this line is logged")
	s.logFormat.Register(fs)
	return s
}

// check returns an error for the first wrong flag. It checks only the flags that no later step
// checks: the parse functions and the imported packages check the others.
func (s *settings) check() error {
	switch {
	case len(s.tls)+len(s.http)+len(s.quic) == 0:
		return errors.New("-tls, -http or -quic is needed")
	case s.echKeys != "" && len(s.tls) == 0:
		return errors.New("-ech-keys is for -tls")
	case s.proxyRequired && len(s.quic) > 0:
		return errors.New("-proxy-protocol-required cannot be used with -quic: QUIC has no PROXY header")
	case s.api == "" && s.hosts == "" && s.defaultTo == "":
		return errors.New("-api, -hosts or -default is needed")
	case s.api == "" && (s.changes != "" || s.cacheFile != ""):
		return errors.New("-changes and -cache-file are for -api")
	case s.apiTLS.Check() != nil:
		return s.apiTLS.Check()
	case s.size < 1 || s.negativeSize < 1:
		return errors.New("-cache-size and -cache-negative-size must be 1 or more")
	case s.admin.Check() != nil:
		return s.admin.Check()
	case s.poll <= 0:
		return errors.New("-poll must be more than 0")
	case !(s.logSample >= 0 && s.logSample <= 1):
		return errors.New("-log-sample: want a share, 0 to 1")
	case s.logFaults < 0:
		return errors.New("-log-faults must not be negative")
	case !slices.Contains([]string{"", "v1", "v2"}, s.proxyOut):
		return errors.New("-proxy-protocol-out: want v1 or v2")
	case slices.ContainsFunc(s.proxyTLVs, func(name string) bool { return name != "authority" && name != "alpn" }):
		return errors.New("-proxy-protocol-tlv: want authority or alpn")
	case len(s.proxyTLVs) > 0 && s.proxyOut != "v2":
		return errors.New("-proxy-protocol-tlv needs -proxy-protocol-out v2")
	case s.proxyRequired && len(s.proxyIn) == 0:
		return errors.New("-proxy-protocol-required needs -proxy-protocol-in")
	case min(s.drainDelay, s.drainTimeout, s.drainSpread) < 0:
		return errors.New("-drain-delay, -drain-timeout and -drain-spread must not be negative")
	case min(s.maxConns, s.perSource, s.peeking, s.perHost, s.hostRate) < 0 || s.maxHello < 1 || s.maxHello > peek.MaxBytes:
		return fmt.Errorf("limits must not be negative, and -max-hello is from 1 to %d", peek.MaxBytes)
	case s.staleFor < 0 || s.revalidate < 0:
		return errors.New("-cache-stale-for and -cache-stale-while-revalidate must not be negative")
	}
	if s.halfClose == 0 {
		return errors.New("-half-close-timeout must not be 0")
	}
	for name, d := range map[string]time.Duration{
		"-hello-timeout": s.hello, "-lookup-timeout": s.lookup, "-dial-timeout": s.dial, "-api-timeout": s.apiTimeout,
		"-cache-ttl": s.ttl, "-cache-negative-ttl": s.negativeTTL, "-quic-idle-timeout": s.quicIdle,
	} {
		if d <= 0 {
			return fmt.Errorf("%s must be more than 0", name)
		}
	}
	for name, addrs := range map[string][]string{"-tls": s.tls, "-http": s.http, "-quic": s.quic} {
		for _, addr := range addrs {
			if err := cli.CheckAddress(addr); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// protocols returns the protocols of each address.
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

// parseEndpoint returns an endpoint with the address addr, the value of a flag. If addr is "", the
// endpoint has no address.
func parseEndpoint(flag, addr string) (hostlookup.Endpoint, error) {
	ep := hostlookup.Endpoint{Addr: addr}
	if addr != "" {
		if err := ep.Validate(); err != nil {
			return ep, fmt.Errorf("-%s: %w", flag, err)
		}
	}
	return ep, nil
}

// setUnknownTLS sets the fields of srv that the flag -unknown-tls determines. value is the value of
// this flag.
func setUnknownTLS(srv *sniproxy.Server, value string) (err error) {
	addr, isFallback := strings.CutPrefix(value, "fallback=")
	switch {
	case isFallback && addr != "":
		srv.Fallback, err = parseEndpoint("unknown-tls", addr)
		return err
	case value == "alert" || value == "close":
		srv.CloseUnknownTLS = value == "close"
		return nil
	}
	return errors.New("-unknown-tls: want alert, close or fallback=ENDPOINT")
}

// parseNetworks reads networks and single addresses.
func parseNetworks(flag string, texts []string) ([]netip.Prefix, error) {
	var list cli.Networks
	for _, text := range texts {
		if err := list.Set(text); err != nil {
			return nil, fmt.Errorf("-%s: %w", flag, err)
		}
	}
	return list, nil
}

// maxPage is the largest size of a page for HTTP clients, in bytes. The limit exists because the
// router holds each answer in memory.
const maxPage = 256 << 10

// pages is the template of all pages for HTTP clients. For an unknown host (status 404) it shows
// the user's page, which is the template "unknown". For every other status it shows the template
// "other", because the user's page would give the wrong reason.
const pages = `{{define "other"}}<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Text}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em}</style>
<h1>{{.Text}}</h1>
<p>{{.Message}}</p>
</html>
{{end}}{{if eq .Status 404}}{{template "unknown" .}}{{else}}{{template "other" .}}{{end}}`

// notFoundPage is the page of -not-found-page. Its method "read" reads the file again.
type notFoundPage struct {
	file string
	now  atomic.Pointer[template.Template]
}

// parsePage reads the file of -not-found-page. If file is "", it returns nil and no error.
func parsePage(file string) (*notFoundPage, error) {
	if file == "" {
		return nil, nil
	}
	p := &notFoundPage{file: file}
	return p, p.read()
}

// template returns a template that always shows the last version of the page that p has read
// without an error. If p is nil, there is no page, and the result is nil.
func (p *notFoundPage) template() *template.Template {
	if p == nil {
		return nil
	}
	show := func(page sniproxy.Page) (template.HTML, error) {
		var b bytes.Buffer
		err := p.now.Load().Execute(&b, page)
		return template.HTML(b.String()), err
	}
	return template.Must(template.New("page").Funcs(template.FuncMap{"show": show}).Parse("{{show .}}"))
}

// read reads the file of -not-found-page. If it cannot use the file, the old page stays.
func (p *notFoundPage) read() error {
	text, err := inputfile.Read(p.file, maxPage)
	if err != nil {
		return err
	}
	t := template.Must(template.New("pages").Parse(pages))
	if _, err := t.New("unknown").Parse(string(text)); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, sniproxy.Page{Status: 404, Text: http.StatusText(404), Host: "example.com"}); err != nil {
		return err
	}
	if b.Len() > maxPage {
		return fmt.Errorf("%s: a page of %d bytes, and %d are allowed", p.file, b.Len(), maxPage)
	}
	p.now.Store(t)
	return nil
}
