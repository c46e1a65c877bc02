package sniproxy

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
)

var tlvSource, tlvDestination = netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("[2001:db8::8]:443")

func TestApplicationProtocol(t *testing.T) {
	for _, c := range []struct {
		protocol peek.Protocol
		offered  []string
		want     string
	}{
		{peek.HTTP1, nil, "http/1.1"},
		{peek.HTTP2, nil, "h2c"},
		{peek.TLS, nil, ""},
		{peek.TLS, []string{"acme-tls/1"}, "acme-tls/1"},
		{peek.TLS, []string{"h2", "http/1.1"}, ""},
		{peek.TLS, []string{"h2\n"}, ""},
		{peek.TLS, []string{"h 2"}, ""},
		{peek.TLS, []string{"h\xc3\xa9"}, ""},
	} {
		require.Equal(t, c.want, applicationProtocol(c.protocol, c.offered), c)
	}
}

// valuesOf returns the values of the TLVs of one type.
func valuesOf(tlvs []proxyproto.TLV, kind proxyproto.PP2Type) (values []string) {
	for _, tlv := range tlvs {
		if tlv.Type == kind {
			values = append(values, string(tlv.Value))
		}
	}
	return values
}

// TestTLVsOfTheClient: a value that is too long adds no TLV, and a TLV of the incoming header stays.
func TestTLVsOfTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		client          clientTLVs
		in              []proxyproto.TLV
		authority, alpn []string
	}{
		"none":     {},
		"both":     {client: clientTLVs{"a.example", "h2"}, authority: []string{"a.example"}, alpn: []string{"h2"}},
		"longest":  {client: clientTLVs{strings.Repeat("a", 255), strings.Repeat("b", 255)}, authority: []string{strings.Repeat("a", 255)}, alpn: []string{strings.Repeat("b", 255)}},
		"too long": {client: clientTLVs{strings.Repeat("a", 256), strings.Repeat("b", 256)}},
		"incoming": {
			client: clientTLVs{"a.example", "h2"}, in: []proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("b.example")}},
			authority: []string{"b.example"}, alpn: []string{"h2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			header, err := formatProxy(2, tlvSource, tlvDestination, &proxyInfo{tlvs: c.in}, c.client, "me")
			require.NoError(t, err)
			got, err := parseProxy(header)
			require.NoError(t, err)
			require.Equal(t, c.authority, valuesOf(got.tlvs, proxyproto.PP2_TYPE_AUTHORITY))
			require.Equal(t, c.alpn, valuesOf(got.tlvs, proxyproto.PP2_TYPE_ALPN))
			require.True(t, got.passedThrough("me"))
		})
	}
	header, err := formatProxy(1, tlvSource, tlvDestination, nil, clientTLVs{"a.example", "h2"}, "me")
	require.NoError(t, err)
	require.NotContains(t, string(header), "a.example")
}

// FuzzProxyTLVs makes a header from the TLVs of an incoming header and from facts about a client. The
// header is at most maxProxyV2 long, and parseProxy reads the same TLVs from it. Each TLV of the
// incoming header is in the outgoing header once and unchanged, except the checksum.
func FuzzProxyTLVs(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, authority, alpn string) {
		if len(body) > 5000 {
			return
		}
		// The incoming header is for IPv4, and contains the TLVs in body.
		header := append([]byte{}, proxyproto.SIGV2...)
		header = append(header, 0x21, 0x11, byte((12+len(body))>>8), byte(12+len(body)), 192, 0, 2, 1, 192, 0, 2, 2, 4, 0, 1, 187)
		header = append(header, body...)
		n, err := proxyLen(header)
		if err != nil {
			require.ErrorIs(t, err, ErrProxyHeader)
			return
		}
		require.Len(t, header, n)
		in, err := parseProxy(header)
		if err != nil {
			require.ErrorIs(t, err, ErrProxyHeader)
			return
		}

		client := clientTLVs{authority, alpn}
		before := append([]proxyproto.TLV{}, in.tlvs...)
		out, err := formatProxy(2, in.source, in.destination, in, client, "me")
		require.Equal(t, before, append([]proxyproto.TLV{}, in.tlvs...), "the incoming TLVs do not change")
		if err != nil {
			require.ErrorIs(t, err, ErrLoop)
			return
		}
		require.LessOrEqual(t, len(out), maxProxyV2)
		got, err := parseProxy(out)
		require.NoError(t, err)
		require.Equal(t, in.source, got.source)
		require.Equal(t, in.destination, got.destination)
		require.True(t, got.passedThrough("me"))

		count := map[proxyproto.PP2Type]int{}
		for _, tlv := range in.tlvs {
			count[tlv.Type]++
		}
		for kind, value := range map[proxyproto.PP2Type]string{proxyproto.PP2_TYPE_AUTHORITY: authority, proxyproto.PP2_TYPE_ALPN: alpn} {
			want := valuesOf(in.tlvs, kind)
			if count[kind] == 0 && value != "" && len(value) <= maxTLV {
				want = []string{value}
			}
			require.Equal(t, want, valuesOf(got.tlvs, kind))
		}
		for kind := range count {
			switch kind {
			case proxyproto.PP2_TYPE_CRC32C:
				require.Empty(t, valuesOf(got.tlvs, kind))
			case instanceTLV:
				require.Len(t, valuesOf(got.tlvs, kind), count[kind]+1)
			default:
				require.Equal(t, valuesOf(in.tlvs, kind), valuesOf(got.tlvs, kind))
			}
		}
	})
}

// TestProxyTLVSeeds: the seeds of FuzzProxyTLVs are files with these names.
func TestProxyTLVSeeds(t *testing.T) {
	for _, name := range []string{"none", "both", "incoming-authority", "incoming-twice", "truncated", "long", "empty-value"} {
		require.FileExists(t, "testdata/fuzz/FuzzProxyTLVs/"+name)
	}
	files, err := os.ReadDir("testdata/fuzz/FuzzProxyTLVs")
	require.NoError(t, err)
	require.Len(t, files, 7)
}

// BenchmarkFormatProxy makes the PROXY header of one connection.
func BenchmarkFormatProxy(b *testing.B) {
	for name, client := range map[string]clientTLVs{"tlvs=none": {}, "tlvs=authority,alpn": {"www.shop.example", "h2"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := formatProxy(2, tlvSource, tlvDestination, nil, client, "0123456789abcdef"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
