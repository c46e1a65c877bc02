package sniproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pires/go-proxyproto"

	"github.com/headgate/headgate/sniproxy/peek"
)

// proxyUse is how a listener treats a PROXY header of one peer.
type proxyUse uint8

const (
	proxyNone     proxyUse = iota // a header counts as bytes of the client
	proxyOptional                 // a header may come
	proxyRequired                 // a header must come
)

// preface parses the first bytes of a connection: an optional PROXY header, followed by the
// ClientHello or HTTP request that names the host. The result depends only on the bytes, and not on
// the TCP segments in which they arrived.
type preface struct {
	parser    peek.Parser
	proxyUse  proxyUse
	proxyDone bool       // the method parse has parsed the header, or the connection has none
	proxy     *proxyInfo // nil if there is no header
	proxyLen  int        // the length of the header in bytes
}

var prefaces = sync.Pool{New: func() any { return new(preface) }}

// parse parses b, all bytes that the client has sent so far. The error is an error of peek.Parser,
// or wraps ErrProxyHeader.
func (p *preface) parse(b []byte) (peek.Result, error) {
	if !p.proxyDone {
		if err := p.parseProxy(b); err != nil {
			return peek.Result{}, err
		}
	}
	return p.parser.Parse(b[p.proxyLen:])
}

func (p *preface) parseProxy(b []byte) error {
	if p.proxyUse != proxyNone {
		n, err := proxyLen(b)
		switch {
		case err != nil:
			return err
		case n > 0:
			if p.proxy, err = parseProxy(b[:n]); err != nil {
				return err
			}
			p.proxyLen = n
		case p.proxyUse == proxyRequired:
			return fmt.Errorf("%w: required, and missing", ErrProxyHeader)
		}
	}
	p.proxyDone = true
	return nil
}

// clientInfo holds the facts about a client that its Stats and an answer need. It keeps no
// reference to the client's bytes.
type clientInfo struct {
	protocol peek.Protocol
	isHead   bool   // HTTP: the method is HEAD, so an answer has no body
	ech      bool   // TLS: the client offers an encrypted hello
	version  uint16 // TLS: the highest version offered
	legacy   uint16 // TLS: the version for the header of a record
	stream   uint32 // HTTP/2: the stream of the request; 0 if no request began
	window   uint32 // HTTP/2: how many bytes of a body the client accepts
}

// clientInfoOf returns the facts about a client. b holds the bytes that the client has sent after
// the PROXY header. Without a PROXY header, b holds all bytes that the client has sent.
func clientInfoOf(r peek.Result, b []byte) clientInfo {
	c := clientInfo{protocol: r.Protocol}
	switch r.Protocol {
	case peek.TLS:
		c.version, c.legacy, c.ech = r.Hello.MaxVersion(), r.Hello.LegacyVersion, r.Hello.ECH
	case peek.HTTP1:
		c.isHead = r.Request.Method == "HEAD"
	case peek.HTTP2:
		c.isHead = r.Request.Method == "HEAD"
		c.stream, c.window = http2Request(b)
	}
	return c
}

const (
	maxALPN    = 8
	maxNameLog = 256 // the greatest length of Stats.RawName in bytes
)

// usualALPN are the lists of application protocols that nearly all clients offer. If a client
// offers one of these lists, its session uses the list in this variable instead of a copy, which
// saves an allocation.
var usualALPN = [][]string{{"h2", "http/1.1"}, {"http/1.1"}, {"h2"}}

// alpnOf returns the first 8 application protocols that a client offers, or nil if the client
// offers none.
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

// clipName shortens an invalid name for Stats.RawName.
func clipName(s string) string {
	if len(s) > maxNameLog {
		return strings.Clone(s[:maxNameLog])
	}
	return s
}

const (
	maxProxyV1 = 107       // including CRLF; PROXY protocol section 2.1
	maxProxyV2 = 16 + 4096 // the default limit of go-proxyproto
)

// instanceTLV is the type of the TLV by which a Server recognises a connection that it has sent
// itself. The value of the TLV is instanceMark, followed by the ID of the Server. The PROXY
// protocol reserves the types 0xE0 to 0xEF for applications (section 2.2.7).
const instanceTLV proxyproto.PP2Type = 0xE7

const instanceMark = "headgate"

// proxyInfo is the content of a PROXY header.
type proxyInfo struct {
	source, destination netip.AddrPort   // not valid if the header has no addresses
	tlvs                []proxyproto.TLV // only in a header of version 2
}

// proxyLen returns the length of the PROXY header at the beginning of b, or 0 if b begins with
// something else. The error is peek.NeedMore or wraps ErrProxyHeader.
//
// The Server must know the length before it parses the header with go-proxyproto, because
// go-proxyproto cannot continue after a short read.
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
	const v1 = "PROXY " // no HTTP method has this name
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

