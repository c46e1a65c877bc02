package peek_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
)

// record returns a record with the given bytes.
func record(b ...byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(b))), b...)
}

// The function with returns a hello that has a name and one more extension. The name may be empty.
func with(name string, kind uint16, body ...byte) []byte {
	return hellotest.Hello{Name: name, Extensions: []hellotest.Extension{{Type: kind, Body: body}}}.Wire()
}

// edit returns the record of a hello. The argument "change" is a function that changes the message
// of the hello first.
func edit(change func(msg []byte) []byte) []byte {
	return hellotest.Records(change(hellotest.Hello{Name: "a.example"}.Message()))
}

// resize corrects the length in the header of a message.
func resize(msg []byte) []byte {
	binary.BigEndian.PutUint32(msg, 1<<24|uint32(len(msg)-4))
	return msg
}

func TestMalformedClientHello(t *testing.T) {
	name := func(s string) []byte { return append([]byte{0, 0, byte(len(s))}, s...) }
	list := func(b ...byte) []byte { return append([]byte{0, byte(len(b))}, b...) }
	// Offsets: the record header has 5 bytes, the message header 4, version 2, random 32, session
	// 1, suites 2+2, compression 1+1, extensions 2.
	const suites, compression, extensions, first = 44, 48, 50, 52
	for title, c := range map[string]struct {
		wire   []byte
		what   string
		offset int
	}{
		"server hello":                  {edit(func(m []byte) []byte { m[0] = 2; return m }), "handshake message: not a ClientHello", 5},
		"shorter than its fields":       {record(1, 0, 0, 37), "ClientHello: too short for its fields", 5},
		"empty record":                  {[]byte{22, 3, 1, 0, 0}, "record: empty", 3},
		"empty record in the middle":    {slices.Concat(record(1), []byte{22, 3, 1, 0, 0}), "record: empty", 9},
		"record too long":               {[]byte{22, 3, 1, 0x40, 1}, "record: longer than 16384 bytes", 3},
		"application data in between":   {slices.Concat(record(1, 0), []byte{23, 3, 1, 0, 1, 0}), "record: not the rest of the ClientHello", 7},
		"record of another version":     {slices.Concat(record(1, 0), []byte{22, 2, 1, 0, 1, 0}), "record: not the rest of the ClientHello", 7},
		"session beyond the end":        {edit(func(m []byte) []byte { m[38] = 255; return m }), "ClientHello: field beyond the end of the message", 43},
		"suites beyond the end":         {edit(func(m []byte) []byte { m[39] = 255; return m }), "ClientHello: field beyond the end of the message", suites},
		"suites of an odd length":       {edit(func(m []byte) []byte { m[40] = 1; return m }), "cipher_suites: odd length", suites + 2},
		"compression beyond the end":    {edit(func(m []byte) []byte { m[43] = 255; return m }), "ClientHello: field beyond the end of the message", compression},
		"extensions beyond the end":     {edit(func(m []byte) []byte { m[46]++; return m }), "extensions: beyond the end of the message", extensions},
		"extensions before the end":     {edit(func(m []byte) []byte { m[46]--; return m }), "extensions: bytes after them", 69},
		"length of extensions cut":      {edit(func(m []byte) []byte { return resize(m[:46]) }), "extensions: beyond the end of the message", extensions},
		"extension beyond the end":      {edit(func(m []byte) []byte { m[50]++; return m }), "extension: beyond the end of the extensions", first + 2},
		"half an extension":             {edit(func(m []byte) []byte { m[46]++; return resize(append(m, 7)) }), "extension: beyond the end of the extensions", first + 18},
		"two server names":              {with("a.example", 0, list(name("b.example")...)...), "extension: second one of its type", first + 18},
		"the same server name twice":    {with("a.example", 0, list(name("a.example")...)...), "extension: second one of its type", first + 18},
		"empty server_name extension":   {with("", 0), "server_name: list beyond the end of the extension", first},
		"empty list of names":           {with("", 0, 0, 0), "server_name: empty list", first},
		"empty name":                    {with("", 0, list(name("")...)...), "server_name: empty name", first},
		"list of names too long":        {with("", 0, 0, 5, 0, 0, 1, 'a'), "server_name: list beyond the end of the extension", first},
		"list of names too short":       {with("", 0, 0, 4, 0, 0, 1, 'a', 'b'), "server_name: bytes after the list", first},
		"name longer than its list":     {with("", 0, 0, 4, 0, 0, 2, 'a', 'b'), "server_name: bytes after the list", first},
		"name beyond its list":          {with("", 0, 0, 4, 0, 0, 2, 'a'), "server_name: name beyond the end of the list", first},
		"name of 65535 bytes":           {with("", 0, 0, 4, 0, 0xff, 0xff, 'a'), "server_name: name beyond the end of the list", first},
		"second host_name":              {with("", 0, list(append(name("a.example"), name("b.example")...)...)...), "server_name: second host_name", first},
		"half a name":                   {with("", 0, 0, 1, 0), "server_name: name beyond the end of the list", first},
		"empty ALPN extension":          {with("a.example", 16), "application_layer_protocol_negotiation: bad list length", first + 18},
		"empty ALPN list":               {with("a.example", 16, 0, 0), "application_layer_protocol_negotiation: bad list length", first + 18},
		"empty protocol":                {with("a.example", 16, 0, 1, 0), "application_layer_protocol_negotiation: bad name length", first + 18},
		"protocol beyond its list":      {with("a.example", 16, 0, 2, 2, 'h'), "application_layer_protocol_negotiation: bad name length", first + 18},
		"empty list of versions":        {with("a.example", 43, 0), "supported_versions: bad list length", first + 18},
		"half a version":                {with("a.example", 43, 1, 3), "supported_versions: bad list length", first + 18},
		"versions beyond the extension": {with("a.example", 43, 4, 3, 4), "supported_versions: bad list length", first + 18},
		"key shares beyond":             {with("a.example", 51, 0, 9, 0, 29, 0, 1, 1), "key_share: bad list length", first + 18},
		"empty key":                     {with("a.example", 51, 0, 4, 0, 29, 0, 0), "key_share: bad key length", first + 18},
		"half a key share":              {with("a.example", 51, 0, 2, 0, 29), "key_share: bad key length", first + 18},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := peek.ParseClientHello(c.wire)
			require.ErrorIs(t, err, peek.ErrMalformed)
			typed, ok := errors.AsType[*peek.Error](err)
			require.True(t, ok)
			require.Equal(t, c.what, typed.What)
			require.Equal(t, c.offset, typed.Offset)
			require.Nil(t, cryptoTLS(c.wire), "crypto/tls takes it")
			checkPrefixes(t, c.wire, nil, tlsAnswer)

			msg, _, err := hellotest.Message(c.wire)
			if err == nil && c.what != "handshake message: not a ClientHello" {
				wire := hellotest.Records(msg, 1)
				_, err := peek.ParseClientHello(wire)
				typed, ok := errors.AsType[*peek.Error](err)
				require.True(t, ok)
				require.Equal(t, c.what, typed.What, "in records of one byte")
				if c.offset > 10 { // in records of one byte, each byte has a header of its own
					require.Equal(t, (c.offset-5)*6+5, typed.Offset)
				}
			}
		})
	}
}

