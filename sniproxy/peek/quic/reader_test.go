package quic_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// A hello is complete exactly when its last byte has arrived, in whatever order and pieces.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		version := []uint32{quic.Version1, quic.Version2}[seed%2]
		msg := message("a.example", 100+rng.IntN(4000))
		datagrams := cut(rng, version, msg)
		var r quic.Reader
		final := 0
		for i, d := range datagrams {
			hello, err := r.Read(d)
			if more, ok := err.(peek.NeedMore); ok {
				require.Zero(t, final, "seed %d: datagram %d", seed, i)
				require.Positive(t, int(more))
				require.Less(t, int(more), len(msg))
				continue
			}
			require.NoError(t, err, "seed %d: datagram %d of %d", seed, i, len(datagrams))
			require.Equal(t, "a.example", hello.Name)
			require.Equal(t, len(msg), hello.ClientHello.Len)
			require.True(t, hello.ClientHello.OffersALPN("h3"))
			require.Equal(t, version, hello.Version)
			require.Equal(t, destID, hello.DestID)
			require.Equal(t, srcID, hello.SrcID)
			final++
		}
		require.Positive(t, final, "seed %d", seed)
	}
}

// NeedMore is the number of missing bytes, even if bytes after a gap have arrived.
func TestNeedMore(t *testing.T) {
	msg := message("a.example", 900)
	var r quic.Reader
	for i, c := range []struct{ from, to, missing int }{
		{500, 900, 46}, // the length is not known yet
		{0, 100, 400},
		{0, 100, 400},
		{90, 300, 200},
		{299, 499, 1},
	} {
		_, err := r.Read(datagram(packet(crypto(c.from, msg[c.from:c.to]))))
		if c.from == 500 {
			require.ErrorIs(t, err, peek.ErrNeedMore)
			continue
		}
		require.Equal(t, peek.NeedMore(c.missing), err, "%d", i)
	}
	hello, err := r.Read(datagram(packet(crypto(499, msg[499:501]))))
	require.NoError(t, err)
	require.Equal(t, "a.example", hello.Name)
}

