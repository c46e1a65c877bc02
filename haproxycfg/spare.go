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

// Spare returns the spare server i of a backend whose servers other servers track. Spare servers
// are numbered from 1. s is a server of the backend, and the spare server has the settings of s.
// Its name is "spare1", "spare2" and so on. It is in maintenance, and its address is SpareAddr.
//
// HAProxy lets no server track a server that was added at run time. So a program that needs one
// more tracked server at run time gives the address of this server to a spare server.
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
