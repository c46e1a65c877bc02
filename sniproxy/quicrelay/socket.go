package quicrelay

import (
	"net/netip"
	"sync"
	"time"
)

// socket sends and receives datagrams in bundles: several datagrams in one system call. Its methods
// may be called from several goroutines.
type socket interface {
	// receive waits for datagrams, and returns them as a bundle. One goroutine at a time may call
	// receive. The caller must release the bundle.
	receive() (*bundle, error)
	// send sends the datagrams in b to the address "to". Each datagram has the given size, and the
	// last one can be shorter. On a connected socket, "to" is the zero value. "from" is the source
	// address of the datagrams. If "from" is the zero value, the system chooses the source address.
	//
	// On Linux, if the send buffer of a connected socket is full, send drops the datagrams and
	// returns errFull.
	send(b []byte, size int, from netip.Addr, to netip.AddrPort) error
	setReadDeadline(t time.Time) error
	close() error
}

// maxBundle is the greatest number of bytes in a bundle. The largest UDP datagram fits into it.
const maxBundle = 1 << 16

// bundle contains one or more datagrams that arrived together from one sender.
type bundle struct {
	buf  [maxBundle]byte
	n    int            // the bytes in buf
	size int            // the size of each datagram; the last one can be shorter
	from netip.AddrPort // the sender; not valid if the socket is connected
	// The field "to" is the destination address of the datagrams. It is valid only on Linux, and
	// only if the socket receives the datagrams for several addresses.
	to  netip.Addr
	oob [128]byte // memory for control messages
}

var bundles = sync.Pool{New: func() any { return new(bundle) }}

func newBundle() *bundle { return bundles.Get().(*bundle) }

func (b *bundle) release() { bundles.Put(b) }

// cut splits b, which contains datagrams of the given size, into the first datagram and the rest.
func cut(b []byte, size int) (datagram, rest []byte) {
	n := min(size, len(b))
	return b[:n], b[n:]
}