// The Reader ignores these datagrams, before a hello and in the middle of one.
func TestIgnored(t *testing.T) {
	msg := message("a.example", 900)
	half, rest := datagram(packet(crypto(0, msg[:400]))), datagram(packet(crypto(400, msg[400:])))
	flipped := func(at int) []byte {
		b := bytes.Clone(half)
		b[at] ^= 1
		return b
	}
	other := quic.Packet{Version: quic.Version1, Dest: []byte("12345678"), Src: srcID}
	long := func(first byte, version uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{first}, version)
		b = append(b, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0)
		return datagram(append(b, 0, 0x40, 100), make([]byte, 1300))
	}
	for name, c := range map[string]struct {
		datagram []byte
		want     error
		anywhere bool // also ignored before the hello
	}{
		"empty":                           {[]byte{}, quic.ErrNotQUIC, true},
		"truncated":                       {half[:10], quic.ErrNotQUIC, true},
		"ID of 21 bytes":                  {datagram([]byte{0xc0, 0, 0, 0, 1, 21}), quic.ErrNotQUIC, true},
		"length beyond the end":           {append([]byte{0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x7f, 0xff}, make([]byte, 1200)...), quic.ErrNotQUIC, true},
		"token beyond the end":            {append([]byte{0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 1200)...), quic.ErrNotQUIC, true},
		"too short for header protection": {datagram(append([]byte{0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 6}, "source\x00\x13"...)), quic.ErrAuthentication, true},
		"destination ID of 7 bytes":       {datagram(quic.Packet{Version: 1, Dest: destID[:7], Src: srcID}.Seal(msg)), quic.ErrNotQUIC, false},
		"unknown version":                 {long(0xc0, 0x0a0a0a0a), quic.ErrVersion, true},
		"draft 29":                        {long(0xc0, 0xff00001d), quic.ErrVersion, true},
		"version negotiation":             {long(0xc0, 0), quic.ErrNotInitial, true},
		"0-RTT":                           {long(0xd0, 1), quic.ErrNotInitial, true},
		"0-RTT of version 2":              {long(0xe0, quic.Version2), quic.ErrNotInitial, true},
		"handshake":                       {long(0xe0, 1), quic.ErrNotInitial, true},
		"retry":                           {long(0xf0, 1), quic.ErrNotInitial, true},
		"1-RTT":                           {datagram([]byte{0x40}), quic.ErrNotInitial, true},
		"small datagram":                  {packet(crypto(400, msg[400:])), quic.ErrSmall, true},
		"1199 bytes":                      {rest[:1199], quic.ErrSmall, true},
		"changed payload":                 {flipped(60), quic.ErrAuthentication, true},
		"changed packet number":           {flipped(26), quic.ErrAuthentication, true},
		"changed token length":            {flipped(21), quic.ErrNotQUIC, true},
		"keys of the server":              {datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, Side: quic.Server}.Seal(msg)), quic.ErrAuthentication, true},
		"keys of version 1 in version 2": {func() []byte {
			b := bytes.Clone(half)
			binary.BigEndian.PutUint32(b[1:], quic.Version2)
			b[0] ^= 0x10
			return b
		}(), quic.ErrAuthentication, true},
		"keys of another ID":               {datagram(other.Seal(crypto(400, msg[400:]))), quic.ErrAuthentication, false},
		"other version":                    {datagram(quic.Packet{Version: quic.Version2, Dest: destID, Src: srcID}.Seal(msg)), quic.ErrOtherConnection, false},
		"other source ID":                  {datagram(quic.Packet{Version: 1, Dest: destID, Src: []byte("other")}.Seal(msg)), quic.ErrOtherConnection, false},
		"another connection after a Retry": {datagram(quic.Packet{Version: 1, Dest: []byte("12345678"), Src: srcID, Token: []byte("token")}.Seal(msg)), quic.ErrAuthentication, false},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(r *quic.Reader) {
				t.Helper()
				hello, err := r.Read(c.datagram)
				_, ok := err.(*quic.Ignored)
				require.True(t, ok, "%v", err)
				if c.anywhere || hello.Version != 0 {
					if name == "keys of version 1 in version 2" && hello.Version != 0 {
						require.ErrorIs(t, err, quic.ErrOtherConnection)
					} else {
						require.ErrorIs(t, err, c.want)
					}
				}
				require.NotErrorIs(t, err, peek.ErrNeedMore)
				require.Empty(t, hello.Name)
			}
			var r quic.Reader
			if c.anywhere {
				check(&r)
			}
			_, err := r.Read(half)
			require.ErrorIs(t, err, peek.ErrNeedMore)
			if name != "destination ID of 7 bytes" {
				check(&r)
			}
			hello, err := r.Read(rest)
			require.NoError(t, err)
			require.Equal(t, "a.example", hello.Name)
		})
	}
}

