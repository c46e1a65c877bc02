package kube

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// chosen is the selection of a cluster for the refs of a table.
type chosen struct {
	nodeselect.Selection
	// absent are the refs without a target, and why, in the order of refs.
	absent []absentRef
}

type absentRef struct {
	nodeselect.Ref
	nodeselect.Problem
}

// choose selects for refs, or takes what Cluster.Selection has of them.
func choose(selector nodeselect.Selector, c Cluster, refs []nodeselect.Ref, now time.Time) chosen {
	if c.Connectivity.State == Never {
		c.Selection = &nodeselect.Selection{}
	}
	if c.Selection == nil {
		s := chosen{Selection: selector.Select(c.Objects, refs, now, c.Current)}
		s.split(selector.Annotations, c, refs)
		return s
	}
	s := chosen{Selection: *c.Selection}
	s.Targets = make([]nodeselect.Target, 0, len(refs))
	made := targetsByRef(c.Selection.Targets)
	var late []nodeselect.Ref
	for _, ref := range refs {
		if t, ok := made[ref]; ok {
			s.Targets = append(s.Targets, t)
		} else if t, _ := selector.Annotations.Resolve(c.Objects, ref); t.NodePort != 0 {
			late = append(late, ref)
		}
	}
	if len(late) > 0 { // declared since the selection was made
		more := selector.Select(c.Objects, late, now, c.Current)
		s.Targets = append(s.Targets, more.Targets...)
	}
	s.split(selector.Annotations, c, refs)
	return s
}

func targetsByRef(targets []nodeselect.Target) map[nodeselect.Ref]nodeselect.Target {
	m := make(map[nodeselect.Ref]nodeselect.Target, len(targets))
	for _, t := range targets {
		m[t.Ref] = t
	}
	return m
}

// split takes the problems of refs that could not be resolved out of those of the
// selection: they are reported with the routes that name them.
func (s *chosen) split(annotations nodeselect.Annotations, c Cluster, refs []nodeselect.Ref) {
	if len(s.Targets) == len(refs) {
		return
	}
	resolved := targetsByRef(s.Targets)
	moved := map[nodeselect.Problem]bool{}
	for _, ref := range refs {
		if _, ok := resolved[ref]; ok {
			continue
		}
		p := nodeselect.Problem{Object: "Service " + ref.Key(), Message: "its last known state does not have it"}
		if c.Selection == nil || len(c.Objects.Nodes)+len(c.Objects.Services) > 0 {
			if _, problems := annotations.Resolve(c.Objects, ref); len(problems) > 0 {
				p = problems[0]
			}
		}
		moved[p] = true
		s.absent = append(s.absent, absentRef{ref, p})
	}
	var kept []nodeselect.Problem
	for _, p := range s.Problems {
		if !moved[p] {
			kept = append(kept, p)
		}
	}
	s.Problems = kept
}

// places are where the routes of a table name clusters and services.
type places struct {
	clusters map[string]place
	refs     map[routes.Ref]place
}

// place is the first of some routes, by file and line, and how many they are.
type place struct {
	routes.Position
	routes int
}

func placesOf(table routes.Table) places {
	p := places{clusters: map[string]place{}, refs: make(map[routes.Ref]place, len(table.Routes()))}
	for _, r := range table.Routes() {
		for i, b := range r.Backends {
			p.refs[b.Ref] = p.refs[b.Ref].add(r.Position)
			if i == 0 || r.Backends[i-1].Cluster != b.Cluster { // they are sorted
				p.clusters[b.Cluster] = p.clusters[b.Cluster].add(r.Position)
			}
		}
	}
	return p
}

func (p place) add(at routes.Position) place {
	if p.routes == 0 || at.File < p.File || at.File == p.File && at.Line < p.Line {
		p.Position = at
	}
	p.routes++
	return p
}

// say makes a problem of the routes' place.
func (p place) say(problem Problem) Problem {
	problem.File, problem.Line = p.File, p.Line
	switch {
	case p.routes == 2:
		problem.Message += "; another route names it too"
	case p.routes > 2:
		problem.Message += fmt.Sprintf("; %d more routes name it", p.routes-1)
	}
	return problem
}
