package sniproxy

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// A client that allows no dynamic table can also read an answer: the header block begins with a
// table size of 0, and adds no entry to the table.
func TestHTTP2AnswerNeedsNoTable(t *testing.T) {
	fr := http2.NewFramer(nil, bytes.NewReader(http2Answer(clientInfo{stream: 1, window: h2Window}, 404, []byte("gone"), time.Now())))
	for {
		f, err := fr.ReadFrame()
		require.NoError(t, err)
		if headers, ok := f.(*http2.HeadersFrame); ok {
			block := headers.HeaderBlockFragment()
			require.EqualValues(t, 0x20, block[0])
			require.EqualValues(t, 0x8d, block[1], ":status 404 of the static table")
			require.Zero(t, block[2]&0xc0, "a literal that is not put into a table")
			return
		}
	}
}
