package quic_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// With both versions of QUIC, the keys of the server decrypt the datagram. AppendClose cuts a long
// reason.
func TestAppendClose(t *testing.T) {
	for _, version := range []uint32{quic.Version1, quic.Version2} {
		hello := quic.Hello{Version: version, DestID: destID, SrcID: srcID}
		answer, err := hello.AppendClose([]byte("before"), quic.CryptoError(112), strings.Repeat("r", 1000))
		require.NoError(t, err)
		answer = answer[len("before"):]
		require.LessOrEqual(t, len(answer), 342)
		h, err := quic.ParseHeader(answer)
		require.NoError(t, err)
		require.Equal(t, quic.Initial, h.Type)
		require.Equal(t, srcID, h.DestID)
		require.Equal(t, destID, h.SrcID)
		require.Equal(t, len(answer), h.Len)
		payload, _, ok := quic.Open(answer, destID, quic.Server)
		require.True(t, ok)
		require.Equal(t, "\x1c\x41\x70\x06\x41\x00"+strings.Repeat("r", 256), string(payload))
	}
}

// The source ID of the client is the destination ID of the answer, and the other way round.
func TestAppendVersionNegotiation(t *testing.T) {
	client := append([]byte{0xc0, 0xff, 0, 0, 29, 21}, make([]byte, 21)...) // IDs of other versions have up to 255 bytes
	client = append(client, 2, 'm', 'e')
	h, err := quic.ParseHeader(datagram(client))
	require.NoError(t, err)
	require.Equal(t, quic.UnknownVersion, h.Type)
	answer := h.AppendVersionNegotiation(nil, quic.Version1, quic.Version2)
	require.Equal(t, "\x00\x00\x00\x01\x6b\x33\x43\xcf", string(answer[len(answer)-8:]))
	got, err := quic.ParseHeader(answer)
	require.NoError(t, err)
	require.Equal(t, quic.VersionNegotiation, got.Type)
	require.Equal(t, "me", string(got.DestID))
	require.Equal(t, make([]byte, 21), got.SrcID)
}
