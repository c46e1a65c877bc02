package haproxycfg

import (
	"net/netip"
	"strconv"
	"strings"
)

// SpareAddr is the address of a spare server. Nobody can connect to this address: if a program
// tries, the kernel sends no packet.
var SpareAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

const sparePrefix = "spare"

// Spare returns the spare server "spare"+i, i ≥ 1, of a backend whose servers other servers track.
// It has the settings of s, a server of the backend, and is in maintenance at the address
// SpareAddr.
//
// HAProxy lets no server track a server that was added at run time. So a program that needs another
// tracked server at run time gives its address to a spare server.
func (s Server) Spare(i int) Server {
	s.Slot, s.Disabled = sparePrefix+strconv.Itoa(i), true
	s.Addr = netip.AddrPortFrom(SpareAddr, s.Addr.Port())
	return s
}

// IsSpare reports whether a server with this name is a spare server. It does not matter whether a
// program already uses this spare server.
func IsSpare(name string) bool {
	number, ok := strings.CutPrefix(name, sparePrefix)
	if !ok || number == "" || number[0] == '0' {
		return false
	}
	for i := range len(number) {
		if number[i] < '0' || number[i] > '9' {
			return false
		}
	}
	return true
}
