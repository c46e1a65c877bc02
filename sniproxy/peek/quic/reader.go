package quic

import (
	"bytes"
	"cmp"
	"fmt"
	"sync"

	"github.com/headgate/headgate/sniproxy/peek"
)

// MaxPackets is the default limit for the number of packets up to the end of a hello. The largest
// hellos of crypto/tls, with 21.5 KB, need 20 packets.
const MaxPackets = 64

// Reader reads the ClientHello of one connection while its datagrams arrive. The zero value reads
// at most MaxPackets packets, and a hello of at most peek.MaxBytes bytes. A Reader is not safe for
// concurrent use.
//
// While the hello is incomplete, a Reader needs at most 8 KiB of memory, plus twice the number of
// bytes that have arrived.
type Reader struct {
	// MaxBytes is the greatest length of the ClientHello in bytes. 0 means peek.MaxBytes (64 KiB),
	// which is also the largest allowed value.
	MaxBytes int
	// MaxPackets is the greatest number of packets that the Reader reads until the hello is
	// complete. Each Initial packet that the Reader tries to decrypt counts. Each datagram without
	// such a packet counts too. 0 means the constant MaxPackets.
	MaxPackets int

	hello   Hello
	keys    *keys
	largest int64 // the largest packet number; -1 before the first packet
	stream  stream
	packets int
	ignored error // the reason for the last ignored packet
	err     error // the final error
	done    bool
}

// Hello is what a Reader has found.
type Hello struct {
	// Version is the QUIC version of the client's packets.
	Version uint32
	// DestID is the destination connection ID of the client's first Initial packet. Client and
	// server derive the keys of Initial packets from this ID.
	DestID []byte
	// SrcID is the connection ID that the client has chosen for itself. It can be empty.
	SrcID []byte

	// Name is the server name in the normal form of peek.NormalizeServerName. It is "" if Read
	// returns an error.
	Name string
	// RawName is the name as the client sent it. Read also sets RawName if it returns an error because
	// the name is invalid. RawName may contain any bytes, so use it only for logs.
	RawName string
	// ClientHello is the hello. If the error is peek.ErrNoName, it is complete except for the name.
	// ClientHello.Len does not count the headers of packets and frames.
	ClientHello peek.ClientHello
}

// Read reads a datagram of the client, and neither changes nor keeps it. If the error is nil, the
// result is complete. If the error is peek.ErrNoName, the result is complete except for the name.
// The other errors are:
//
//	peek.NeedMore   the hello has begun; its value is the least number of missing bytes of the hello
//	*Ignored        the datagram has no packet that belongs to the hello; read the next one
//	others          the hello cannot be read; see the package comment
//
// If a call returns neither a NeedMore nor an *Ignored, every later call returns the same result.
func (r *Reader) Read(datagram []byte) (Hello, error) {
	if r.done {
		return r.hello, r.err
	}
	err := r.read(datagram)
	switch err := err.(type) {
	case peek.NeedMore:
		return r.partial(), err
	case *Ignored:
		r.ignored = err
		if r.packets < r.maxPackets() {
			return r.partial(), err
		}
	}
	r.done, r.err = true, err
	if r.packets >= r.maxPackets() && isIgnored(err) {
		r.err = r.tooManyPackets()
	}
	r.stream, r.keys = stream{}, nil
	return r.hello, r.err
}

// partial returns the parts of the hello that are known before it is complete.
func (r *Reader) partial() Hello {
	return Hello{Version: r.hello.Version, DestID: r.hello.DestID, SrcID: r.hello.SrcID}
}

func (r *Reader) maxPackets() int { return cmp.Or(r.MaxPackets, MaxPackets) }

func (r *Reader) tooManyPackets() error {
	if r.ignored == nil {
		return fmt.Errorf("%w: %d", ErrTooManyPackets, r.packets)
	}
	return fmt.Errorf("%w: %d; the last ignored one: %w", ErrTooManyPackets, r.packets, r.ignored)
}

func isIgnored(err error) bool {
	_, ok := err.(*Ignored)
	return ok
}

// read reads the packets of a datagram.
func (r *Reader) read(datagram []byte) error {
	h, err := ParseHeader(datagram)
	if err == nil && h.Type == UnknownVersion {
		err = &Ignored{Err: ErrVersion, What: fmt.Sprintf("%#08x", h.Version)}
	}
	if err != nil {
		r.packets++
		return err
	}
	var ignored error
	used := false
	firstID := h.DestID
	for at := 0; ; {
		// Skip a packet whose destination connection ID differs from that of the first packet in
		// the datagram: every receiver ignores such a packet (RFC 9000 section 12.2).
		if h.Type == Initial && bytes.Equal(h.DestID, firstID) {
			if r.packets == r.maxPackets() {
				break
			}
			r.packets++
			err := r.readInitial(datagram, at, h)
			switch {
			case isIgnored(err):
				ignored = err
			case err != nil:
				return err
			default:
				used = true
			}
		}
		at += h.Len
		if at == len(datagram) || datagram[at]&0x80 == 0 {
			break // the end, a packet with a short header, or padding
		}
		if h, err = ParseHeader(datagram[at:]); err != nil {
			break // padding of another kind
		}
	}
	switch {
	case used:
		if ignored != nil {
			r.ignored = ignored
		}
		return r.parse()
	case ignored != nil:
		return ignored
	default:
		r.packets++
		return &Ignored{Err: ErrNotInitial, What: h.Type.String() + " packet"}
	}
}

