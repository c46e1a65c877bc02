package edge

import (
	"github.com/headgate/headgate/haproxycfg"
)

// share is what a route declares of one service, and how many servers it has.
type share struct {
	weight, servers int
}

const (
	maxWeight = 256
	// goodShare is how far off a share may be, relative to itself, for a scale
	// to be taken at once.
	goodShare = 0.01
)

// serverWeights returns the weight of each server of each service, so that the
// services get requests in the ratio of their declared weights however many
// servers each of them has. It returns NoTraffic for services of weight 0 and
// the plain default for a service that is alone.
//
// The exact weights are weight/servers times any constant. HAProxy wants
// integers up to 256. The constant is chosen so that the largest weight is 100
// or, if that is off by more than 1% of some share, the one from 101 to 256 that
// is off least: above 100 there is less room for an agent's percents above 100.
// No weight of 1 is used if some constant avoids it, since an agent can only
// turn 1 off: HAProxy cuts the fraction of any percent of it.
//
// With the exact weights x and the rounded ones w every w is within 1/2 of x,
// except that it is at least 1. So a share is off by at most a factor
// (1+d)/(1-d) with d = 1/(2 min x), where x is at least 1: one part in 256 of a
// ratio is the smallest that can be had.
func serverWeights(shares []share) []int {
	weights := make([]int, len(shares))
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
		return weights
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
	return weights
}

// scale sets the active weights so that the largest is top. It counts in
// integers: the result is the same on every machine.
func scale(weights []int, shares []share, active []int, top int) {
	m := active[0] // the service with the largest weight per server
	for _, i := range active {
		if shares[i].weight*shares[m].servers > shares[m].weight*shares[i].servers {
			m = i
		}
	}
	for _, i := range active {
		// top * (weight/servers) / (weight/servers of m), rounded half up
		num := top * shares[i].weight * shares[m].servers
		den := shares[i].servers * shares[m].weight
		weights[i] = max(1, (2*num+den)/(2*den))
	}
}

// deviation is the largest relative error of a share, and the least weight.
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
