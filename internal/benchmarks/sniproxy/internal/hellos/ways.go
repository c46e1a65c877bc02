// Package hellos finds out which ClientHellos a router understands. It captures the hello of real
// TLS clients, and sends it again in other segments and other TLS records.
//
//	c := clients[0]
//	hello, err := c.Capture(ctx, "curl.example", certs)
//	pieces, err := hellos.Ways[0].Cut(hello, "curl.example")
//	err = hellos.Send(ctx, router, pieces)
//	reached := backend.Saw(hello)
//
// A replayed hello is only the beginning of a handshake. For a whole handshake, call Client.Connect
// with the address of the router.
package hellos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/headgate/headgate/internal/hellotest"
)

// A Way is a way to send a hello: how it is cut into TLS records, and how these records are cut into
// TCP segments.
type Way struct {
	Name    string
	Record  Size // of the handshake message in each record; 0 means the records of the client
	Segment Size // of each segment; 0 means one segment
}

// Size is a number of bytes, or InName.
type Size int

// InName cuts once, in the middle of the server name.
const InName Size = -1

// Ways are the ways in which the benchmark sends each hello.
var Ways = []Way{
	{Name: "1 segment"},
	{Name: "2 segments", Segment: InName},
	{Name: "segments of 100 bytes", Segment: 100},
	{Name: "segments of 1 byte", Segment: 1},
	{Name: "2 records", Record: InName},
	{Name: "records of 100 bytes", Record: 100},
	{Name: "2 records in segments of 1 byte", Record: InName, Segment: 1},
}

// Cut cuts a hello into segments. The argument "host" is the server name in the hello.
func (w Way) Cut(hello []byte, host string) ([][]byte, error) {
	wire := slices.Clone(hello)
	if w.Record != 0 {
		msg, rest, err := hellotest.Message(hello)
		if err != nil {
			return nil, err
		}
		sizes := []int{int(w.Record)}
		if w.Record == InName {
			at, err := middle(msg, host)
			if err != nil {
				return nil, err
			}
			sizes = []int{at, len(msg)}
		}
		wire = append(hellotest.Records(msg, sizes...), rest...)
	}
	switch w.Segment {
	case 0:
		return [][]byte{wire}, nil
	case InName:
		at, err := middle(wire, host)
		if err != nil {
			return nil, err
		}
		return [][]byte{wire[:at:at], wire[at:]}, nil
	default:
		return slices.Collect(slices.Chunk(wire, int(w.Segment))), nil
	}
}

// middle returns the index of the byte in the middle of host.
func middle(b []byte, host string) (int, error) {
	at := bytes.Index(b, []byte(host))
	if at < 0 {
		return 0, fmt.Errorf("hellos: the hello does not contain %s in one piece", host)
	}
	return at + len(host)/2, nil
}

// The offsets of the last eight bytes of the field "random" (RFC 8446, 4.1.2), behind the header of
// the record (5 bytes), the header of the message (4 bytes) and the version (2 bytes).
const (
	stampAt  = 5 + 4 + 2 + 32 - 8
	stampEnd = stampAt + 8
)

// Stamp returns a copy of a hello with n in its field "random". Hellos with different stamps differ,
// so a backend can tell which of them it has received. The first record of the hello must contain the
// field.
func Stamp(hello []byte, n uint64) ([]byte, error) {
	if len(hello) < stampEnd || int(binary.BigEndian.Uint16(hello[3:]))+5 < stampEnd {
		return nil, errors.New("hellos: the first record is too short")
	}
	stamped := slices.Clone(hello)
	binary.BigEndian.PutUint64(stamped[stampAt:], n)
	return stamped, nil
}
