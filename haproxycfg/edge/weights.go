package edge

import (
	"github.com/headgate/headgate/haproxycfg"
)

// share is the declared weight of one service of a route, and the number of the service's servers.
type share struct {
	weight, servers int
}

const (
	maxWeight = 256
	// goodShare is the largest relative error of a share that setWeights accepts. If the error is
	// larger, setWeights tries other scales.
	goodShare = 0.01
)

// setWeights sets, for each service, the weight of each of its servers. With these weights the
// services get requests in the ratio of their declared weights, for any numbers of servers. A
// service with weight 0 gets NoTraffic. A service that is alone gets the default weight.
//
// The exact weight of a server is weight/servers times a constant. HAProxy needs integers up to
// 256. setWeights first chooses the constant so that the largest weight is 100. An agent that
// answers with more than 100% can then raise the weight. If the error of some share is more than 1%
// with this constant, setWeights tries 101 to 256 as the largest weight, and uses the one with the
// smallest error. If possible, no weight is 1: HAProxy rounds down, so an agent that answers with
// less than 100% would make a weight of 1 zero.
//
// Each rounded weight is 1, or differs from the exact weight by at most 1/2. If all exact weights
// are at least 1, a share is off by at most the factor (1+d)/(1-d). Here d is 1/(2x), and x is the
// smallest exact weight. The smallest ratio that weights can express is 1 to 256.
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

// scale sets the weight of a server for each service in active. The servers of the service with the
// largest weight per server get the weight top, and the others get proportionally less. scale uses
// only integers, so the result is the same on every machine.
func scale(weights []int, shares []share, active []int, top int) {
	m := active[0] // the service with the largest weight per server
	for _, i := range active {
		if shares[i].weight*shares[m].servers > shares[m].weight*shares[i].servers {
			m = i
		}
	}
	for _, i := range active {
		// The service m has the largest weight per server, and its servers get the weight top. A
		// server of service i gets top * (weight per server of i) / (weight per server of m), rounded
		// to the nearest integer (a half is rounded up), and at least 1.
		num := top * shares[i].weight * shares[m].servers
		den := shares[i].servers * shares[m].weight
		weights[i] = max(1, (2*num+den)/(2*den))
	}
}

// deviation measures how well the rounded weights match the declared ones. The share of a service
// is its part of all requests. off is the largest relative difference between the real share and
// the declared share of a service. least is the smallest weight of a server.
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
