package edge

import (
	"net/netip"

	"github.com/headgate/headgate/haproxycfg"
)

// share contains two numbers of one service of a route: its declared weight, and the number of its
// servers.
type share struct {
	weight, servers int
}

const (
	maxWeight = 256
	// goodShare bounds the relative error by which the real share of a service may differ from its
	// declared share. If the error is larger, setWeights tries other scales for the weights.
	goodShare = 0.01
)

// setWeights sets, for each service, the weight of each of its servers, so that the services
// receive requests in the ratio of their declared weights. A service with weight 0 has NoTraffic,
// and a service that is alone has the default weight.
//
// HAProxy needs integers up to 256. The largest weight is 100, so that an agent can raise it with
// an answer above 100%. If some share is then off by more than 1%, setWeights tries 101 to 256 as
// the largest weight, and chooses the one with the smallest error. If possible, no weight is 1:
// HAProxy rounds down, so an agent's answer below 100% would turn 1 into 0.
//
// Rounding changes the shares. Let x be the smallest weight before rounding, and d = 1/(2x). If x
// is at least 1, no share is off by more than the factor (1+d)/(1-d). For example, if x is 50, a
// share is off by at most 2%. The smallest ratio that weights can express is 1 to 256.
func setWeights(weights []int, shares []share) {
	var active []int
	for i, s := range shares {
		if s.weight == 0 {
			weights[i] = haproxycfg.NoTraffic
			continue
		}
		weights[i] = haproxycfg.DefaultWeight
		if s.servers > 0 {
			active = append(active, i)
		}
	}
	if len(active) < 2 {
		return
	}
	best, bestOff, bestMin := 0, 0.0, 0
	for top := haproxycfg.DefaultWeight; top <= maxWeight; top++ {
		scale(weights, shares, active, top)
		off, least := deviation(weights, shares, active)
		least = min(least, 2)
		if best == 0 || least > bestMin || least == bestMin && off < bestOff {
			best, bestOff, bestMin = top, off, least
		}
		if top == haproxycfg.DefaultWeight && off <= goodShare && least == 2 {
			break
		}
	}
	scale(weights, shares, active, best)
}

// scale sets weights[i], the weight of each server of service i, for each i in active: in
// proportion to the declared weight divided by the number of servers, with "top" as the largest.
// For example, two services of weight 50 with 2 and 5 servers have the weights 100 and 40 if top is
// 100. scale uses only integers, so the result is the same on every machine.
func scale(weights []int, shares []share, active []int, top int) {
	m := active[0] // the service with the largest weight per server
	for _, i := range active {
		if shares[i].weight*shares[m].servers > shares[m].weight*shares[i].servers {
			m = i
		}
	}
	for _, i := range active {
		// Each server of service m gets the weight top. Each server of service i gets the weight
		// top * (weight per server of i) / (weight per server of m), rounded to the nearest integer
		// (a half is rounded up), and at least 1.
		num := top * shares[i].weight * shares[m].servers
		den := shares[i].servers * shares[m].weight
		weights[i] = max(1, (2*num+den)/(2*den))
	}
}

// deviation measures how well the rounded weights match the declared weights. "off" is the largest
// relative difference between the real and the declared share of requests of a service. "least" is
// the smallest weight of a server.
func deviation(weights []int, shares []share, active []int) (off float64, least int) {
	declared, got := 0, 0
	least = maxWeight
	for _, i := range active {
		declared += shares[i].weight
		got += weights[i] * shares[i].servers
		least = min(least, weights[i])
	}
	for _, i := range active {
		ratio := float64(weights[i]*shares[i].servers*declared) / float64(shares[i].weight*got)
		off = max(off, ratio-1, 1-ratio)
	}
	return off, least
}

// weights returns the weights of the nodes. The keys are the addresses of the servers on the nodes.
// It returns nil if all nodes have the same weight.
func (u *Upstream) weights() map[netip.AddrPort]int {
	same := true
	for _, n := range u.Nodes {
		same = same && max(n.Weight, 1) == max(u.Nodes[0].Weight, 1)
	}
	if same || u.Servers != nil {
		return nil
	}
	weights := make(map[netip.AddrPort]int, len(u.Nodes))
	for _, n := range u.Nodes {
		weights[netip.AddrPortFrom(n.Addr.Unmap(), u.NodePort)] = max(n.Weight, 1)
	}
	return weights
}

// spreadWeights returns a weight for each server of each service. It returns nil if in every
// service all nodes have the same weight. The argument "weights" is the result of setWeights, one
// weight for all servers of a service.
//
// For each service, spreadWeights divides the sum of the weights in proportion to the weights of
// the nodes. If a weight would exceed 256, it makes all weights of all services smaller, so each
// service keeps its share. No weight becomes less than 2 (see setWeights), except in a service for
// which setWeights has returned 1 or NoTraffic.
func spreadWeights(weights []int, services []*service) [][]int {
	weighted := false
	for _, svc := range services {
		weighted = weighted || svc != nil && svc.weights != nil
	}
	if !weighted {
		return nil
	}
	exact, top := make([][]float64, len(services)), 0.0
	for i, svc := range services {
		if svc == nil {
			continue
		}
		exact[i] = make([]float64, len(svc.addrs))
		total := 0
		for _, addr := range svc.addrs {
			total += svc.weights[addr]
		}
		for j, addr := range svc.addrs {
			exact[i][j] = float64(weights[i])
			if svc.weights != nil && weights[i] != haproxycfg.NoTraffic {
				exact[i][j] *= float64(svc.weights[addr]*len(svc.addrs)) / float64(total)
			}
			top = max(top, exact[i][j])
		}
	}
	factor := min(1, maxWeight/top)
	spread := make([][]int, len(services))
	for i := range exact {
		spread[i] = make([]int, len(exact[i]))
		for j, w := range exact[i] {
			spread[i][j] = weights[i]
			if weights[i] != haproxycfg.NoTraffic {
				spread[i][j] = max(min(2, weights[i]), int(w*factor+0.5))
			}
		}
	}
	return spread
}
