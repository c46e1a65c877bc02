package haproxycfg

import (
	"cmp"
	"strconv"
	"strings"
)

func (f *Frontend) append(t *text, maps map[string]string) {
	t.section("frontend", f.Name)
	for i := range f.Binds {
		f.Binds[i].append(t)
	}
	if f.MaxConn > 0 {
		t.line("maxconn")
		t.int(f.MaxConn)
	}
	if f.Monitor != "" {
		t.line("monitor-uri")
		t.word(f.Monitor)
		t.line("monitor fail if { stopping }")
	}
	if f.Exporter != "" {
		// "-m str --" keeps a path that looks like a flag from being one.
		t.line("http-request use-service prometheus-exporter if { path -m str --")
		t.word(f.Exporter)
		t.raw(" }")
	}
	if f.RedirectHTTPS != nil || f.Router != nil {
		// req.fhdr, since req.hdr would take "a, b" for two values. One regular
		// expression takes the port and one dot before it; an IPv6 literal
		// ends in "]" and so keeps its colons.
		t.line(`http-request set-var(txn.host) 'req.fhdr(host),lower,regsub("[.]?(:[0-9]*)?$","")'`)
	}
	if f.RedirectHTTPS != nil {
		f.RedirectHTTPS.append(t)
	}
	f.Forwarded.append(t)
	if f.DefaultBackend == "" && f.Router == nil {
		return
	}
	// An upgrade to HTTP/2 would be a tunnel through which a client asks a server for
	// what it likes, past routes and Forwarded. RFC 9113, section 3.1, has given it up.
	t.line("http-request del-header HTTP2-Settings")
	t.line("http-request del-header Upgrade if { req.hdr(Upgrade) -i h2c h2 }")
	// RFC 9110, section 9.2.2, lets a proxy repeat idempotent methods and forbids
	// it for all others. PUT and DELETE are left out although they are
	// idempotent: their repetition may undo what another client wrote in between,
	// and the client of a DELETE that worked would be told 404.
	t.line("http-request disable-l7-retry unless { method GET HEAD OPTIONS }")
	if f.Router != nil {
		f.Router.append(t, maps)
	}
	if f.DefaultBackend != "" {
		t.line("default_backend ")
		t.raw(f.DefaultBackend)
	}
}

func (b *Bind) append(t *text) {
	t.line("bind")
	if strings.HasPrefix(b.Address, ":") {
		t.word("*" + b.Address)
	} else {
		t.word(b.Address)
	}
	if strings.HasPrefix(b.Address, "[::]:") {
		t.raw(" v4v6") // net.Listen does the same
	}
	if b.AcceptProxy {
		t.raw(" accept-proxy")
	}
	if b.TLS == nil {
		return
	}
	t.raw(" ssl crt")
	t.word(b.TLS.Certificates)
	t.raw(" ssl-min-ver")
	t.word(cmp.Or(b.TLS.MinVersion, "TLSv1.2"))
	t.raw(" alpn")
	if b.TLS.ALPN == nil {
		t.raw(" h2,http/1.1")
	} else {
		t.word(strings.Join(b.TLS.ALPN, ","))
	}
	if b.TLS.StrictSNI {
		t.raw(" strict-sni")
	}
}

// append renders the redirection. "redirect scheme" would keep the port of the
// Host header, which is the plain one.
func (r *HTTPSRedirect) append(t *text) {
	t.line("http-request redirect prefix https://%[var(txn.host)]")
	if r.Port != 0 && r.Port != 443 {
		t.raw(":" + strconv.Itoa(int(r.Port)))
	}
	t.raw(" code")
	t.int(cmp.Or(r.Code, 308))
	t.raw(" if { var(txn.host) -m len gt 0 } !{ ssl_fc }")
}

func (f Forwarded) append(t *text) {
	switch f {
	case ForwardedReplace:
		t.line("http-request del-header Forwarded")
		t.line("http-request del-header X-Forwarded-Host")
		t.line("http-request set-header X-Forwarded-For %[src]")
		t.line("http-request set-header X-Forwarded-Proto https if { ssl_fc }")
		t.line("http-request set-header X-Forwarded-Proto http if !{ ssl_fc }")
	case ForwardedAppend:
		t.line("option forwardfor")
		t.line("http-request set-header X-Forwarded-Proto https if { ssl_fc } !{ req.hdr(X-Forwarded-Proto) -m found }")
		t.line("http-request set-header X-Forwarded-Proto http if !{ ssl_fc } !{ req.hdr(X-Forwarded-Proto) -m found }")
	}
}

// append renders the look-ups. Only str and beg are used, the match methods that
// HAProxy indexes as trees: their cost does not grow with the table.
func (r *Router) append(t *text, maps map[string]string) {
	look := func(variable, input, method, name, condition string) {
		t.line("http-request set-var(txn." + variable + ") '" + input + ",map_" + method + `("` + maps[name] + `")'` + condition)
	}
	t.line("http-request set-var(txn.path) path")
	// "GET http://host" has no path and means the root (RFC 9110, section 4.2.3),
	// unlike "OPTIONS *" and "CONNECT host:port".
	t.line("http-request set-var(txn.path) str(/) if !{ var(txn.path) -m found } !{ method OPTIONS CONNECT }")
	look("vhost", "var(txn.host)", "str", r.Hosts, "")
	// "+" and not "*": ".example.com" has no label that the wildcard stands for.
	look("vhost", `var(txn.host),regsub("^[^.]+","*")`, "str", r.Hosts, " if !{ var(txn.vhost) -m found }")
	// Without the condition a request that has no path would find the root.
	look("backend", "var(txn.vhost),concat(,txn.path)", "str", r.Exact, " if { var(txn.path) -m found }")
	look("backend", "var(txn.vhost),concat(,txn.path,/)", "beg", r.Prefix, " if { var(txn.path) -m found } !{ var(txn.backend) -m found }")
	t.line("use_backend %[var(txn.backend)] if { var(txn.backend) -m found }")
}
