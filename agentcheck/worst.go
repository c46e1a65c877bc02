package agentcheck

// Worst combines two answers for the same server, setting by setting, into the more restrictive
// one: what a server may take is what all that have a say in it allow. A setting that only one
// of them names is taken from that one.
//
//   - State: Up, Stopped, Down, Fail, from the best to the worst. The last three have the same
//     effect; a fault is told rather than an intention.
//   - Admin: Ready, Drain, Maint.
//   - Weight: the lower one, so a node at 100% and a service at 50% give 50%. An absolute weight
//     is compared as if the configured weight were 100, and gives way to an equal percentage.
//   - MaxConn: the lower one, 0 (unlimited) being the highest.
//   - Reason: of the answer that decides most, even if it has none, and of r if both decide
//     alike and it has one. Decisive are, in this order: Maint, a State that is down, Drain, a
//     lower Weight, a lower MaxConn.
//
// Worst with the zero Reply changes nothing. It is associative, and commutative but for the
// Reason of answers that decide alike.
func (r Reply) Worst(o Reply) Reply {
	w := Reply{
		State:   max(r.State, o.State),
		Admin:   max(r.Admin, o.Admin),
		Weight:  r.Weight.worst(o.Weight),
		MaxConn: r.MaxConn,
		Reason:  r.Reason,
	}
	if o.MaxConn.rank() > r.MaxConn.rank() {
		w.MaxConn = o.MaxConn
	}
	mine, theirs := r.severity(), o.severity()
	if theirs > mine || (theirs == mine && r.Reason == "") {
		w.Reason = o.Reason
	}
	return w
}

// severity orders answers by what they keep from the server. It is one number, the maximum over
// the settings, so that the severity of a combination is the maximum of the severities; with
// that the reason of a combination does not depend on the order of combining.
func (r Reply) severity() int64 {
	const step = 1 << 34 // above every rank of a MaxConn
	switch {
	case r.Admin == Maint:
		return 5 * step
	case r.State.IsDown():
		return 4 * step
	case r.Admin == Drain:
		return 3 * step
	case !r.Weight.IsZero():
		return 2*step + int64(r.Weight.rank())
	default:
		return r.MaxConn.rank()
	}
}