// These packets and bytes may be in the same datagram as the packet with the hello.
func TestAccepted(t *testing.T) {
	msg := message("a.example", 300)
	hello := packet(crypto(0, msg))
	v2 := quic.Packet{Version: quic.Version2, Dest: destID, Src: srcID}
	zeroRTT := append([]byte{0xd0, 0, 0, 0, 1, 8}, destID...)
	zeroRTT = append(append(zeroRTT, 0, 0x40, 50), make([]byte, 50)...)
	token := bytes.Repeat([]byte{7}, 300)
	noise := make([]byte, 1300)
	for i := range noise {
		noise[i] = byte(i*7) | 0x80
	}
	for name, d := range map[string][]byte{
		"zeros after it":                       datagram(hello),
		"noise after it":                       append(bytes.Clone(hello), noise...),
		"1-RTT after it":                       datagram(hello, []byte{0x40, 1, 2}),
		"padding before the frames":            datagram(packet(make([]byte, 100), crypto(0, msg), make([]byte, 800))),
		"PING and ACK before the frame":        datagram(packet([]byte{1, 2, 0x40, 5, 0, 1, 0, 0, 0}, crypto(0, msg))),
		"0-RTT after it":                       datagram(hello, zeroRTT),
		"0-RTT before it":                      datagram(zeroRTT, hello),
		"two Initial packets":                  datagram(packet(crypto(100, msg[100:])), v1(1, crypto(0, msg[:100]))),
		"a bad packet before it":               datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, Side: quic.Server}.Seal(msg), hello),
		"a bad packet after it":                datagram(hello, quic.Packet{Version: 1, Dest: destID, Src: srcID, Side: quic.Server}.Seal(msg)),
		"a packet with another ID after it":    datagram(packet(crypto(0, msg)), quic.Packet{Version: 1, Dest: []byte("12345678"), Src: srcID}.Seal([]byte{0x1c, 0, 0, 0})),
		"a token":                              datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, Token: token}.Seal(crypto(0, msg))),
		"a token and a short ID":               datagram(quic.Packet{Version: 1, Dest: destID[:4], Src: srcID, Token: token}.Seal(crypto(0, msg))),
		"no source ID":                         datagram(quic.Packet{Version: 1, Dest: destID}.Seal(crypto(0, msg))),
		"a large packet number":                datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, Number: 1<<32 - 1}.Seal(crypto(0, msg))),
		"the fixed bit is 0 (RFC 9287)":        datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, First: 0x40}.Seal(crypto(0, msg))),
		"bytes after the hello":                datagram(packet(crypto(0, append(bytes.Clone(msg), "more"...)))),
		"an empty frame beyond the hello":      datagram(packet(crypto(60_000, nil), crypto(0, msg))),
		"a frame beyond the hello":             datagram(packet(crypto(60_000, []byte{1}), crypto(0, msg))),
		"version 2":                            datagram(v2.Seal(crypto(0, msg))),
		"version 2, with 0-RTT after it":       datagram(v2.Seal(crypto(0, msg)), append(binary.BigEndian.AppendUint32([]byte{0xe0}, quic.Version2), append([]byte{8}, append(destID, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)...)...)),
		"a datagram of 65,000 bytes":           datagram(packet(crypto(0, msg)), make([]byte, 64_000)),
		"a hello in one-byte frames":           datagram(packet(bytesOf(msg[:150])), v1(1, crypto(150, msg[150:]))),
		"a hello in one-byte frames, reversed": datagram(packet(reversed(msg[:150])), v1(1, crypto(150, msg[150:]))),
	} {
		t.Run(name, func(t *testing.T) {
			var r quic.Reader
			got, err := r.Read(d)
			require.NoError(t, err)
			require.Equal(t, "a.example", got.Name)
			require.Equal(t, len(msg), got.ClientHello.Len)
		})
	}
}

func bytesOf(b []byte) []byte {
	var frames []byte
	for i := range b {
		frames = append(frames, crypto(i, b[i:i+1])...)
	}
	return frames
}

func reversed(b []byte) []byte {
	var frames []byte
	for i := range slices.Backward(b) {
		frames = append(frames, crypto(i, b[i:i+1])...)
	}
	return frames
}