// scratch holds buffers for decrypted packets.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// readInitial reads the Initial packet at an offset of the datagram. If the Reader has to ignore the
// packet, the error is an *Ignored.
func (r *Reader) readInitial(datagram []byte, at int, h Header) error {
	ignore := func(reason error, what string) error { return &Ignored{Err: reason, What: what, Offset: at} }
	switch {
	case len(datagram) < MinDatagram:
		return ignore(ErrSmall, fmt.Sprintf("%d bytes", len(datagram)))
	case r.keys == nil && len(h.DestID) < MinClientIDLen && len(h.Token) == 0:
		return ignore(ErrNotQUIC, "destination connection ID: shorter than 8 bytes")
	case r.keys != nil && h.Version != r.hello.Version:
		return ignore(ErrOtherConnection, "other version")
	case r.keys != nil && !bytes.Equal(h.SrcID, r.hello.SrcID):
		return ignore(ErrOtherConnection, "other source connection ID")
	}
	packet := datagram[at : at+h.Len]
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	if cap(*buf) < len(packet) {
		*buf = make([]byte, 0, len(packet))
	}

	k := r.keys
	if k == nil {
		var err error
		if k, err = newKeys(h.Version, h.DestID, client); err != nil {
			return fmt.Errorf("quic: keys: %w", err)
		}
		r.largest = -1
	}
	header, payload, number, ok := k.open((*buf)[:0], packet, h.numberAt, r.largest)
	if !ok {
		return ignore(ErrAuthentication, "")
	}
	r.largest = max(r.largest, number)
	if r.keys == nil {
		r.keys = k
		r.hello.Version, r.hello.DestID, r.hello.SrcID = h.Version, bytes.Clone(h.DestID), bytes.Clone(h.SrcID)
	}
	return r.readFrames(header, payload, at)
}

// readFrames reads the frames of a packet. The argument "at" is the offset of the packet in the
// datagram. Errors of a frame state this offset too, because the frames are encrypted in the
// datagram and have no visible offset of their own.
func (r *Reader) readFrames(header, payload []byte, at int) error {
	if header[0]&0x0c != 0 {
		return malformed(at, "header: reserved bits")
	}
	if len(payload) == 0 {
		return malformed(at, "packet without frames")
	}
	limit := r.maxBytes()
	for c := (cursor{b: payload}); ; {
		f, ok, what := nextFrame(&c)
		switch {
		case what != "":
			return malformed(at, what)
		case !ok:
			return nil
		case f.closed:
			return fmt.Errorf("%w: error %#x", ErrClosed, f.code)
		case f.offset+uint64(len(f.data)) > uint64(limit):
			return &peek.Error{Err: peek.ErrTooLarge, What: "CRYPTO frame", Offset: at}
		}
		if what, tooMany := r.stream.add(int(f.offset), f.data); tooMany {
			return &peek.Error{Err: peek.ErrTooLarge, What: what, Offset: at}
		} else if what != "" {
			return malformed(at, what)
		}
	}
}

func (r *Reader) maxBytes() int {
	if r.MaxBytes > 0 {
		return min(r.MaxBytes, peek.MaxBytes)
	}
	return peek.MaxBytes
}

// parse parses the hello if it is complete.
func (r *Reader) parse() error {
	const header = 4 // the length of the header of a handshake message
	have := r.stream.prefix()
	_, err := peek.ParseClientHelloMessage(r.stream.first(min(have, header)))
	missing, ok := err.(peek.NeedMore)
	if !ok {
		return err
	}
	size := min(have, header) + int(missing)
	switch {
	case size > r.maxBytes():
		return &peek.Error{Err: peek.ErrTooLarge, What: "ClientHello", Offset: 1}
	case have < size && r.packets >= r.maxPackets():
		return r.tooManyPackets()
	case have < size:
		return peek.NeedMore(r.stream.missing(size))
	}
	r.hello.ClientHello, err = peek.ParseClientHelloMessage(r.stream.first(size))
	r.hello.RawName = r.hello.ClientHello.ServerName
	if err != nil {
		return err
	}
	r.hello.Name, err = peek.NormalizeServerName(r.hello.RawName)
	return err
}
