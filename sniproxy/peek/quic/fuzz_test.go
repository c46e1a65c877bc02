package quic_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

var update = flag.Bool("update", false, "write the seeds of the fuzz targets")

// checkResult checks the rules that hold for every result of Read.
func checkResult(t *testing.T, hello quic.Hello, err error) {
	t.Helper()
	require.Equal(t, err == nil, hello.Name != "", "%v", err)
	if ignored, ok := err.(*quic.Ignored); ok {
		require.NotErrorIs(t, err, peek.ErrNeedMore)
		require.NotEmpty(t, ignored.Error())
	}
	for _, known := range []error{
		nil, peek.ErrNeedMore, peek.ErrNoName, peek.ErrTooLarge, peek.ErrMalformed, peek.ErrInvalidName, quic.ErrTooManyPackets, quic.ErrClosed,
		quic.ErrNotQUIC, quic.ErrVersion, quic.ErrNotInitial, quic.ErrSmall, quic.ErrOtherConnection, quic.ErrAuthentication,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	t.Fatalf("unknown error: %v", err)
}

// FuzzDatagrams reads two datagrams as they are.
func FuzzDatagrams(f *testing.F) {
	for _, name := range []string{"rfc9001-a2-client", "rfc9369-a2-client", "rfc9001-a3-server", "chromium-1"} {
		f.Add(file(f, name), file(f, "chromium-2"))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for b := one; len(b) > 0; {
			h, err := quic.ParseHeader(b)
			if err != nil {
				require.ErrorIs(t, err, quic.ErrNotQUIC)
				break
			}
			require.Positive(t, h.Len)
			require.LessOrEqual(t, h.Len, len(b))
			b = b[h.Len:]
		}
		var r quic.Reader
		before := bytes.Clone(one)
		hello, err := r.Read(one)
		require.Equal(t, before, one)
		checkResult(t, hello, err)
		hello, err = r.Read(two)
		checkResult(t, hello, err)

		if hello.Version != 0 {
			answer, err := hello.AppendClose(nil, quic.CryptoError(112), "")
			require.NoError(t, err)
			_, _, ok := quic.Open(answer, hello.DestID, quic.Server)
			require.True(t, ok)
		}
	})
}

// naive reads the frames of all packets in the simplest way: a map from offset to byte. It returns
// the hello, or the kind of the error. known is false if the result depends on the limits.
func naive(payloads ...[]byte) (hello []byte, kind error, known bool) {
	stream := map[uint64]byte{}
	for _, b := range payloads {
		varint := func() uint64 {
			if len(b) == 0 || len(b) < 1<<(b[0]>>6) {
				b, kind = nil, peek.ErrMalformed
				return 0
			}
			n := 1 << (b[0] >> 6)
			v := uint64(b[0] & 0x3f)
			for _, c := range b[1:n] {
				v = v<<8 | uint64(c)
			}
			b = b[n:]
			return v
		}
		for len(b) > 0 {
			frame := b[0]
			b = b[1:]
			switch frame {
			case 0, 1:
			case 2, 3:
				varint()
				varint()
				ranges := varint()
				varint()
				for ; ranges > 0 && kind == nil; ranges-- {
					varint()
					varint()
				}
				if frame == 3 {
					varint()
					varint()
					varint()
				}
			case 6, 0x1c:
				first, second := varint(), varint()
				n := second
				if frame == 0x1c {
					n = varint()
				}
				if kind != nil || n > uint64(len(b)) {
					return nil, peek.ErrMalformed, true
				}
				if frame == 0x1c {
					return nil, quic.ErrClosed, true
				}
				if first+n > 4096 {
					return nil, nil, false
				}
				for i, c := range b[:n] {
					at := first + uint64(i)
					if old, ok := stream[at]; ok && old != c {
						return nil, peek.ErrMalformed, true
					}
					stream[at] = c
				}
				b = b[n:]
			default:
				return nil, peek.ErrMalformed, true
			}
			if kind != nil {
				return nil, kind, true
			}
		}
		for {
			c, ok := stream[uint64(len(hello))]
			if !ok {
				break
			}
			hello = append(hello, c)
		}
		if _, err := peek.ParseClientHelloMessage(hello); !errors.Is(err, peek.ErrNeedMore) {
			break // the later packets have no effect
		}
	}
	return hello, nil, true
}

// FuzzFrames reads two packets with these frames, and compares the result with that of the function
// naive.
func FuzzFrames(f *testing.F) {
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if len(one) > 3000 || len(two) > 3000 {
			return
		}
		one, two = atLeast4([][]byte{one}), atLeast4([][]byte{two})
		p := quic.Packet{Version: quic.Version1, Dest: destID, Src: srcID}
		var r quic.Reader
		got, err := r.Read(datagram(p.Seal(one)))
		checkResult(t, got, err)
		if _, more := err.(peek.NeedMore); more {
			p.Number = 1
			got, err = r.Read(datagram(p.Seal(two)))
			checkResult(t, got, err)
		}
		message, kind, known := naive(one, two)
		switch {
		case !known || errors.Is(err, peek.ErrTooLarge):
		case kind != nil:
			require.ErrorIs(t, err, kind)
		default:
			hello, helloErr := peek.ParseClientHelloMessage(message)
			if helloErr != nil && !errors.Is(helloErr, peek.ErrNeedMore) {
				require.Equal(t, helloErr, err)
			}
			require.Equal(t, errors.Is(helloErr, peek.ErrNeedMore), errors.Is(err, peek.ErrNeedMore))
			require.Equal(t, hello.ServerName, got.RawName)
		}
	})
}

