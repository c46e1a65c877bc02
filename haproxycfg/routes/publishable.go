package routes

import (
	"fmt"
	"slices"
)

// Publishable returns the table without the hosts for which AppendZone would fail, and a
// problem for each: Target, which has records of its own, and Origin where there is a
// Target and there are no Addrs. With it whoever may declare a host cannot keep all
// others from being published. The table is t itself if there are none, and if the
// options are unusable, of which AppendZone tells.
func (o ZoneOptions) Publishable(t Table) (Table, []Problem) {
	z, err := o.resolve()
	if err != nil || z.target == "" {
		return t, nil
	}
	var problems []Problem
	if len(z.addrs) == 0 {
		t, problems = t.leaveOut(z.origin, "it is the origin of the zone, which cannot be an alias and has no addresses, and gets no record there")
	}
	if z.target == z.origin {
		return t, problems
	}
	t, more := t.leaveOut(z.target, "it is the target of the zone, which has records of its own, and gets none there")
	return t, append(problems, more...)
}

// Publishable returns the table without the host for which AppendCDN would fail, and a
// problem for it: Origin, from which all others are fetched. The table is t itself if it
// is not there, and if the options are unusable, of which AppendCDN tells.
func (o CDNOptions) Publishable(t Table) (Table, []Problem) {
	origin, err := normalName(o.Origin)
	if err != nil {
		return t, nil
	}
	return t.leaveOut(origin, "it is the origin of the CDN, from which all others are fetched, and gets no distribution there")
}

// leaveOut returns the table without the routes of a host, and why if there are any.
func (t Table) leaveOut(host, why string) (Table, []Problem) {
	is := func(r Route) bool { return r.Host == host }
	i := slices.IndexFunc(t.Routes, is)
	if i < 0 {
		return t, nil
	}
	at := t.Routes[i].Position
	problem := Problem{File: at.File, Line: at.Line, Field: "host", Message: fmt.Sprintf("%s: %s", host, why)}
	return Table{Routes: slices.DeleteFunc(slices.Clone(t.Routes), is)}, []Problem{problem}
}
