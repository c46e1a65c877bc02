package routes

import (
	"fmt"
	"slices"
)

// Publishable returns the table without the hosts for which AppendZone would fail, and a problem
// for each of these hosts:
//   - Target, which has records of its own,
//   - Origin, if there is a Target and there are no Addrs,
//   - a host with an underscore that would get Addrs.
//
// So one declared host cannot keep all others from being published. Publishable returns t itself
// if it leaves no host out, and if the options are unusable: AppendZone reports that.
func (o ZoneOptions) Publishable(t Table) (Table, []Problem) {
	z, err := o.resolve()
	if err != nil {
		return t, nil
	}
	var problems []Problem
	leaveOut := func(host, why string) {
		var more []Problem
		t, more = t.leaveOut(host, why)
		problems = append(problems, more...)
	}
	if z.target != "" && len(z.addrs) == 0 {
		leaveOut(z.origin, "it is the origin of the zone, which cannot be an alias and has no addresses, and gets no record there")
	}
	if z.target != "" && z.target != z.origin {
		leaveOut(z.target, "it is the target of the zone, which has records of its own, and gets none there")
	}
	for _, host := range t.Hosts() {
		if z.within(host) && !z.alias(host) && hasUnderscore(host) {
			leaveOut(host, underscore+", and gets none in the zone")
		}
	}
	return t, problems
}

// Publishable returns the table without the host for which AppendCDN would fail, and a
// problem for it: Origin, from which all others are fetched. The table is t itself if it
// is not there, and if the options are unusable, of which AppendCDN tells.
func (o CDNOptions) Publishable(t Table) (Table, []Problem) {
	origin, err := normalHost(o.Origin)
	if err != nil {
		return t, nil
	}
	return t.leaveOut(origin, "it is the origin of the CDN, from which all others are fetched, and gets no distribution there")
}

// leaveOut returns the table without the routes of a host, and why if there are any.
func (t Table) leaveOut(host, why string) (Table, []Problem) {
	is := func(r Route) bool { return r.Host == host }
	i := slices.IndexFunc(t.routes, is)
	if i < 0 {
		return t, nil
	}
	at := t.routes[i].Position
	problem := Problem{File: at.File, Line: at.Line, Field: "host", Message: fmt.Sprintf("%s: %s", host, why)}
	return Table{routes: slices.DeleteFunc(slices.Clone(t.routes), is)}, []Problem{problem}
}