// seeds returns inputs that are difficult to read.
func seeds() map[string]map[string][2][]byte {
	msg := message("a.example", 120)
	cat := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	long := func(version uint32, first byte, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{first}, version), rest...)
	}
	datagrams := map[string][2][]byte{
		"empty":               {{}, nil},
		"short-header":        {{0x40, 1, 2, 3}, nil},
		"version-negotiation": {long(0, 0xc0, 1, 7, 1, 8, 0, 0, 0, 1), nil},
		"unknown-version":     {long(0xff00001d, 0xc0, 1, 7, 1, 8), nil},
		"retry":               {long(1, 0xf0, 1, 7, 1, 8, 't', 'o', 'k', 'e', 'n'), nil},
		"zero-rtt":            {long(1, 0xd0, 1, 7, 0, 2, 1, 2, 0x40), nil},
		"zero-rtt-v2":         {long(quic.Version2, 0xe0, 1, 7, 0, 2, 1, 2), nil},
		"id-of-21-bytes":      {long(1, 0xc0, append([]byte{21}, make([]byte, 40)...)...), nil},
		"token-overruns":      {long(1, 0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), nil},
		"length-0":            {long(1, 0xc0, 0, 0, 0, 0), nil},
		"coalesced":           {append(long(1, 0xe0, 1, 7, 0, 2, 1, 2), long(1, 0xe0, 1, 7, 0, 2, 1, 2)...), nil},
	}
	frames := map[string][2][]byte{
		"whole":            {crypto(0, msg), nil},
		"two-packets":      {crypto(0, msg[:60]), crypto(60, msg[60:])},
		"reversed":         {crypto(60, msg[60:]), crypto(0, msg[:60])},
		"overlap":          {cat(crypto(0, msg[:80]), crypto(40, msg[40:])), nil},
		"inside":           {crypto(0, msg[:80]), cat(crypto(10, msg[10:20]), crypto(70, msg[70:]))},
		"over-three":       {cat(crypto(5, msg[5:9]), crypto(20, msg[20:30]), crypto(40, msg[40:50])), crypto(0, msg)},
		"disagree":         {crypto(0, msg[:80]), crypto(79, []byte{^msg[79]})},
		"bytes":            {bytesOf(msg[:60]), reversed(msg)[:300]},
		"ack-ping-padding": {cat([]byte{1, 0, 0, 2, 5, 0, 1, 0, 0, 0, 3, 5, 0, 0, 0, 1, 2, 3}, crypto(0, msg)), nil},
		"ack-overruns":     {cat([]byte{2, 5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0}), nil},
		"close":            {cat(crypto(0, msg[:60]), []byte{0x1c, 0x41, 0x2a, 6, 2, 'n', 'o'}), nil},
		"stream":           {cat([]byte{8, 0, 0}, crypto(0, msg)), nil},
		"far":              {cat(crypto(1<<62-1, []byte{1}), crypto(0, msg)), nil},
		"beyond":           {cat(crypto(0, append(bytes.Clone(msg), 1, 2, 3)), crypto(60_000, []byte{1})), nil},
		"empty-frames":     {cat(crypto(0, nil), crypto(9, nil), crypto(0, msg[:9])), crypto(9, msg[9:])},
		"length-overruns":  {[]byte{6, 0, 0x7f, 0xff, 1}, nil},
		"not-a-hello":      {crypto(0, []byte{2, 0, 0, 60}), nil},
		"no-name":          {crypto(0, message("", 0)), nil},
		"bad-name":         {crypto(0, message("a..example", 0)), nil},
	}
	return map[string]map[string][2][]byte{"FuzzDatagrams": datagrams, "FuzzFrames": frames}
}

// The files in testdata/fuzz must contain the inputs of the function seeds. The flag -update writes
// these files.
func TestSeeds(t *testing.T) {
	for target, inputs := range seeds() {
		dir := filepath.Join("testdata", "fuzz", target)
		for name, input := range inputs {
			text := "go test fuzz v1\n"
			for _, b := range input {
				text += fmt.Sprintf("[]byte(%q)\n", b)
			}
			path := filepath.Join(dir, name)
			if *update {
				require.NoError(t, os.MkdirAll(dir, 0o755))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			}
			got, err := os.ReadFile(path)
			require.NoError(t, err, "go test -run TestSeeds -update writes it")
			require.Equal(t, text, string(got), path)
		}
	}
}
