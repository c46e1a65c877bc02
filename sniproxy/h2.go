package sniproxy

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	h2FrameHeader   = 9
	h2Window        = 65535 // RFC 9113 section 6.9.2
	h2MaxFrame      = 16384 // section 4.2: what every client takes
	h2InitialWindow = uint16(http2.SettingInitialWindowSize)
)

// h2Stream finds the stream of the first request and how many bytes of an answer the
// client takes on it. b begins with the preface. Both are 0 where no request began.
func h2Stream(b []byte) (stream, window uint32) {
	window = h2Window
	if len(b) < len(http2.ClientPreface) {
		return 0, 0
	}
	for b = b[len(http2.ClientPreface):]; len(b) >= h2FrameHeader; {
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		body := b[h2FrameHeader:min(h2FrameHeader+n, len(b))]
		switch http2.FrameType(b[3]) {
		case http2.FrameHeaders:
			// Never more than what a connection may have, which SETTINGS do not change.
			return binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), min(window, h2Window)
		case http2.FrameSettings:
			for ; len(body) >= 6; body = body[6:] {
				if binary.BigEndian.Uint16(body) == h2InitialWindow {
					window = binary.BigEndian.Uint32(body[2:])
				}
			}
		}
		b = b[min(h2FrameHeader+n, len(b)):]
	}
	return 0, 0
}

// h2Answer is a whole answer of HTTP/2: the settings that a server begins with, the answer
// on the stream of the request, and the end of the connection. Where no request can be
// answered it is the end of the connection alone.
func h2Answer(f face, status int, body []byte, now time.Time) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	// Nothing below fails: the writer does not, and the frames are within bounds.
	_ = fr.WriteSettings()
	if f.stream == 0 {
		_ = fr.WriteGoAway(0, http2.ErrCodeProtocol, nil)
		return b.Bytes()
	}
	_ = fr.WriteSettingsAck() // of the settings that come first
	whole := body
	if f.head || len(body) > int(f.window) {
		body = nil
	}
	if !f.head {
		whole = body
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	// A client that allows less of a table than there is at first wants to be told so before
	// anything else (RFC 7541 section 4.2), and one block makes no use of a table.
	enc.SetMaxDynamicTableSize(0)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	for _, h := range pageFields(status, len(whole), now) {
		_ = enc.WriteField(hpack.HeaderField{Name: h.name, Value: h.value})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: f.stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(body) == 0,
	})
	for len(body) > 0 {
		n := min(len(body), h2MaxFrame)
		_ = fr.WriteData(f.stream, n == len(body), body[:n])
		body = body[n:]
	}
	_ = fr.WriteGoAway(f.stream, http2.ErrCodeNo, nil)
	return b.Bytes()
}