// Each of these hellos ends the Reader with an error.
func TestFinal(t *testing.T) {
	msg := message("a.example", 300)
	hello := func(h hellotest.Hello) []byte { return datagram(packet(crypto(0, h.Message()))) }
	edited := func(change func(b []byte)) []byte {
		b := bytes.Clone(msg)
		change(b)
		return datagram(packet(crypto(0, b)))
	}
	for name, c := range map[string]struct {
		datagram []byte
		want     error
		what     string // of the *peek.Error
	}{
		"no name":                     {hello(hellotest.Hello{}), peek.ErrNoName, ""},
		"address":                     {hello(hellotest.Hello{Name: "192.0.2.1"}), peek.ErrIPLiteral, ""},
		"control character":           {hello(hellotest.Hello{Name: "a\x00.example"}), peek.ErrControlCharacter, ""},
		"two names":                   {hello(hellotest.Hello{Name: "a.example", Extensions: []hellotest.Extension{{Body: []byte{0, 4, 0, 0, 1, 'b'}}}}), peek.ErrMalformed, "extension: second one of its type"},
		"not a ClientHello":           {edited(func(b []byte) { b[0] = 2 }), peek.ErrMalformed, "handshake message: not a ClientHello"},
		"hello of 16 MiB":             {edited(func(b []byte) { b[1] = 0xff }), peek.ErrTooLarge, "ClientHello"},
		"frame beyond 64 KiB":         {datagram(packet(crypto(64<<10, []byte{1}))), peek.ErrTooLarge, "CRYPTO frame"},
		"frame at the largest offset": {datagram(packet(crypto(1<<62-1, []byte{1}))), peek.ErrTooLarge, "CRYPTO frame"},
		"other bytes at one offset":   {datagram(packet(crypto(0, msg[:100]), crypto(99, []byte{^msg[99]}))), peek.ErrMalformed, "CRYPTO frame: other bytes than an earlier frame at the same offset"},
		"frame longer than its packet": {
			datagram(packet([]byte{6, 0, 0x50, 0})),
			peek.ErrMalformed, "CRYPTO frame: beyond the end of the packet",
		},
		"ACK beyond the packet":   {datagram(packet([]byte{2, 0, 0, 0x3f, 0, 1, 1})), peek.ErrMalformed, "ACK frame: beyond the end of the packet"},
		"ACK with 2^62 ranges":    {datagram(packet([]byte{2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0})), peek.ErrMalformed, "ACK frame: beyond the end of the packet"},
		"close beyond the packet": {datagram(packet([]byte{0x1c, 0, 0, 9})), peek.ErrMalformed, "CONNECTION_CLOSE frame: beyond the end of the packet"},
		"STREAM frame":            {datagram(packet([]byte{8, 0, 0, 0})), peek.ErrMalformed, "frame: of a type that an Initial packet must not have"},
		"close of an application": {datagram(packet([]byte{0x1d, 0, 0, 0})), peek.ErrMalformed, "frame: of a type that an Initial packet must not have"},
		"PING in two bytes":       {datagram(packet([]byte{0x40, 1, 0, 0})), peek.ErrMalformed, "frame: of a type that an Initial packet must not have"},
		"reserved bits":           {datagram(quic.Packet{Version: 1, Dest: destID, Src: srcID, First: 8}.Seal(crypto(0, msg))), peek.ErrMalformed, "header: reserved bits"},
		"close":                   {datagram(packet([]byte{0x1c, 0x41, 0x2a, 0, 0})), quic.ErrClosed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r quic.Reader
			got, err := r.Read(c.datagram)
			require.ErrorIs(t, err, c.want)
			require.Empty(t, got.Name)
			if c.what != "" {
				typed, ok := errors.AsType[*peek.Error](err)
				require.True(t, ok)
				require.Equal(t, c.what, typed.What)
			}
			again, err2 := r.Read(datagram(packet(crypto(0, msg))))
			require.Equal(t, err, err2, "a final result stays")
			require.Equal(t, got, again)
		})
	}
}

func TestNoNameIsComplete(t *testing.T) {
	var r quic.Reader
	got, err := r.Read(datagram(packet(crypto(0, hellotest.Hello{ALPN: []string{"h3"}}.Message()))))
	require.Equal(t, peek.ErrNoName, err)
	require.True(t, got.ClientHello.OffersALPN("h3"))
	r = quic.Reader{}
	got, err = r.Read(datagram(packet(crypto(0, hellotest.Hello{Name: "A.example:1"}.Message()))))
	require.ErrorIs(t, err, peek.ErrInvalidName)
	require.Equal(t, "A.example:1", got.RawName)
}

