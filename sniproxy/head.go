package sniproxy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/sniproxy/peek"
)

// proxyUse is what a listener does about PROXY headers of one peer.
type proxyUse uint8

const (
	proxyNone     proxyUse = iota // what looks like a header is the client's own
	proxyOptional                 // a header may come
	proxyRequired                 // one must
)

// head reads the beginning of a connection: a PROXY header, then what names the host. It
// is a function of the bytes, in whatever pieces they come.
type head struct {
	parser peek.Parser
	use    proxyUse
	looked bool       // the question of a PROXY header is settled
	proxy  *proxyInfo // nil without one
	skip   int        // bytes of the PROXY header
}

// parse looks at all bytes so far. The error is nil, one of peek, peek.NeedMore among
// them, or wraps ErrProxyHeader.
func (h *head) parse(b []byte) (peek.Result, error) {
	if !h.looked {
		if err := h.parseProxy(b); err != nil {
			return peek.Result{}, err
		}
	}
	return h.parser.Parse(b[h.skip:])
}

func (h *head) parseProxy(b []byte) error {
	if h.use != proxyNone {
		n, err := proxyLen(b)
		switch {
		case err != nil:
			return err
		case n > 0:
			if h.proxy, err = parseProxy(b[:n]); err != nil {
				return err
			}
			h.skip = n
		case h.use == proxyRequired:
			return fmt.Errorf("%w: required, and missing", ErrProxyHeader)
		}
	}
	h.looked = true
	return nil
}

// face is what an answer to a client depends on, and logs tell of it. It outlives the
// bytes of the client.
type face struct {
	protocol peek.Protocol
	head     bool   // the method is HEAD: no body
	ech      bool   // offered
	version  uint16 // of TLS: the highest offered
	legacy   uint16 // of TLS: for the header of a record
	stream   uint32 // of HTTP/2: that of the request; 0 if there was none yet
	window   uint32 // of HTTP/2: how many bytes an answer may have
}

// faceOf takes what is known of a client out of what was parsed and b, the bytes after a
// PROXY header.
func faceOf(r peek.Result, b []byte) face {
	f := face{protocol: r.Protocol}
	switch r.Protocol {
	case peek.TLS:
		f.version, f.legacy, f.ech = r.Hello.MaxVersion(), r.Hello.LegacyVersion, r.Hello.ECH
	case peek.HTTP1:
		f.head = r.Request.Method == "HEAD"
	case peek.HTTP2:
		f.head = r.Request.Method == "HEAD"
		f.stream, f.window = h2Stream(b)
	}
	return f
}

const (
	maxALPN    = 8
	maxNameLog = 256 // bytes of a name that is none
)

// Nearly every client offers one of these; they need no memory of their own.
var usualALPN = [][]string{{"h2", "http/1.1"}, {"http/1.1"}, {"h2"}}

// alpnOf copies the first protocols that a client offers; nil if it offers none.
func alpnOf(h peek.ClientHello) *[]string {
	var views [maxALPN][]byte
	n := 0
	for p := range h.ALPN() {
		if n == maxALPN {
			break
		}
		views[n] = p
		n++
	}
	if n == 0 {
		return nil
	}
	for i, usual := range usualALPN {
		if slices.EqualFunc(usual, views[:n], func(s string, b []byte) bool { return s == string(b) }) {
			return &usualALPN[i]
		}
	}
	list := make([]string, n)
	for i := range list {
		list[i] = string(views[i])
	}
	return &list
}

// clip bounds what is kept of a name that is none.
func clip(s string) string {
	if len(s) > maxNameLog {
		return strings.Clone(s[:maxNameLog])
	}
	return s
}