func TestClientHello(t *testing.T) {
	long := strings.Repeat("a", 1000)
	for title, c := range map[string]struct {
		wire []byte
		name string
		err  error
		more func(t *testing.T, h peek.ClientHello)
	}{
		"no extensions": {hellotest.Hello{}.Wire(), "", peek.ErrNoName, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, uint16(tls.VersionTLS12), h.MaxVersion())
		}},
		"only a name":      {hellotest.Hello{Name: "a.example"}.Wire(), "a.example", nil, nil},
		"name as it is":    {hellotest.Hello{Name: "A.Example."}.Wire(), "A.Example.", nil, nil},
		"NUL in the name":  {hellotest.Hello{Name: "a.example\x00.evil"}.Wire(), "a.example\x00.evil", nil, nil},
		"name of 1000":     {hellotest.Hello{Name: long}.Wire(), long, nil, nil},
		"other name types": {with("", 0, 0, 8, 7, 0, 1, 'x', 0, 0, 1, 'a'), "a", nil, nil},
		"only other types": {with("", 0, 0, 4, 7, 0, 1, 'x'), "", peek.ErrNoName, nil},
		"data behind it": {append(hellotest.Hello{Name: "a.example"}.Wire(), "early data"...), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, len(hellotest.Hello{Name: "a.example"}.Wire()), h.Len)
		}},
		"another message in its record": {record(append(hellotest.Hello{Name: "a.example"}.Message(), 1, 2, 3)...), "a.example", nil, nil},
		"outer hello":                   {hellotest.Hello{Name: "public.example", ECH: true}.Wire(), "public.example", nil, func(t *testing.T, h peek.ClientHello) { require.True(t, h.ECH) }},
		"inner hello":                   {with("a.example", 0xfe0d, 1), "a.example", nil, func(t *testing.T, h peek.ClientHello) { require.False(t, h.ECH) }},
		"empty key shares":              {with("a.example", 51, 0, 0), "a.example", nil, nil},
		"versions": {hellotest.Hello{Name: "a.example", Versions: []uint16{0x7a7a, 0x0304, 0x0303}}.Wire(), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, []uint16{0x7a7a, 0x0304, 0x0303}, slices.Collect(h.SupportedVersions()))
			require.Equal(t, uint16(tls.VersionTLS13), h.MaxVersion())
			require.Equal(t, uint16(tls.VersionTLS12), h.LegacyVersion)
		}},
		"version field above TLS 1.2": {edit(func(m []byte) []byte { m[5] = 4; return m }), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, uint16(tls.VersionTLS13), h.LegacyVersion)
			require.Equal(t, uint16(tls.VersionTLS12), h.MaxVersion())
		}},
		"groups": {hellotest.Hello{Name: "a.example", KeyShares: []uint16{0x4a4a, 29, 0x11ec}}.Wire(), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, []uint16{0x4a4a, 29, 0x11ec}, slices.Collect(h.KeyShares()))
			require.True(t, h.PostQuantum())
		}},
		"classical groups": {hellotest.Hello{Name: "a.example", KeyShares: []uint16{29, 23}}.Wire(), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.False(t, h.PostQuantum())
		}},
		"protocols": {hellotest.Hello{Name: "a.example", ALPN: []string{"\x0a\x0a", "h2", "acme-tls/1"}}.Wire(), "a.example", nil, func(t *testing.T, h peek.ClientHello) {
			require.Equal(t, []string{"\x0a\x0a", "h2", "acme-tls/1"}, alpn(h))
			require.True(t, h.OffersALPN("acme-tls/1"))
			require.False(t, h.OffersALPN("acme-tls/2"))
			for range h.ALPN() {
				break // a loop may end early
			}
			for range h.SupportedVersions() {
				break
			}
			for range h.KeyShares() {
				break
			}
		}},
	} {
		t.Run(title, func(t *testing.T) {
			h, err := peek.ParseClientHello(c.wire)
			require.Equal(t, c.err, err)
			require.Equal(t, c.name, h.ServerName)
			if c.more != nil {
				c.more(t, h)
			}
			agreeWithTLS(t, c.wire)
			checkPrefixes(t, c.wire, nil, tlsAnswer)
		})
	}
}