func TestLimits(t *testing.T) {
	msg := message("a.example", 2000)
	t.Run("packets", func(t *testing.T) {
		r := quic.Reader{MaxPackets: 3}
		for range 2 {
			_, err := r.Read(datagram(packet(crypto(0, msg[:100]))))
			require.ErrorIs(t, err, peek.ErrNeedMore)
		}
		_, err := r.Read(datagram(packet(crypto(0, msg[:200]))))
		require.ErrorIs(t, err, quic.ErrTooManyPackets)
		require.EqualError(t, err, "quic: too many packets before the hello was complete: 3")
	})
	t.Run("the last allowed packet completes the hello", func(t *testing.T) {
		r := quic.Reader{MaxPackets: 3}
		_, err := r.Read(datagram(packet(crypto(0, msg[:1000]))))
		require.ErrorIs(t, err, peek.ErrNeedMore)
		_, err = r.Read([]byte("x"))
		require.ErrorIs(t, err, quic.ErrNotInitial)
		got, err := r.Read(datagram(packet(crypto(1000, msg[1000:]))))
		require.NoError(t, err)
		require.Equal(t, "a.example", got.Name)
	})
	t.Run("ignored packets", func(t *testing.T) {
		var r quic.Reader
		for range quic.MaxPackets - 1 {
			_, err := r.Read(packet(crypto(0, msg[:100])))
			require.ErrorIs(t, err, quic.ErrSmall)
			require.NotErrorIs(t, err, quic.ErrTooManyPackets)
		}
		_, err := r.Read(packet(crypto(0, msg[:100])))
		require.ErrorIs(t, err, quic.ErrTooManyPackets)
		require.ErrorIs(t, err, quic.ErrSmall, "the error names the last reason")
	})
	t.Run("packets in one datagram", func(t *testing.T) {
		r := quic.Reader{MaxPackets: 2}
		_, err := r.Read(datagram(packet(crypto(0, msg[:100])), v1(1, crypto(100, msg[100:200])), v1(2, crypto(200, msg[200:]))))
		require.ErrorIs(t, err, quic.ErrTooManyPackets)
		r = quic.Reader{MaxPackets: 2}
		_, err = r.Read(datagram(packet(crypto(0, msg[:100])), v1(1, crypto(100, msg[100:])), v1(2, []byte{8})))
		require.NoError(t, err)
	})
	t.Run("bytes", func(t *testing.T) {
		r := quic.Reader{MaxBytes: len(msg)}
		_, err := readAll(t, &r, datagram(packet(crypto(0, msg))))
		require.NoError(t, err)
		r = quic.Reader{MaxBytes: len(msg) - 1}
		_, err = readAll(t, &r, datagram(packet(crypto(0, msg[:100]))))
		require.ErrorIs(t, err, peek.ErrTooLarge)
		require.EqualError(t, err, "peek: too large: ClientHello at byte 1")
		r = quic.Reader{MaxBytes: 1 << 30}
		_, err = readAll(t, &r, datagram(packet(crypto(peek.MaxBytes, []byte{1}))))
		require.ErrorIs(t, err, peek.ErrTooLarge)
	})
	t.Run("pieces", func(t *testing.T) {
		every := func(n int) [][]byte { // n pieces with gaps
			var all [][]byte
			for i := 0; i < n; {
				var frames []byte
				for ; i < n && len(frames) < 1000; i++ {
					frames = append(frames, crypto(4+2*i, msg[4+2*i:5+2*i])...)
				}
				all = append(all, datagram(packet(frames)))
			}
			return all
		}
		var r quic.Reader
		_, err := readAll(t, &r, every(quic.MaxPieces)...)
		require.ErrorIs(t, err, peek.ErrNeedMore)
		got, err := r.Read(datagram(packet(crypto(0, msg[:4]))))
		require.ErrorIs(t, err, peek.ErrTooLarge)
		require.Empty(t, got.Name)
		r = quic.Reader{}
		_, err = readAll(t, &r, every(quic.MaxPieces-1)...)
		require.ErrorIs(t, err, peek.ErrNeedMore)
		_, err = r.Read(datagram(packet(crypto(0, msg[:4]))))
		require.ErrorIs(t, err, peek.ErrNeedMore)
	})
}

// A client that never completes its hello holds little memory, whatever offsets it sends.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // the first one moves the scratch buffers to their pool's victim cache
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const pieceLen = 3
	var datagrams [][]byte
	for i := range quic.MaxPieces / 8 {
		var frames []byte
		for j := range 8 {
			frames = append(frames, crypto(1+200*(8*i+j), make([]byte, pieceLen))...)
		}
		datagrams = append(datagrams, datagram(v1(uint32(i), frames)))
	}
	readers := make([]quic.Reader, 300)
	before := heap()
	for i := range readers {
		_, err := readAll(t, &readers[i], datagrams...)
		require.ErrorIs(t, err, peek.ErrNeedMore)
	}
	require.Less(t, int(heap()-before)/len(readers), 8<<10+2*pieceLen*quic.MaxPieces)
	runtime.KeepAlive(readers)
}
