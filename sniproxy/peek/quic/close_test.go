package quic_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// Both versions open the answer with the keys of the server. The reason is cut.
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