func TestClientHelloBounds(t *testing.T) {
	// Each record has up to 16384 bytes, and a header of 5 bytes.
	fits := hellotest.Hello{Name: "a.example", Pad: peek.MaxBytes - 4*5}.Wire()
	require.Len(t, fits, peek.MaxBytes)
	h, err := peek.ParseClientHello(fits)
	require.NoError(t, err)
	require.Equal(t, "a.example", h.ServerName)
	require.Equal(t, peek.MaxBytes, h.Len)

	over := hellotest.Hello{Name: "a.example", Pad: peek.MaxBytes - 4*5 + 1}.Wire()
	for n := range over {
		_, err := peek.ParseClientHello(over[:n])
		if n < 9 {
			require.ErrorIs(t, err, peek.ErrNeedMore)
			continue
		}
		require.ErrorIs(t, err, peek.ErrTooLarge, "known from the first nine bytes on")
	}

	huge := record(1, 0xff, 0xff, 0xff)
	_, err = peek.ParseClientHello(huge)
	require.ErrorIs(t, err, peek.ErrTooLarge)

	// The headers of small records also count for the limit.
	_, err = peek.ParseClientHello(hellotest.Hello{Name: "a.example", Pad: 11_000}.Wire(1))
	require.ErrorIs(t, err, peek.ErrTooLarge)
	_, err = peek.ParseClientHello(hellotest.Hello{Name: "a.example", Pad: 10_900}.Wire(1))
	require.NoError(t, err)

	// The limit is smaller than the header of the message.
	for limit := 1; limit < 9; limit++ {
		p := peek.Parser{MaxBytes: limit}
		_, err := p.Parse(fits[:limit])
		require.ErrorIs(t, err, peek.ErrTooLarge, "limit %d", limit)
	}
}

