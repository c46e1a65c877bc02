package sniproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pires/go-proxyproto"

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
type preface struct {
	parser    peek.Parser
	proxyUse  proxyUse
	proxyDone bool       // the question of a PROXY header is settled
	proxy     *proxyInfo // nil without one
	proxyLen  int        // bytes of the PROXY header
}

// parse looks at all bytes so far. The error is nil, one of peek, peek.NeedMore among
// them, or wraps ErrProxyHeader.
func (h *preface) parse(b []byte) (peek.Result, error) {
	if !h.proxyDone {
		if err := h.parseProxy(b); err != nil {
			return peek.Result{}, err
		}
	}
	return h.parser.Parse(b[h.proxyLen:])
}

func (h *preface) parseProxy(b []byte) error {
	if h.proxyUse != proxyNone {
		n, err := proxyLen(b)
		switch {
		case err != nil:
			return err
		case n > 0:
			if h.proxy, err = parseProxy(b[:n]); err != nil {
				return err
			}
			h.proxyLen = n
		case h.proxyUse == proxyRequired:
			return fmt.Errorf("%w: required, and missing", ErrProxyHeader)
		}
	}
	h.proxyDone = true
	return nil
}

// face is what an answer to a client depends on, and logs tell of it. It outlives the
// bytes of the client.
type clientInfo struct {
	protocol peek.Protocol
	isHead   bool   // the method is HEAD: no body
	ech      bool   // offered
	version  uint16 // of TLS: the highest offered
	legacy   uint16 // of TLS: for the header of a record
	stream   uint32 // of HTTP/2: that of the request; 0 if there was none yet
	window   uint32 // of HTTP/2: how many bytes an answer may have
}

// faceOf takes what is known of a client out of what was parsed and b, the bytes after a
// PROXY header.
func clientInfoOf(r peek.Result, b []byte) clientInfo {
	f := clientInfo{protocol: r.Protocol}
	switch r.Protocol {
	case peek.TLS:
		f.version, f.legacy, f.ech = r.Hello.MaxVersion(), r.Hello.LegacyVersion, r.Hello.ECH
	case peek.HTTP1:
		f.isHead = r.Request.Method == "HEAD"
	case peek.HTTP2:
		f.isHead = r.Request.Method == "HEAD"
		f.stream, f.window = http2Request(b)
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
func clipName(s string) string {
	if len(s) > maxNameLog {
		return strings.Clone(s[:maxNameLog])
	}
	return s
}

const (
	maxProxyV1 = 107       // with its CRLF, PROXY protocol section 2.1
	maxProxyV2 = 16 + 4096 // what go-proxyproto takes by default
)

// hopTLV is how servers recognise their own connections (PROXY protocol section 2.2.7:
// 0xE0 to 0xEF are for applications). Its value is hopMark and the ID of a Server.
const instanceTLV proxyproto.PP2Type = 0xE7

const instanceMark = "headgate"

// proxyInfo is what a PROXY header says.
type proxyInfo struct {
	source, destination netip.AddrPort   // not valid if the header names none
	tlvs                []proxyproto.TLV // of version 2
}

// proxyLen tells how long the PROXY header is that b begins with; 0 is none. The error is
// peek.NeedMore or wraps ErrProxyHeader. It finds the end only, so that the library
// is given headers whole: its reader cannot be asked again.
func proxyLen(b []byte) (int, error) {
	if n := min(len(b), len(proxyproto.SIGV2)); bytes.Equal(b[:n], proxyproto.SIGV2[:n]) {
		if len(b) < 16 {
			return 0, peek.NeedMore(16 - len(b))
		}
		end := 16 + int(binary.BigEndian.Uint16(b[14:]))
		switch {
		case end > maxProxyV2:
			return 0, fmt.Errorf("%w: %d bytes", ErrProxyHeader, end)
		case end > len(b):
			return 0, peek.NeedMore(end - len(b))
		}
		return end, nil
	}
	const v1 = "PROXY " // no method of HTTP has this name
	if n := min(len(b), len(v1)); string(b[:n]) != v1[:n] {
		return 0, nil
	}
	if i := bytes.IndexByte(b[:min(len(b), maxProxyV1)], '\n'); i >= 0 {
		return i + 1, nil
	}
	if len(b) >= maxProxyV1 {
		return 0, fmt.Errorf("%w: version 1 without end", ErrProxyHeader)
	}
	return 0, peek.NeedMore(1)
}

var proxyReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 256) }}

// parseProxy parses a whole header.
func parseProxy(b []byte) (*proxyInfo, error) {
	r := proxyReaders.Get().(*bufio.Reader)
	defer proxyReaders.Put(r)
	r.Reset(bytes.NewReader(b))
	defer r.Reset(nil)
	h, err := proxyproto.Read(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
	}
	info := &proxyInfo{}
	if h.Version == 2 {
		if info.tlvs, err = h.TLVs(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
		}
	}
	if h.Command.IsLocal() {
		return info, nil // the proxy speaks for itself: its own addresses count
	}
	source, destination, ok := h.TCPAddrs()
	if !ok {
		return nil, fmt.Errorf("%w: not of TCP", ErrProxyHeader)
	}
	info.source, info.destination = addrPort(source), addrPort(destination)
	return info, nil
}

// hasHop tells whether the connection has been through the server with this ID.
func (p *proxyInfo) passedThrough(id string) bool {
	if p == nil {
		return false
	}
	for _, t := range p.tlvs {
		if t.Type == instanceTLV && string(t.Value) == instanceMark+id {
			return true
		}
	}
	return false
}

// formatProxy makes the header for an upstream. With version 2 it passes on the TLVs of
// the header that came in and adds the hop.
func formatProxy(version int, source, destination netip.AddrPort, in *proxyInfo, id string) ([]byte, error) {
	h := proxyproto.HeaderProxyFromAddrs(byte(version), tcpAddr(source), tcpAddr(destination))
	if version == 2 {
		var tlvs []proxyproto.TLV
		if in != nil {
			for _, t := range in.tlvs {
				if t.Type != proxyproto.PP2_TYPE_CRC32C { // of a header that is no more
					tlvs = append(tlvs, t)
				}
			}
		}
		tlvs = append(tlvs, proxyproto.TLV{Type: instanceTLV, Value: []byte(instanceMark + id)})
		if err := h.SetTLVs(tlvs); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
		}
	}
	b, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
	}
	if len(b) > maxProxyV2 {
		// Servers in turn have added a hop each until it got too long.
		return nil, fmt.Errorf("%w: PROXY header of %d bytes", ErrLoop, len(b))
	}
	return b, nil
}

// tcpAddr is nil, and the header then names no addresses, where ap is not valid.
func tcpAddr(ap netip.AddrPort) net.Addr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ap.Addr().WithZone(""), ap.Port()))
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp == nil {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
