package frontproxy

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
)

// Slots are the servers of a configuration for HAProxy before 3.0. The key is "BACKEND/SLOT", such
// as "shop.web:local/s1". The value is the address of the pod in the slot, or the zero AddrPort. A
// pod keeps its slot while it lives.
//
// A new backend has twice as many slots as pods, at least 8, rounded up to a power of two. A change
// of this number needs a reload. So Config changes the number only if there are fewer slots than
// pods, or more than four times the slots of a new backend.
type Slots map[string]netip.AddrPort

// emptySlot is the address in a slot (a server line for a pod) that has no pod. HAProxy sends
// nothing to this address, because the server is disabled. If somebody enables the server by hand,
// connections fail at once.
var emptySlot = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)

// IsEmptySlot reports whether addr is the address of an empty slot, so that the server has no pod.
func IsEmptySlot(addr netip.AddrPort) bool { return addr == emptySlot }

const minSlots = 8

// slotCount returns how many slots a new backend gets if it has the given number of pods. A slot is
// a server line that can hold the address of a pod.
func slotCount(pods int) int {
	n := minSlots
	for n < 2*pods {
		n *= 2
	}
	return n
}

// isSlotCount reports whether slotCount can return n.
func isSlotCount(n int) bool { return n >= minSlots && n&(n-1) == 0 }

// fill puts the servers of a backend into slots: servers with fixed names such as "s1", which have
// the address of a pod or are empty. It adds the slots to s, and returns one server for each slot;
// empty slots are disabled. An address keeps its slot of the old configuration ("before").
func (s Slots) fill(before Slots, backend string, servers []haproxycfg.Server, checked bool) []haproxycfg.Server {
	kept := before.of(backend)
	n, needed := len(kept), slotCount(len(servers))
	if !isSlotCount(n) || n < len(servers) || n > 4*needed {
		n = needed
	}
	at := make(map[netip.AddrPort]int, len(servers)) // the slots whose pods stay
	for i := n - 1; i >= 0; i-- {                    // if two slots have the same address, use the lower one
		if addr := kept[slotName(i)]; addr.IsValid() {
			at[addr] = i
		}
	}
	filled := make([]haproxycfg.Server, n)
	var homeless []haproxycfg.Server
	for _, server := range servers {
		if i, ok := at[server.Addr]; ok {
			filled[i] = server
		} else {
			homeless = append(homeless, server)
		}
	}
	for i := range filled {
		name := slotName(i)
		if !filled[i].Addr.IsValid() && len(homeless) > 0 {
			filled[i], homeless = homeless[0], homeless[1:]
		}
		s[backend+"/"+name] = filled[i].Addr
		if !filled[i].Addr.IsValid() {
			filled[i] = haproxycfg.Server{Addr: emptySlot, Check: checked, Disabled: true}
		}
		filled[i].Slot = name
	}
	return filled
}

// The method "of" returns the addresses in the slots of one backend. The key in the result is the
// name of the slot without the backend, such as "s1".
func (s Slots) of(backend string) map[string]netip.AddrPort {
	own := map[string]netip.AddrPort{}
	for key, addr := range s {
		if slot, ok := strings.CutPrefix(key, backend+"/"); ok {
			own[slot] = addr
		}
	}
	return own
}

func slotName(i int) string { return "s" + strconv.Itoa(i+1) }
