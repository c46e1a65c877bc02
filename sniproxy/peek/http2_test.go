package peek_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/sniproxy/peek"
)

// stream builds the bytes of an HTTP/2 client.
type stream struct {
	bytes.Buffer
	f *http2.Framer
}

// h2 returns a stream with the preface and SETTINGS.
func h2() *stream {
	s := &stream{}
	s.WriteString(http2.ClientPreface)
	s.f = http2.NewFramer(&s.Buffer, nil)
	s.f.AllowIllegalWrites = true
	s.f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}) //nolint:errcheck // a buffer
	return s
}

// block encodes fields. The argument contains the name of a field, its value, the next name, and so
// on.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) //nolint:errcheck // a buffer
	}
	return b.Bytes()
}

// get returns the header block of a request with further fields.
func get(fields ...string) []byte {
	return block(append([]string{":method", "GET", ":scheme", "http", ":path", "/"}, fields...)...)
}

func (s *stream) headers(block []byte, change ...func(*http2.HeadersFrameParam)) *stream {
	p := http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}
	for _, f := range change {
		f(&p)
	}
	s.f.WriteHeaders(p) //nolint:errcheck // a buffer
	return s
}

func (s *stream) do(f func(*http2.Framer) error) *stream { f(s.f); return s } //nolint:errcheck // a buffer

func (s *stream) raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) *stream {
	return s.do(func(f *http2.Framer) error { return f.WriteRawFrame(kind, flags, id, payload) })
}

func open(p *http2.HeadersFrameParam) { p.EndHeaders = false }