func TestNotTLS(t *testing.T) {
	for title, b := range map[string]string{
		"request":        "GET / HTTP/1.1\r\n",
		"preface":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"banner":         "SSH-2.0-OpenSSH_9.2\r\n",
		"alert":          "\x15\x03\x01\x00\x02\x01\x00",
		"data":           "\x17\x03\x03\x00\x01\x00",
		"version 4":      "\x16\x04\x00\x00\x05",
		"zero":           "\x00",
		"proxy protocol": "\r\n\r\n\x00\r\nQUIT\n",
		"high byte":      "\x80\x10\x02",
		"high bytes":     "\xff\xff\xff\xff\xff",
		"ssl version 1":  "\x80\x2e\x01\x00\x01",
	} {
		t.Run(title, func(t *testing.T) {
			_, err := peek.ParseClientHello([]byte(b))
			require.ErrorIs(t, err, peek.ErrNotTLS)
			require.NotErrorIs(t, err, peek.ErrNotHTTP)
			checkPrefixes(t, []byte(b), nil, tlsAnswer)
		})
	}
}

func TestSSLv2(t *testing.T) {
	hello := func(version, suites, session, challenge int, length int) []byte {
		b := []byte{0x80 | byte(length>>8), byte(length), 1, byte(version >> 8), byte(version), 0, byte(suites), 0, byte(session), 0, byte(challenge)}
		return append(b, make([]byte, max(length-9, 0))...)
	}
	for title, c := range map[string]struct {
		wire []byte
		err  error
	}{
		"offering TLS 1.0":    {hello(0x0301, 9, 0, 16, 34), peek.ErrNoName},
		"offering SSL 2.0":    {hello(0x0002, 3, 16, 32, 60), peek.ErrNoName},
		"too short":           {hello(0x0301, 0, 0, 16, 8), peek.ErrMalformed},
		"odd suites":          {hello(0x0301, 10, 0, 16, 35), peek.ErrMalformed},
		"lengths do not fit":  {hello(0x0301, 9, 0, 16, 35), peek.ErrMalformed},
		"challenge too short": {hello(0x0301, 9, 0, 15, 33), peek.ErrMalformed},
		"challenge too long":  {hello(0x0301, 9, 0, 33, 51), peek.ErrMalformed},
	} {
		t.Run(title, func(t *testing.T) {
			h, err := peek.ParseClientHello(c.wire)
			require.ErrorIs(t, err, c.err)
			if c.err == peek.ErrNoName {
				require.True(t, h.SSLv2)
				require.Equal(t, len(c.wire), h.Len)
				require.Equal(t, uint16(c.wire[3])<<8|uint16(c.wire[4]), h.LegacyVersion)
			}
			checkPrefixes(t, c.wire, nil, tlsAnswer)
			checkPrefixes(t, c.wire, nil, func(t testing.TB, b []byte) (answer, error) {
				return parserAnswer(t, new(peek.Parser), b)
			})
		})
	}
	p := peek.Parser{MaxBytes: 30}
	_, err := p.Parse(hello(0x0301, 9, 0, 16, 34)[:12])
	require.ErrorIs(t, err, peek.ErrTooLarge)
}

// The parser finds two extensions of one type at any place, for each type that it reads.
func TestSecondExtensions(t *testing.T) {
	known := []hellotest.Extension{
		{Type: 0, Body: []byte{0, 4, 0, 0, 1, 'a'}},
		{Type: 16, Body: []byte{0, 3, 2, 'h', '2'}},
		{Type: 43, Body: []byte{2, 3, 4}},
		{Type: 51, Body: []byte{0, 0}},
		{Type: 0xfe0d, Body: []byte{0, 0}},
	}
	for i := range known {
		for _, twice := range [][]hellotest.Extension{
			append(slices.Clone(known), known[i]),
			append([]hellotest.Extension{known[i]}, known...),
			append([]hellotest.Extension{known[i], {Type: 13}, {Type: 0x7a7a}}, known...),
		} {
			wire := hellotest.Hello{Extensions: twice}.Wire()
			_, err := peek.ParseClientHello(wire)
			require.ErrorIs(t, err, peek.ErrMalformed)
			require.ErrorContains(t, err, "second one of its type")
			require.Nil(t, cryptoTLS(wire))
		}
	}
	h, err := peek.ParseClientHello(hellotest.Hello{Extensions: known}.Wire())
	require.NoError(t, err)
	require.Equal(t, "a", h.ServerName)
}