// parseProxy parses a complete header. The result has no addresses if the proxy itself is the
// client (LOCAL), or if the header names no TCP connection (UNSPEC, UNKNOWN, UDP, Unix sockets).
// For such a header, the PROXY protocol asks receivers to use the addresses of the connection
// (section 2.2).
func parseProxy(b []byte) (*proxyInfo, error) {
	header := b
	if len(b) >= 16 {
		// go-proxyproto refuses the command PROXY with the family UNSPEC, but accepts LOCAL with
		// UNSPEC. So parse a header with PROXY and UNSPEC as if it had the command LOCAL.
		if command, family := b[12], b[13]; b[0] == '\r' && command == byte(proxyproto.PROXY) && family == byte(proxyproto.UNSPEC) {
			header = slices.Clone(b)
			header[12] = byte(proxyproto.LOCAL)
		}
	}
	r := proxyReaders.Get().(*bufio.Reader)
	defer proxyReaders.Put(r)
	r.Reset(bytes.NewReader(header))
	defer r.Reset(nil)
	h, err := proxyproto.Read(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
	}
	info := &proxyInfo{}
	if h.Version == 2 {
		info.tlvs, err = h.TLVs()
		if err != nil && !h.Command.IsLocal() { // after LOCAL and UNSPEC, any bytes may follow
			return nil, fmt.Errorf("%w: %w", ErrProxyHeader, err)
		}
		if !checksumMatches(b, info.tlvs) {
			return nil, fmt.Errorf("%w: the checksum (CRC32C) does not match", ErrProxyHeader)
		}
	}
	if source, destination, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() {
		info.source, info.destination = addrPort(source), addrPort(destination)
	}
	return info, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumMatches returns true if a header of version 2 has no checksum, or if its checksum is
// correct. The argument "tlvs" contains the TLVs of this header. The sender computes the checksum
// over the header with four bytes of 0 in the place of the checksum (PROXY protocol section 2.2.3).
func checksumMatches(header []byte, tlvs []proxyproto.TLV) bool {
	if !slices.ContainsFunc(tlvs, func(t proxyproto.TLV) bool { return t.Type == proxyproto.PP2_TYPE_CRC32C }) {
		return true
	}
	// The TLVs of the header begin after the addresses. The family says how many bytes the
	// addresses have: 0 for UNSPEC, 12 for IPv4, 36 for IPv6, and 216 for Unix.
	at := 16 + [4]int{0, 12, 36, 216}[header[13]>>4&3]
	for at+3 <= len(header) {
		end := at + 3 + int(binary.BigEndian.Uint16(header[at+1:]))
		if proxyproto.PP2Type(header[at]) == proxyproto.PP2_TYPE_CRC32C {
			if end != at+7 || end > len(header) {
				return false
			}
			zeroed := slices.Clone(header)
			clear(zeroed[at+3 : end])
			return crc32.Checksum(zeroed, castagnoli) == binary.BigEndian.Uint32(header[at+3:])
		}
		at = end
	}
	return false
}

// passedThrough reports whether the Server with this ID has already sent this connection. If so,
// the PROXY header contains the ID.
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

// formatProxy returns the PROXY header for an upstream. The argument "in" is the PROXY header that
// the Server has received on the client's connection, or nil. A header of version 2 also contains
// the TLVs of the received header, the TLVs of the client, and the ID of this Server.
func formatProxy(version int, source, destination netip.AddrPort, in *proxyInfo, client clientTLVs, id string) ([]byte, error) {
	h := proxyproto.HeaderProxyFromAddrs(byte(version), tcpAddr(source), tcpAddr(destination))
	if version == 2 {
		var tlvs []proxyproto.TLV
		if in != nil {
			for _, t := range in.tlvs {
				if t.Type != proxyproto.PP2_TYPE_CRC32C { // the checksum of the incoming header
					tlvs = append(tlvs, t)
				}
			}
		}
		tlvs = client.appendTo(tlvs)
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
		// The connection runs in a loop of Servers. Each Server has added its ID to the header,
		// until the header became too long.
		return nil, fmt.Errorf("%w: PROXY header of %d bytes", ErrLoop, len(b))
	}
	return b, nil
}

// tcpAddr returns ap as a net.Addr. It returns nil if ap is not valid. In this case, the PROXY
// header has no addresses.
func tcpAddr(ap netip.AddrPort) net.Addr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ap.Addr().WithZone(""), ap.Port()))
}

// addrPort returns a TCP address as a netip.AddrPort. For a net.Addr of another type, it returns
// the zero value.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp == nil {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
