package main

import (
	"fmt"
	"slices"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// zoneTable returns the table that dns.zone is made of: without the hosts that can have
// no record there, of which each is a problem. Whoever may declare a host must not keep
// all others from being served by it.
func (s *settings) zoneTable(table routes.Table) (routes.Table, []routes.Problem) {
	if s.zone.Origin == "" || s.zone.Target == "" {
		return table, nil
	}
	var problems []routes.Problem
	origin, target := normalHost(s.zone.Origin), normalHost(s.zone.Target)
	if len(s.zone.Addrs) == 0 {
		table, problems = leaveOut(table, origin, "it is the origin of dns.zone, which cannot be an alias, and has no record there: give -dns-address too")
	}
	if target == origin {
		return table, problems
	}
	table, more := leaveOut(table, target, "it is -dns-target, which has records of its own, and gets none in dns.zone")
	return table, append(problems, more...)
}

// cdnTable is zoneTable for cdn.json.
func (s *settings) cdnTable(table routes.Table) (routes.Table, []routes.Problem) {
	if s.cdn.Origin == "" {
		return table, nil
	}
	return leaveOut(table, normalHost(s.cdn.Origin), "it is -cdn-origin, from which all others are fetched, and has no distribution in cdn.json")
}

func leaveOut(table routes.Table, host, why string) (routes.Table, []routes.Problem) {
	is := func(r routes.Route) bool { return r.Host == host }
	i := slices.IndexFunc(table.Routes, is)
	if i < 0 {
		return table, nil
	}
	at := table.Routes[i].Position
	problem := routes.Problem{File: at.File, Line: at.Line, Field: "host", Message: fmt.Sprintf("%s: %s", host, why)}
	return routes.Table{Routes: slices.DeleteFunc(slices.Clone(table.Routes), is)}, []routes.Problem{problem}
}

// normalHost returns a name as a table has it, "" if none can.
func normalHost(name string) string {
	table, _ := routes.New(routes.Route{Host: name, Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "c", Namespace: "n", Service: "s", Port: "p"}}}})
	for _, host := range table.Hosts() {
		return host
	}
	return ""
}
