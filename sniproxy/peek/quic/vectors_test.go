package quic_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
	require.NoError(t, err)
	return b
}

// The vectors of RFC 9001 appendix A and RFC 9369 appendix A, for both sides.
func TestVectors(t *testing.T) {
	id := fromHex(t, "8394c8f03e515708")
	for _, c := range []struct {
		rfc                string
		version            uint32
		clientIV, serverIV string
	}{
		{"rfc9001", quic.Version1, "fa044b2f42a3fd3b46fb255c", "0ac1493ca1905853b0bba03e"},
		{"rfc9369", quic.Version2, "91f73e2351d8fa91660e909f", "dd13c276499c0249d3310652"},
	} {
		t.Run(c.rfc, func(t *testing.T) {
			require.Equal(t, c.clientIV, hex.EncodeToString(quic.IV(c.version, id, quic.Client)))
			require.Equal(t, c.serverIV, hex.EncodeToString(quic.IV(c.version, id, quic.Server)))

			datagram := file(t, c.rfc+"-a2-client")
			h, err := quic.ParseHeader(datagram)
			require.NoError(t, err)
			require.Equal(t, quic.Initial, h.Type)
			require.Equal(t, id, h.DestID)
			require.Empty(t, h.SrcID)
			require.Empty(t, h.Token)
			require.Equal(t, len(datagram), h.Len)
			payload, number, ok := quic.Open(datagram, id, quic.Client)
			require.True(t, ok)
			require.Equal(t, int64(2), number)
			require.Len(t, payload, 1162)
			require.Equal(t, "060040f1010000ed0303ebf8fa56f129", hex.EncodeToString(payload[:16]))
			require.Equal(t, datagram, quic.Packet{Version: c.version, Dest: id, Number: 2}.Seal(payload), "sealed again")

			var r quic.Reader
			hello, err := r.Read(datagram)
			require.NoError(t, err)
			require.Equal(t, "example.com", hello.Name)
			require.Equal(t, c.version, hello.Version)
			require.Equal(t, id, hello.DestID)
			require.True(t, hello.ClientHello.OffersALPN("alpn"))
			require.Equal(t, 241, hello.ClientHello.Len)
			again, err := r.Read([]byte("anything"))
			require.NoError(t, err)
			require.Equal(t, hello, again)

			answer := file(t, c.rfc+"-a3-server")
			payload, number, ok = quic.Open(answer, id, quic.Server)
			require.True(t, ok)
			require.Equal(t, int64(1), number)
			require.Equal(t, "02000000000600405a020000560303ee", hex.EncodeToString(payload[:16]))
			_, _, ok = quic.Open(answer, id, quic.Client)
			require.False(t, ok)
		})
	}
}

// The first case is the example of RFC 9000 appendix A.3. In the other cases, the packet number is
// the first or the last one that its bytes can express.
func TestExpandNumber(t *testing.T) {
	for _, c := range []struct {
		truncated int64
		n         int
		largest   int64
		want      int64
	}{
		{0x9b32, 2, 0xa82f30ea, 0xa82f9b32},
		{0, 1, -1, 0},
		{255, 1, -1, 255},
		{1 << 31, 4, -1, 1 << 31},
		{0, 1, 255, 256},
		{255, 1, 256, 255},
	} {
		require.Equal(t, c.want, quic.ExpandNumber(c.truncated, c.n, c.largest), "%+v", c)
	}
}

// The hello of Chromium has a post-quantum key share, so it needs two datagrams. Chromium cuts it
// into pieces that are out of order.
func TestChromium(t *testing.T) {
	one, two := file(t, "chromium-1"), file(t, "chromium-2")
	for name, order := range map[string][][]byte{"in order": {one, two}, "reordered": {two, one}, "repeated": {two, two, one}} {
		t.Run(name, func(t *testing.T) {
			var r quic.Reader
			for i, datagram := range order {
				hello, err := r.Read(datagram)
				if i < len(order)-1 {
					require.ErrorIs(t, err, peek.ErrNeedMore)
					require.Empty(t, hello.Name)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, "chromium.example", hello.Name)
				require.True(t, hello.ClientHello.OffersALPN("h3"))
				require.True(t, hello.ClientHello.PostQuantum())
				require.True(t, hello.ClientHello.ECH)
				require.Equal(t, uint16(0x0304), hello.ClientHello.MaxVersion())
			}
		})
	}
}
