package nodeagent

import (
	"time"

	"github.com/headgate/headgate/agentcheck"
)

// lastWeight is what was answered of a Service before its weight fell to 0.
type lastWeight struct {
	weight agentcheck.Weight // zero if nothing but 0 was
	fell   time.Time         // zero if it has not
}

// holdWeight puts the last weight of a Service into its answer if it has fallen to 0
// less than delay before now, and returns what to remember of it and when that ends, the
// zero time if nothing is held.
func holdWeight(last lastWeight, reply *agentcheck.Reply, delay time.Duration, now time.Time) (lastWeight, time.Time) {
	if percent, _ := reply.Weight.Percent(); percent > 0 {
		return lastWeight{weight: reply.Weight}, time.Time{}
	}
	if last.weight.IsZero() {
		return lastWeight{}, time.Time{}
	}
	if last.fell.IsZero() {
		last.fell = now
	}
	until := last.fell.Add(delay)
	if !now.Before(until) {
		return lastWeight{}, time.Time{}
	}
	reply.Weight = last.weight
	if reply.Reason == "" {
		reply.Reason = "weight falls to 0, held for " + delay.String()
	}
	return last, until
}