func TestHTTP2(t *testing.T) {
	a := get(":authority", "a.example")
	bare := func() *stream { s := h2(); s.Truncate(len(http2.ClientPreface)); return s }
	for title, c := range map[string]struct {
		s    *stream
		host string
		err  error
	}{
		"plain":          {h2().headers(a), "a.example", nil},
		"as sent":        {h2().headers(get(":authority", "A.Example:8080")), "A.Example:8080", nil},
		"empty settings": {bare().do(func(f *http2.Framer) error { return f.WriteSettings() }).headers(a), "a.example", nil},
		"other frames first": {h2().do(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1000) }).
			do(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) }).
			do(func(f *http2.Framer) error { return f.WritePriority(3, http2.PriorityParam{}) }).
			do(func(f *http2.Framer) error { return f.WriteSettingsAck() }).
			raw(0x99, 0xff, 77, 'x').headers(a), "a.example", nil},
		"padded":   {h2().headers(a, func(p *http2.HeadersFrameParam) { p.PadLength = 255 }), "a.example", nil},
		"priority": {h2().headers(a, func(p *http2.HeadersFrameParam) { p.Priority = http2.PriorityParam{Weight: 7} }), "a.example", nil},
		"padded and continued": {h2().headers(a[:3], open, func(p *http2.HeadersFrameParam) { p.PadLength = 9; p.Priority.Weight = 7 }).
			raw(http2.FrameContinuation, 0, 1, a[3:5]...).raw(http2.FrameContinuation, 4, 1, a[5:]...), "a.example", nil},
		"padded and priority":  {h2().headers(a, func(p *http2.HeadersFrameParam) { p.PadLength = 1; p.Priority.Weight = 7 }), "a.example", nil},
		"continued":            {h2().headers(a[:5], open).do(func(f *http2.Framer) error { return f.WriteContinuation(1, true, a[5:]) }), "a.example", nil},
		"continued by bytes":   {continued(a, 1), "a.example", nil},
		"continued, empty":     {h2().headers(nil, open).do(func(f *http2.Framer) error { return f.WriteContinuation(1, false, nil) }).do(func(f *http2.Framer) error { return f.WriteContinuation(1, true, a) }), "a.example", nil},
		"a later stream":       {h2().headers(a, func(p *http2.HeadersFrameParam) { p.StreamID = 7 }), "a.example", nil},
		"second request":       {h2().headers(a).headers(get(":authority", "b.example"), func(p *http2.HeadersFrameParam) { p.StreamID = 3 }), "a.example", nil},
		"host alone":           {h2().headers(get("host", "a.example")), "a.example", nil},
		"host and authority":   {h2().headers(get(":authority", "a.example", "host", "A.example:80")), "a.example", nil},
		"empty authority":      {h2().headers(get(":authority", "", "host", "a.example")), "a.example", nil},
		"connect":              {h2().headers(block(":method", "CONNECT", ":authority", "a.example:443")), "a.example:443", nil},
		"websocket":            {h2().headers(get(":protocol", "websocket", ":authority", "a.example")), "a.example", nil},
		"no host":              {h2().headers(get("x", "y")), "", peek.ErrNoName},
		"empty host":           {h2().headers(get(":authority", "", "host", "")), "", peek.ErrNoName},
		"no SETTINGS":          {bare().headers(a), "", peek.ErrMalformed},
		"only an ACK":          {bare().do(func(f *http2.Framer) error { return f.WriteSettingsAck() }).headers(a), "", peek.ErrMalformed},
		"odd settings":         {bare().raw(http2.FrameSettings, 0, 0, 1).headers(a), "", peek.ErrMalformed},
		"settings of a stream": {bare().raw(http2.FrameSettings, 0, 1).headers(a), "", peek.ErrMalformed},
		"ACK with settings":    {h2().raw(http2.FrameSettings, 1, 0, 0, 1, 0, 0, 0, 0).headers(a), "", peek.ErrMalformed},
		"data first":           {h2().do(func(f *http2.Framer) error { return f.WriteData(1, false, nil) }).headers(a), "", peek.ErrMalformed},
		"reset first":          {h2().do(func(f *http2.Framer) error { return f.WriteRSTStream(1, 0) }).headers(a), "", peek.ErrMalformed},
		"push":                 {h2().raw(http2.FramePushPromise, 4, 1, 0, 0, 0, 2).headers(a), "", peek.ErrMalformed},
		"stream 0":             {h2().headers(a, func(p *http2.HeadersFrameParam) { p.StreamID = 0 }), "", peek.ErrMalformed},
		"stream 2":             {h2().headers(a, func(p *http2.HeadersFrameParam) { p.StreamID = 2 }), "", peek.ErrMalformed},
		"continues no block":   {h2().do(func(f *http2.Framer) error { return f.WriteContinuation(1, true, a) }), "", peek.ErrMalformed},
		"another stream":       {h2().headers(a[:5], open).do(func(f *http2.Framer) error { return f.WriteContinuation(3, true, a[5:]) }), "", peek.ErrMalformed},
		"frame in between":     {h2().headers(a[:5], open).do(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1) }), "", peek.ErrMalformed},
		"headers in between":   {h2().headers(a[:5], open).headers(a), "", peek.ErrMalformed},
		"frame too long":       {h2().raw(http2.FrameHeaders, 4, 1, make([]byte, 16385)...), "", peek.ErrMalformed},
		"padding beyond":       {h2().raw(http2.FrameHeaders, 4|8, 1, 3, 0x82, 0x82), "", peek.ErrMalformed},
		"padding missing":      {h2().raw(http2.FrameHeaders, 4|8, 1), "", peek.ErrMalformed},
		"priority missing":     {h2().raw(http2.FrameHeaders, 4|0x20, 1, 1, 2, 3, 4), "", peek.ErrMalformed},
		"block cut":            {h2().headers(a[:len(a)-1]), "", peek.ErrMalformed},
		"bad index":            {h2().headers([]byte{0xff, 0x70}), "", peek.ErrMalformed},
		"table too large":      {h2().headers(append([]byte{0x3f, 0xe2, 0x1f}, a...)), "", peek.ErrMalformed},
		"empty block":          {h2().headers(nil), "", peek.ErrMalformed},
		"no method":            {h2().headers(block(":authority", "a.example")), "", peek.ErrMalformed},
		"two authorities":      {h2().headers(get(":authority", "a.example", ":authority", "a.example")), "", peek.ErrMalformed},
		"two hosts":            {h2().headers(get("host", "a.example", "host", "a.example")), "", peek.ErrMalformed},
		"host disagrees":       {h2().headers(get(":authority", "a.example", "host", "b.example")), "", peek.ErrMalformed},
		"host empty":           {h2().headers(get(":authority", "a.example", "host", "")), "", peek.ErrMalformed},
		"authority late":       {h2().headers(get("x", "y", ":authority", "a.example")), "", peek.ErrMalformed},
		"upper case":           {h2().headers(get(":authority", "a.example", "Host", "b.example")), "", peek.ErrMalformed},
		"space in a name":      {h2().headers(get("host ", "b.example")), "", peek.ErrMalformed},
		"empty name":           {h2().headers(get(":authority", "a.example", "", "y")), "", peek.ErrMalformed},
		"unknown pseudo":       {h2().headers(get(":host", "b.example", ":authority", "a.example")), "", peek.ErrMalformed},
		"status":               {h2().headers(get(":status", "200", ":authority", "a.example")), "", peek.ErrMalformed},
		"NUL in a value":       {h2().headers(get(":authority", "a.example\x00")), "", peek.ErrMalformed},
		"line end in a value":  {h2().headers(get(":authority", "a.example", "x", "y\r\nhost: b")), "", peek.ErrMalformed},
		"other preface":        {bare().otherPreface(), "", peek.ErrMalformed},
	} {
		t.Run(title, func(t *testing.T) {
			b := c.s.Bytes()
			r, err := peek.ParseHTTP2(b)
			if c.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.err)
			}
			require.Equal(t, c.host, r.Host)
			if c.err != peek.ErrMalformed && title != "second request" {
				require.Equal(t, len(b), r.Len)
			}
			agreeWithHTTP2(t, b)
			if len(b) < 3000 {
				checkPrefixes(t, b, nil, http2Answer)
			}
		})
	}
}

