package sniproxy

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

// proxyV2 returns a header of version 2.
func proxyV2(command, family byte, body ...byte) []byte {
	b := append(slices.Clone(proxyproto.SIGV2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

var v4Body = []byte{192, 0, 2, 7, 192, 0, 2, 8, 0x04, 0xd2, 0x01, 0xbb}

var v6Body = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::8").AsSlice()...), v4Body[8:]...)

// withCRC returns a header of version 2 with a TLV for its checksum.
func withCRC(header []byte) []byte {
	b := append(slices.Clone(header), byte(proxyproto.PP2_TYPE_CRC32C), 0, 4, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// flip returns b with one bit of byte i changed.
func flip(b []byte, i int) []byte {
	b[i] ^= 1
	return b
}

func TestProxyHeaders(t *testing.T) {
	long := append(slices.Clone(v4Body), 0xEA, 0x0F, 0x00) // a TLV of 3840 bytes
	long = append(long, make([]byte, 0x0F00)...)
	for name, tt := range map[string]struct {
		header      []byte
		source, dst string
		err         error
	}{
		"v1, IPv4":                 {[]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n"), "192.0.2.7:1234", "192.0.2.8:443", nil},
		"v1, IPv6":                 {[]byte("PROXY TCP6 2001:db8::7 2001:db8::8 1234 443\r\n"), "[2001:db8::7]:1234", "[2001:db8::8]:443", nil},
		"v1, longest":              {[]byte("PROXY TCP6 2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", nil},
		"v1, unknown":              {[]byte("PROXY UNKNOWN\r\n"), "", "", nil},
		"v1, unknown with more":    {[]byte("PROXY UNKNOWN ffff:: ffff:: 1 2\r\n"), "", "", nil},
		"v2, IPv4":                 {proxyV2(0x21, 0x11, v4Body...), "192.0.2.7:1234", "192.0.2.8:443", nil},
		"v2, long":                 {proxyV2(0x21, 0x11, long...), "192.0.2.7:1234", "192.0.2.8:443", nil},
		"v2, local":                {proxyV2(0x20, 0x00), "", "", nil},
		"v2, local with addresses": {proxyV2(0x20, 0x11, v4Body...), "", "", nil},
		"v2, IPv6":                 {proxyV2(0x21, 0x21, v6Body...), "[2001:db8::7]:1234", "[2001:db8::8]:443", nil},
		"v2, local, any bytes":     {proxyV2(0x20, 0x00, 1, 2, 3), "", "", nil},
		"v2, local, short":         {proxyV2(0x20, 0x11, 1, 2, 3), "", "", nil},
		"v2, UNSPEC":               {proxyV2(0x21, 0x00), "", "", nil},
		"v2, UNSPEC, any bytes":    {proxyV2(0x21, 0x00, []byte(strings.Repeat("x", 12))...), "", "", nil},
		"v2, UDP":                  {proxyV2(0x21, 0x12, v4Body...), "", "", nil},
		"v2, UDP, IPv6":            {proxyV2(0x21, 0x22, v6Body...), "", "", nil},
		"v2, unix":                 {proxyV2(0x21, 0x31, make([]byte, 216)...), "", "", nil},
		"v2, unix datagrams":       {proxyV2(0x21, 0x32, make([]byte, 216)...), "", "", nil},
		"v2, checksum":             {withCRC(proxyV2(0x21, 0x11, v4Body...)), "192.0.2.7:1234", "192.0.2.8:443", nil},
		"v2, checksum, others":     {withCRC(proxyV2(0x21, 0x21, append(slices.Clone(v6Body), 4, 0, 2, 0, 0, 2, 0, 1, 'a')...)), "[2001:db8::7]:1234", "[2001:db8::8]:443", nil},
		"v2, checksum, UNSPEC":     {withCRC(proxyV2(0x21, 0x00)), "", "", nil},
		"v2, checksum, local":      {withCRC(proxyV2(0x20, 0x00)), "", "", nil},
		"v2, checksum, unix":       {withCRC(proxyV2(0x21, 0x31, make([]byte, 216)...)), "", "", nil},
		"none":                     {nil, "", "", nil},

		"v1, no such family": {[]byte("PROXY TCP5 192.0.2.7 192.0.2.8 1234 443\r\n"), "", "", ErrProxyHeader},
		"v1, bare LF":        {[]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\n"), "", "", ErrProxyHeader},
		"v1, bad address":    {[]byte("PROXY TCP4 192.0.2.777 192.0.2.8 1234 443\r\n"), "", "", ErrProxyHeader},
		"v1, bad port":       {[]byte("PROXY TCP4 192.0.2.7 192.0.2.8 65536 443\r\n"), "", "", ErrProxyHeader},
		"v1, without end":    {[]byte("PROXY TCP4 " + strings.Repeat("1", 200)), "", "", ErrProxyHeader},
		"v2, version 3":      {proxyV2(0x31, 0x11, v4Body...), "", "", ErrProxyHeader},
		"v2, too short":      {proxyV2(0x21, 0x11, v4Body[:11]...), "", "", ErrProxyHeader},
		"v2, too long":       {proxyV2(0x21, 0x11, make([]byte, 5000)...), "", "", ErrProxyHeader},
		"v2, TLV runs over":  {proxyV2(0x21, 0x11, append(slices.Clone(v4Body), 0xEA, 0, 9, 1)...), "", "", ErrProxyHeader},
		"v2, unix, short":    {proxyV2(0x21, 0x31, make([]byte, 215)...), "", "", ErrProxyHeader},
		"v2, UDP, short":     {proxyV2(0x21, 0x12, v4Body[:11]...), "", "", ErrProxyHeader},
		"v2, command 2":      {proxyV2(0x22, 0x11, v4Body...), "", "", ErrProxyHeader},
		"v2, UNSPEC, 2":      {proxyV2(0x22, 0x00), "", "", ErrProxyHeader},
		"v2, family 4":       {proxyV2(0x21, 0x41, v4Body...), "", "", ErrProxyHeader},
		"v2, transport 3":    {proxyV2(0x21, 0x13, v4Body...), "", "", ErrProxyHeader},
		"v2, UNSPEC STREAM":  {proxyV2(0x21, 0x01), "", "", ErrProxyHeader},
		"v2, wrong checksum": {flip(withCRC(proxyV2(0x21, 0x11, v4Body...)), 20), "", "", ErrProxyHeader},
		"v2, checksum of 3":  {proxyV2(0x21, 0x11, append(slices.Clone(v4Body), 3, 0, 3, 1, 2, 3)...), "", "", ErrProxyHeader},
		"v2, local, wrong":   {flip(withCRC(proxyV2(0x20, 0x00)), 22), "", "", ErrProxyHeader},
	} {
		t.Run(name, func(t *testing.T) {
			hello := hellotest.Hello{Name: "a.example"}.Wire()
			b := append(slices.Clone(tt.header), hello...)
			// The result is the same for the whole header at once and byte by byte. Every shorter
			// prefix returns NeedMore.
			for _, step := range []int{len(b), 1} {
				h := preface{proxyUse: proxyOptional, parser: peek.Parser{}}
				var r peek.Result
				var err error
				n := 0
				for n < len(b) {
					n += step
					if r, err = h.parse(slices.Clone(b[:n])); err == nil {
						break
					}
					if _, more := err.(peek.NeedMore); !more {
						break
					}
				}
				if tt.err != nil {
					require.ErrorIs(t, err, tt.err)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, len(b), n)
				require.Equal(t, "a.example", r.Name)
				require.Equal(t, len(tt.header), h.proxyLen)
				if tt.header == nil {
					require.Nil(t, h.proxy)
					continue
				}
				for want, got := range map[string]netip.AddrPort{tt.source: h.proxy.source, tt.dst: h.proxy.destination} {
					if want == "" {
						require.False(t, got.IsValid())
					} else {
						require.Equal(t, want, got.String())
					}
				}
			}
		})
	}
}

func TestProxyUse(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example"}.Wire()
	h := preface{proxyUse: proxyRequired}
	_, err := h.parse(hello)
	require.ErrorIs(t, err, ErrProxyHeader)

	// If the connection comes from another network, the header counts as bytes of the client. These
	// bytes are not TLS, and they are a malformed HTTP request.
	for _, header := range [][]byte{[]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n"), proxyV2(0x21, 0x11, v4Body...)} {
		h = preface{proxyUse: proxyNone}
		_, err = h.parse(append(header, hello...))
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrProxyHeader)
		require.NotErrorIs(t, err, peek.ErrNeedMore)
		require.NotErrorIs(t, err, peek.ErrNoName)
	}
}

func TestFormatProxy(t *testing.T) {
	v4, v4b := netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("192.0.2.8:443")
	v6 := netip.MustParseAddrPort("[2001:db8::7]:1234")
	for name, tt := range map[string]struct {
		source, dst netip.AddrPort
		want        string
	}{
		"IPv4":  {v4, v4b, "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n"},
		"mixed": {v6, v4b, "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.8 1234 443\r\n"},
		"none":  {netip.AddrPort{}, v4b, "PROXY UNKNOWN\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := formatProxy(1, tt.source, tt.dst, nil, clientTLVs{}, "me")
			require.NoError(t, err)
			require.Equal(t, tt.want, string(b))

			// A header of version 2 contains the ID of the Server and the TLVs of the incoming
			// header.
			in := &proxyInfo{tlvs: []proxyproto.TLV{
				{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("a.example")},
				{Type: proxyproto.PP2_TYPE_CRC32C, Value: []byte{1, 2, 3, 4}},
			}}
			b, err = formatProxy(2, tt.source, tt.dst, in, clientTLVs{}, "me")
			require.NoError(t, err)
			n, err := proxyLen(b)
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			got, err := parseProxy(b)
			require.NoError(t, err)
			require.Equal(t, tt.source.IsValid(), got.source.IsValid())
			require.True(t, got.passedThrough("me"))
			require.False(t, got.passedThrough("m"))
			require.False(t, (*proxyInfo)(nil).passedThrough("me"))
			require.Len(t, got.tlvs, 2, "a checksum is not of this header")
			require.Equal(t, "a.example", string(got.tlvs[0].Value))
		})
	}

	// Each server of a chain adds its ID to the header. formatProxy returns an error when the
	// header is too long.
	in := &proxyInfo{}
	for i := 0; ; i++ {
		b, err := formatProxy(2, v4, v4b, in, clientTLVs{authority: "a.example"}, strings.Repeat("x", 16))
		if err != nil {
			require.ErrorIs(t, err, ErrLoop)
			require.Greater(t, i, 50)
			break
		}
		in, err = parseProxy(b)
		require.NoError(t, err)
	}
}
