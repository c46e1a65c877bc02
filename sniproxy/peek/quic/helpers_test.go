package quic_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

var (
	destID = []byte("\x01\x02\x03\x04\x05\x06\x07\x08")
	srcID  = []byte("source")
)

// crypto returns a CRYPTO frame.
func crypto(offset int, data []byte) []byte {
	b := quic.AppendVarint([]byte{6}, uint64(offset))
	return append(quic.AppendVarint(b, uint64(len(data))), data...)
}

// packet returns a packet of version 1 with these frames.
func packet(frames ...[]byte) []byte { return v1(0, frames...) }

func v1(number uint32, frames ...[]byte) []byte {
	return quic.Packet{Version: quic.Version1, Dest: destID, Src: srcID, Number: number}.Seal(atLeast4(frames))
}

// atLeast4 joins frames, and adds PADDING frames, because header protection needs 4 bytes.
func atLeast4(frames [][]byte) []byte {
	payload := slices.Concat(frames...)
	for len(payload) < 4 {
		payload = append(payload, 0)
	}
	return payload
}

// datagram joins packets, and pads the datagram to 1,200 bytes with zeros after the last packet.
func datagram(packets ...[]byte) []byte {
	b := slices.Concat(packets...)
	return append(b, make([]byte, max(quic.MinDatagram-len(b), 0))...)
}

// message returns the ClientHello for a name, with at least n bytes.
func message(name string, n int) []byte {
	return hellotest.Hello{Name: name, ALPN: []string{"h3"}, Versions: []uint16{0x0304}, Pad: n}.Message()
}

// cut cuts a hello into frames at random places. Some frames repeat bytes of others. The frames come
// in random order, in packets of at most 1,100 bytes, in datagrams of one or more packets.
func cut(rng *rand.Rand, version uint32, msg []byte) [][]byte {
	var frames [][]byte
	for at := 0; at < len(msg); {
		n := min(1+rng.IntN(1+rng.IntN(1000)), len(msg)-at)
		start := at
		if rng.IntN(3) == 0 {
			start = rng.IntN(at + 1) // overlaps
		}
		frames = append(frames, crypto(start, msg[start : at+n][:min(at+n-start, 1000)]))
		if at+n-start > 1000 {
			frames = append(frames, crypto(at, msg[at:at+n]))
		}
		at += n
	}
	for range rng.IntN(3) {
		frames = append(frames, []byte{1}, []byte{0, 0, 0}, []byte{2, 5, 0, 1, 0, 0, 0}, []byte{3, 5, 0, 0, 0, 1, 2, 3})
	}
	rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
	var packets [][]byte
	for len(frames) > 0 {
		var payload []byte
		for len(frames) > 0 && len(payload)+len(frames[0]) <= 1100 {
			payload = append(payload, frames[0]...)
			frames = frames[1:]
		}
		p := quic.Packet{Version: version, Dest: destID, Src: srcID, Number: uint32(len(packets))}
		packets = append(packets, p.Seal(atLeast4([][]byte{payload})))
	}
	var datagrams [][]byte
	for len(packets) > 0 {
		n := min(1+rng.IntN(3), len(packets))
		datagrams = append(datagrams, datagram(packets[:n]...))
		packets = packets[n:]
	}
	for range rng.IntN(3) {
		datagrams = append(datagrams, datagrams[rng.IntN(len(datagrams))])
	}
	rng.Shuffle(len(datagrams), func(i, j int) { datagrams[i], datagrams[j] = datagrams[j], datagrams[i] })
	return datagrams
}

// readAll reads datagrams until the result is final.
func readAll(t testing.TB, r *quic.Reader, datagrams ...[]byte) (quic.Hello, error) {
	t.Helper()
	var hello quic.Hello
	var err error
	for _, d := range datagrams {
		before := slices.Clone(d)
		hello, err = r.Read(d)
		if !slices.Equal(before, d) {
			t.Fatal("Read has changed the datagram")
		}
		switch err.(type) {
		case peek.NeedMore, *quic.Ignored:
			continue
		}
		break
	}
	return hello, err
}