func (s *stream) otherPreface() *stream { s.Bytes()[20] ^= 1; return s }

// continued returns a stream with a block in frames of n bytes.
func continued(b []byte, n int) *stream {
	s := h2().headers(b[:n], open)
	for b = b[n:]; len(b) > 0; b = b[min(n, len(b)):] {
		s.do(func(f *http2.Framer) error { return f.WriteContinuation(1, len(b) <= n, b[:min(n, len(b))]) })
	}
	return s
}

func TestHTTP2Bounds(t *testing.T) {
	long := strings.Repeat("~", 60_000) // the Huffman code does not shorten this character
	fits := continued(get("x", long[:50_000], ":authority", "a.example"), 10_000).Bytes()
	_, err := peek.ParseHTTP2(fits)
	require.ErrorIs(t, err, peek.ErrMalformed, "pseudo-header field after a regular one, so it was read to its end")

	over := continued(get(":authority", "a.example", "x", long, "y", long), 16384).Bytes()
	_, err = peek.ParseHTTP2(over)
	require.ErrorIs(t, err, peek.ErrTooLarge)
	checkPrefixes(t, over, []int{0, 10, 100, 16384, 30_000, 40_000, 50_000, 65_535, 65_536, 65_537}, http2Answer)

	// The header block never ends.
	endless := h2().headers(nil, open)
	for endless.Len() < 2*peek.MaxBytes {
		endless.do(func(f *http2.Framer) error { return f.WriteContinuation(1, false, nil) })
	}
	_, err = peek.ParseHTTP2(endless.Bytes())
	require.ErrorIs(t, err, peek.ErrTooLarge)
}

// A header block without an end costs only the bytes in the buffer of the caller, and no copy.
func TestEndlessBlockIsNotCopied(t *testing.T) {
	whole := continued(get(":authority", "a.example", "x", strings.Repeat("~", 60_000)), 10_000).Bytes()
	last := bytes.LastIndex(whole, []byte{byte(http2.FrameContinuation), byte(http2.FlagContinuationEndHeaders)}) - 3
	require.Zero(t, testing.AllocsPerRun(10, func() {
		var p peek.Parser
		p.Parse(whole[:last]) //nolint:errcheck // it needs more
	}))
	_, err := peek.ParseHTTP2(whole[:last])
	require.ErrorIs(t, err, peek.ErrNeedMore)
	r, err := peek.ParseHTTP2(whole)
	require.NoError(t, err)
	require.Equal(t, "a.example", r.Host)
	require.Len(t, whole, r.Len)
}

// HPACK can encode a field of 4 KiB as one byte.
func TestHeaderListBomb(t *testing.T) {
	bomb := get(":authority", "a.example", "x", strings.Repeat("y", 3000))
	for len(bomb) < 16_000 {
		bomb = append(bomb, 0x80|62) // the index of the newest entry of the table
	}
	b := h2().headers(bomb).Bytes()
	_, err := peek.ParseHTTP2(b)
	require.ErrorIs(t, err, peek.ErrTooLarge)
	require.Less(t, testing.AllocsPerRun(10, func() { peek.ParseHTTP2(b) }), 50.0) //nolint:errcheck // as above
}

func TestNotHTTP(t *testing.T) {
	for title, b := range map[string]string{
		"hello": "\x16\x03\x01\x00\x05", "banner": "SSH-2.0-OpenSSH_9.2\r\n", "line ends": "\r\n\t",
		"long word": strings.Repeat("A", 30), "dot": "A.B C\r\n", "space": " GET", "NUL": "\x00", "no space": "GET\r\n",
	} {
		t.Run(title, func(t *testing.T) {
			for _, parse := range []func(testing.TB, []byte) (answer, error){http1Answer, http2Answer} {
				_, err := parse(t, []byte(b))
				require.ErrorIs(t, err, peek.ErrNotHTTP)
				require.NotErrorIs(t, err, peek.ErrNotTLS)
				checkPrefixes(t, []byte(b), nil, parse)
			}
		})
	}
	_, err := peek.ParseHTTP1([]byte(http2.ClientPreface))
	require.ErrorIs(t, err, peek.ErrNotHTTP)
	_, err = peek.ParseHTTP2([]byte(head("GET / HTTP/1.1", "Host: a.example")))
	require.ErrorIs(t, err, peek.ErrNotHTTP)
}

func padded(p *http2.HeadersFrameParam) {
	p.PadLength = 9
	p.Priority = http2.PriorityParam{StreamDep: 3, Weight: 7}
}
