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

// Spare returns a spare server of a backend whose servers other servers track. Its name is "spare"
// and the number i, which is at least 1. It has the settings of s, a server of the same backend,
// and is in maintenance at the address SpareAddr.
//
// HAProxy lets no server track a server that was added at run time. So if a program needs another
// tracked server at run time, it changes the address of a spare server.
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
