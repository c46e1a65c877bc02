package haproxycfg

import (
	"cmp"
	"strconv"
)

// clientHeaders is a regular expression for the lower-case names of the headers that
// ForwardedReplace removes. They describe the client or the original request, or replace the path
// or the method: with X-Original-URL, a client could reach a path that its route does not cover.
// CGI programs read Proxy as HTTP_PROXY. RFC 9440, section 3, requires a proxy that ends TLS to
// remove Client-Cert.
const clientHeaders = "forwarded|forwarded-.*|x-forwarded|x-forwarded-.*|" + otherClientHeaders

const otherClientHeaders = "x-forward-.*|x-original|x-original-.*|x-originating-.*|" +
	"x-rewrite-.*|x-real-.*|x-remote-.*|x-client-(ip|addr|address|port|proto|cert|dn|verify)|x-proxyuser-.*|x-envoy-.*|x-azure-.*|" +
	"([^,]*-)?client-?ip|([^,]*-)?connecting-ip|client-cert|client-cert-.*|x-[^,]+-forwarded-(for|proto|host)|" +
	"x-nf-client-connection-ip|x-vercel-proxied-for|x-amzn-mtls-.*|cloudfront-viewer-address|cloudfront-forwarded-proto|" +
	"cf-connecting-.*|cf-pseudo-.*|cf-visitor|cf-ipcountry|fastly-.*|x-appengine-.*|" +
	"x-host|x-scheme|x-url|x-url-scheme|x-ssl|x-ssl-.*|x-https|x-arr-.*|front-end-https|ssl-client-.*|" +
	"x-http-method|x-http-method-override|x-method-override|x-http-host-override|x-http-path-override|" +
	"x-accel-.*|x-sendfile-.*|proxy|proxy-host|proxy-connection"

// proxyHeaders is a regular expression for the headers that ForwardedReplace removes from the
// requests of Frontend.TrustedProxies: clientHeaders except X-Forwarded-For and X-Forwarded-Proto.
// observeHeaders applies the expression to a list of names with commas between them. So the part
// for names that begin with "x-forwarded-" contains "[^,]" in place of ".".
const proxyHeaders = "forwarded|forwarded-.*|x-forwarded|" +
	"x-forwarded-([^,fp][^,]*|f|f[^,o][^,]*|fo|fo[^,r][^,]*|for[^,]+|p|p[^,r][^,]*|pr|pr[^,o][^,]*|pro|pro[^,t][^,]*|prot|prot[^,o][^,]*|proto[^,]+)?|" +
	otherClientHeaders

// trustedProxy is the name of an ACL for requests from Frontend.TrustedProxies. claimsTLS is a
// condition for requests with "X-Forwarded-Proto: https", whose sender claims that it has received
// them over TLS.
const (
	trustedProxy = "trusted-proxy"
	claimsTLS    = "{ req.hdr(X-Forwarded-Proto) -i https }"
)

// appendTrustedProxies declares the condition trustedProxy, with one line for each network, because
// HAProxy limits the length of a line.
func (f *Frontend) appendTrustedProxies(t *text) {
	for _, network := range f.TrustedProxies {
		t.line("acl " + trustedProxy + " src " + network.String())
	}
}

// appendRedirect renders the redirect from http to https. It does not use "redirect scheme", because
// the new URL would then contain the port of the Host header, at which the client spoke HTTP. If the frontend has a Router, HAProxy redirects only requests
// for declared hosts.
//
// HAProxy does not redirect a request with "X-Forwarded-Proto: https", because a redirect to a
// proxy that has ended TLS would be a loop. If such a request comes from a trusted proxy, HAProxy
// serves it. Otherwise HAProxy answers 421: RFC 9110, section 7.4, tells a server to reject a
// request for an https resource without TLS.
func (f *Frontend) appendRedirect(t *text, observing bool) {
	r := f.RedirectHTTPS
	const plain = "{ var(txn.host) -m len gt 0 } !{ ssl_fc } "
	declared := ""
	if f.Router != nil {
		declared = " { var(txn.vhost) -m found }"
	}
	if f.Forwarded != ForwardedAppend { // with ForwardedAppend, all clients are trusted proxies
		untrusted := plain + claimsTLS + declared
		if len(f.TrustedProxies) > 0 {
			untrusted += " !" + trustedProxy
		}
		if observing {
			observe(t, RefusedUntrustedProxy, untrusted)
		} else {
			t.line("http-request return status 421 content-type text/plain string " +
				"'421 misdirected request: X-Forwarded-Proto from an address that is no trusted proxy' if " + untrusted)
		}
	}
	if observing {
		observe(t, RefusedUndeclaredHost, plain+"!"+claimsTLS+" !"+declared[1:])
		declared = ""
	}
	t.line("http-request redirect prefix https://%[var(txn.host)]")
	if r.Port != 0 && r.Port != 443 {
		t.raw(":" + strconv.Itoa(int(r.Port)))
	}
	t.raw(" code")
	t.int(cmp.Or(r.Code, 308))
	t.raw(" if " + plain + "!" + claimsTLS + declared)
}

// appendForwarded renders the rules for the X-Forwarded headers. observing is true if
// observeHeaders has already rendered the rules that remove headers.
func (f *Frontend) appendForwarded(t *text, observing bool) {
	const setProto = "http-request set-header X-Forwarded-Proto "
	const keepProto = " !{ req.hdr(X-Forwarded-Proto) -m found }"
	switch {
	case f.Forwarded == ForwardedReplace && len(f.TrustedProxies) > 0:
		if !observing {
			t.line("http-request del-header '^(" + clientHeaders + ")$' -m reg if !" + trustedProxy)
			t.line("http-request del-header '^(" + proxyHeaders + ")$' -m reg if " + trustedProxy)
		}
		// The rules above have removed X-Forwarded-For from the requests of untrusted clients, so
		// in these requests add-header writes the only address. In the request of a trusted proxy,
		// add-header adds the address of the proxy to the header.
		t.line("http-request add-header X-Forwarded-For %[src]")
		t.line(setProto + "https if { ssl_fc }" + keepProto)
		t.line(setProto + "http if !{ ssl_fc }" + keepProto)
	case f.Forwarded == ForwardedReplace:
		if !observing {
			t.line("http-request del-header '^(" + clientHeaders + ")$' -m reg")
		}
		t.line("http-request set-header X-Forwarded-For %[src]")
		t.line(setProto + "https if { ssl_fc }")
		t.line(setProto + "http if !{ ssl_fc }")
	case f.Forwarded == ForwardedAppend:
		t.line("option forwardfor")
		t.line(setProto + "https if { ssl_fc }" + keepProto)
		t.line(setProto + "http if !{ ssl_fc }" + keepProto)
	}
}

// trustedProxies adds a fault for each network that is invalid, has bits after its prefix, or is an
// IPv4 network in IPv6 form.
func (v *validator) trustedProxies(f *Frontend) {
	for _, n := range f.TrustedProxies {
		if !n.IsValid() || n != n.Masked() || n.Addr().Is4In6() {
			v.addf("trusted proxies: %s is not a network such as 10.0.0.0/8", n)
		}
	}
}