// The slices that a hello yields have no capacity beyond their own bytes.
func TestViewsAreClipped(t *testing.T) {
	wire := append(hellotest.Hello{Name: "a.example", ALPN: []string{"h2"}}.Wire(), "beyond"...)
	h, err := peek.ParseClientHello(wire)
	require.NoError(t, err)
	before := slices.Clone(wire)
	for p := range h.ALPN() {
		_ = append(p, "overwritten"...)
	}
	require.Equal(t, before, wire)
}

// A message without records gives the same hello as the message in records.
func TestClientHelloMessage(t *testing.T) {
	for _, c := range captures {
		if c.protocol != peek.TLS {
			continue
		}
		t.Run(c.file, func(t *testing.T) {
			wire := c.read(t)
			msg, _, err := hellotest.Message(wire)
			require.NoError(t, err)
			want, wantErr := peek.ParseClientHello(wire)
			got, err := peek.ParseClientHelloMessage(append(slices.Clone(msg), "later"...))
			require.Equal(t, wantErr, err)
			require.Equal(t, want.ServerName, got.ServerName)
			require.Equal(t, slices.Collect(want.ALPN()), slices.Collect(got.ALPN()))
			require.Equal(t, want.MaxVersion(), got.MaxVersion())
			require.Equal(t, want.PostQuantum(), got.PostQuantum())
			require.Equal(t, len(msg), got.Len)
			for n := range len(msg) {
				_, err := peek.ParseClientHelloMessage(msg[:n])
				missing, ok := err.(peek.NeedMore)
				require.True(t, ok, "%d bytes: %v", n, err)
				if n < 4 {
					require.LessOrEqual(t, int(missing), len(msg)-n)
				} else {
					require.Equal(t, len(msg)-n, int(missing))
				}
			}
		})
	}
	for title, c := range map[string]struct {
		msg  []byte
		want error
		what string
	}{
		"server hello":            {[]byte{2}, peek.ErrMalformed, "handshake message: not a ClientHello"},
		"shorter than its fields": {[]byte{1, 0, 0, 37}, peek.ErrMalformed, "ClientHello: too short for its fields"},
		"too large":               {[]byte{1, 0, 0xff, 0xfd}, peek.ErrTooLarge, "ClientHello"},
		"empty name":              {hellotest.Hello{Extensions: []hellotest.Extension{{Body: []byte{0, 0}}}}.Message(), peek.ErrMalformed, "server_name: empty list"},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := peek.ParseClientHelloMessage(c.msg)
			require.ErrorIs(t, err, c.want)
			require.Equal(t, peek.ClientHello{}, got)
			typed, ok := errors.AsType[*peek.Error](err)
			require.True(t, ok)
			require.Equal(t, c.what, typed.What)
		})
	}
	_, err := peek.ParseClientHelloMessage([]byte{1, 0, 0xff, 0xfc}) // 64 KiB
	require.Equal(t, peek.NeedMore(64<<10-4), err)
}

// Message returns the same message for every way to cut the hello into records, also if further
// bytes follow.
func TestMessage(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example", Pad: 1000}
	for name, wire := range map[string][]byte{
		"one record":            hello.Wire(),
		"records of a byte":     hello.Wire(1),
		"two records":           hello.Wire(700),
		"a byte in the record":  record(append(hello.Message(), 'x')...),
		"further record":        append(hello.Wire(), 20, 3, 3, 0, 1, 1),
		"further record in two": append(hello.Wire(700), 20, 3, 3, 0, 1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := peek.ParseClientHello(wire)
			require.NoError(t, err)
			require.Equal(t, hello.Message(), h.Message(wire))
			require.Nil(t, h.Message(wire[:h.Len-1]))
		})
	}
	require.Nil(t, peek.ClientHello{}.Message(nil))
	require.Nil(t, peek.ClientHello{SSLv2: true, Len: 20}.Message(make([]byte, 30)))
}
