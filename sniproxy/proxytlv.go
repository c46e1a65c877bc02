package sniproxy

import (
	"slices"

	"github.com/pires/go-proxyproto"

	"github.com/headgate/headgate/sniproxy/peek"
)

// maxTLV is the greatest length of an AUTHORITY or ALPN TLV that a Server adds. HAProxy keeps at most
// 255 bytes of an authority, and RFC 7301 gives the name of a protocol at most 255 bytes.
const maxTLV = 255

// clientTLVs are the facts about a client that a PROXY header of version 2 can contain. The zero
// value adds nothing.
type clientTLVs struct {
	authority string // the host in normal form
	alpn      string // the one application protocol that the connection can have
}

// appendTo appends the TLVs for the facts in c to tlvs, the TLVs of the incoming PROXY header. If
// tlvs already contains a TLV of the same type, appendTo keeps this TLV: a proxy nearer to the
// client has sent it.
func (c clientTLVs) appendTo(tlvs []proxyproto.TLV) []proxyproto.TLV {
	add := func(kind proxyproto.PP2Type, value string) {
		if value == "" || len(value) > maxTLV || slices.ContainsFunc(tlvs, func(t proxyproto.TLV) bool { return t.Type == kind }) {
			return
		}
		tlvs = append(tlvs, proxyproto.TLV{Type: kind, Value: []byte(value)})
	}
	add(proxyproto.PP2_TYPE_AUTHORITY, c.authority)
	add(proxyproto.PP2_TYPE_ALPN, c.alpn)
	return tlvs
}

// applicationProtocol returns the application protocol of a connection for the ALPN TLV, or "" if
// it is unknown. If a TLS client offers several protocols, the upstream chooses one of them, so the
// result is "". It is also "" for characters other than printable ASCII, because receivers write
// the client's text to their logs.
func applicationProtocol(p peek.Protocol, offered []string) string {
	switch p {
	case peek.HTTP1:
		return "http/1.1"
	case peek.HTTP2:
		return "h2c" // RFC 9113 section 3.3: prior knowledge, without TLS
	}
	if len(offered) != 1 {
		return ""
	}
	for _, c := range []byte(offered[0]) {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return offered[0]
}
