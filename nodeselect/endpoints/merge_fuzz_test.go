package endpoints_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// FuzzMerge makes EndpointSlices with many duplicates from the bytes. The result of Merge must not
// depend on the order of the slices, and must be the same as the result of naiveMerge, which
// follows the rules in the package documentation directly.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{})
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data := make([]byte, r.IntN(120))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list := slicesFrom(data)
		for _, family := range []nodeselect.Family{nodeselect.AnyFamily, nodeselect.PreferIPv4, nodeselect.PreferIPv6} {
			policy := nodeselect.AddressPolicy{Family: family}
			for _, port := range []string{"http", "", "8080", "8081"} {
				pods, _ := endpoints.Merge(list, port, policy)
				require.True(t, slices.IsSortedFunc(pods, func(a, b endpoints.Pod) int { return a.Addr.Compare(b.Addr) }))
				require.Equal(t, naiveMerge(list, port, family == nodeselect.PreferIPv6), withoutPlace(pods))
				reversed := slices.Clone(list)
				slices.Reverse(reversed)
				again, _ := endpoints.Merge(reversed, port, policy)
				require.Equal(t, pods, again)
				rand.New(rand.NewPCG(uint64(len(data)), 0)).Shuffle(len(reversed), func(i, j int) { reversed[i], reversed[j] = reversed[j], reversed[i] })
				again, _ = endpoints.Merge(reversed, port, policy)
				require.Equal(t, pods, again)
			}
		}
	})
}

// slicesFrom makes up to five EndpointSlices. The first five bytes of the data are the versions and
// ports of the slices. After them, each group of four bytes describes an endpoint: slice and
// family, address, name, conditions with node and zone.
func slicesFrom(data []byte) []*discoveryv1.EndpointSlice {
	if len(data) < 5 {
		return nil
	}
	const number = 5
	list := make([]*discoveryv1.EndpointSlice, number)
	for i := range list {
		versions := []string{"", "9", "10", "11", "0", "x", "100000000000000000000", "99999999999999999999"}
		list[i] = slice(fmt.Sprint("slice", i), versions[data[i]%8])
		if data[i]&8 != 0 {
			list[i].Ports = []discoveryv1.EndpointPort{port("http", 8081)}
		}
		if data[i]&16 != 0 {
			list[i].Ports = append(list[i].Ports, port("8080", 9000))
		}
		if data[i]&32 != 0 {
			list[i].AddressType = discoveryv1.AddressTypeIPv6
		}
	}
	for b := range slices.Chunk(data[number:], 4) {
		if len(b) < 4 {
			break
		}
		s := list[b[0]%number]
		addr := fmt.Sprint("10.0.0.", b[1]%4)
		if s.AddressType == discoveryv1.AddressTypeIPv6 {
			addr = fmt.Sprint("fd00::", b[1]%4)
		}
		if b[1] == 255 {
			addr = "169.254.169.254"
		}
		condition := func(bits byte) *bool { return []*bool{nil, new(true), new(false), nil}[bits&3] }
		s.Endpoints = append(s.Endpoints, pod(fmt.Sprint("p", b[2]%3), addr, func(e *discoveryv1.Endpoint) {
			if b[2]&128 != 0 {
				e.TargetRef = nil
			}
			e.NodeName, e.Zone = new(fmt.Sprint("n", b[0]>>6)), new(fmt.Sprint("z", b[3]>>6))
		}, conditions(condition(b[3]), condition(b[3]>>2), condition(b[3]>>4))))
	}
	return list
}

// withoutPlace removes nodes and zones, because naiveMerge does not decide which node and zone
// count.
func withoutPlace(pods []endpoints.Pod) []endpoints.Pod {
	list := []endpoints.Pod{}
	for _, p := range pods {
		p.Node, p.Zone = "", ""
		list = append(list, p)
	}
	return list
}

// statement is what a slice states about a pod.
type statement struct {
	endpoints.Pod
	version *big.Int
}

// naiveMerge compares each statement with every other statement.
func naiveMerge(list []*discoveryv1.EndpointSlice, port string, preferIPv6 bool) []endpoints.Pod {
	var all []statement
	for _, s := range list {
		number := naivePort(s, port)
		if number == 0 {
			continue
		}
		version, ok := new(big.Int).SetString(s.ResourceVersion, 10)
		if !ok {
			version = new(big.Int)
		}
		for _, e := range s.Endpoints {
			addr := netip.MustParseAddr(e.Addresses[0])
			if addr.IsLinkLocalUnicast() {
				continue
			}
			p := endpoints.Pod{Addr: netip.AddrPortFrom(addr, number), Ready: e.Conditions.Ready == nil || *e.Conditions.Ready}
			if p.Serving = p.Ready; e.Conditions.Serving != nil {
				p.Serving = *e.Conditions.Serving
			}
			p.Terminating = e.Conditions.Terminating != nil && *e.Conditions.Terminating
			if e.TargetRef != nil {
				p.Name = e.TargetRef.Name
			}
			all = append(all, statement{p, version})
		}
	}
	none := func(list []statement, better func(statement) bool) bool { return !slices.ContainsFunc(list, better) }
	keep := func(from []statement, better func(a, b statement) bool) (kept []statement) {
		for _, s := range from {
			if none(from, func(other statement) bool { return better(other, s) }) {
				kept = append(kept, s)
			}
		}
		return kept
	}
	all = keep(all, func(a, b statement) bool {
		if a.Addr != b.Addr || a.Name != b.Name {
			return false
		}
		c := a.version.Cmp(b.version)
		return c > 0 || c == 0 && naiveRank(a.Pod) > naiveRank(b.Pod)
	})
	all = keep(all, func(a, b statement) bool {
		if a.Addr != b.Addr || naiveRank(a.Pod) < naiveRank(b.Pod) {
			return false
		}
		c := a.version.Cmp(b.version)
		return naiveRank(a.Pod) > naiveRank(b.Pod) || c > 0 || c == 0 && a.Name > b.Name
	})
	all = keep(all, func(a, b statement) bool {
		return a.Name != "" && a.Name == b.Name && a.Addr.Addr().Is6() == preferIPv6 && b.Addr.Addr().Is6() != preferIPv6
	})
	pods := []endpoints.Pod{}
	for _, s := range all {
		if !slices.Contains(pods, s.Pod) { // two slices can state the same
			pods = append(pods, s.Pod)
		}
	}
	slices.SortFunc(pods, func(a, b endpoints.Pod) int { return a.Addr.Compare(b.Addr) })
	return pods
}

func naivePort(s *discoveryv1.EndpointSlice, port string) uint16 {
	byNumber := uint16(0)
	for _, p := range s.Ports {
		switch {
		case *p.Name == port, port == "" && len(s.Ports) == 1:
			return uint16(*p.Port)
		case fmt.Sprint(*p.Port) == port:
			byNumber = uint16(*p.Port)
		}
	}
	return byNumber
}

func naiveRank(p endpoints.Pod) (rank int) {
	if p.Ready {
		rank += 4
	}
	if p.Serving {
		rank += 2
	}
	if !p.Terminating {
		rank++
	}
	return rank
}
