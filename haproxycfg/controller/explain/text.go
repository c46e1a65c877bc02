package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/nodeselect"
)

// AppendText appends the explanation to dst as text for people, with a final line feed.
func (e *Explanation) AppendText(dst []byte) []byte {
	t := text{dst}
	t.line("%s%s", e.Host, e.Path)
	if r := e.Route; r == nil {
		t.line("  route: none. %s", e.NoRoute)
	} else {
		t.line("  route: %s, declared at %s, protocol %s", r.Name, place(r.File, r.Line), r.Protocol)
		if r.Shift != "" {
			t.line("  shift: %s", r.Shift)
		}
		for _, p := range r.Prefer {
			t.line("  prefer: %v", p)
		}
	}
	switch {
	case !e.InForce:
		t.line("  in force: no, HAProxy does not run this yet")
	case e.Applied != nil:
		t.line("  in force: yes, configuration %s since %s", e.Applied.ID, stamp(e.Applied.Time))
	default:
		t.line("  in force: yes")
	}
	for _, b := range e.Backends {
		t.line("  backend: %s: %s, %s", b.Name, count(b.Servers, "server"), b.Role)
	}
	if e.HAProxy != "" {
		t.line("  state of the servers in HAProxy: unknown: %s", e.HAProxy)
	}
	for _, n := range e.Notes {
		t.line("  note: %s", n)
	}
	for _, p := range e.Problems {
		kind := "problem"
		if p.Warning {
			kind = "warning"
		}
		t.line("  %s: %v", kind, p)
	}
	if c := e.Change; c != nil {
		t.line("  last change: %s: %s", stamp(c.Time), c.Summary(5))
	}
	if c := e.Refused; c != nil {
		t.line("  refused change: %s: %s: %s", stamp(c.Time), c.Reason, c.Summary(5))
		if e.Allow != "" && !strings.Contains(c.Reason, e.Allow) {
			t.line("    %s", e.Allow)
		}
	}
	for i := range e.Services {
		t.service(&e.Services[i])
	}
	return t.b
}

// text collects lines of text.
type text struct{ b []byte }

// line appends a line. It replaces control characters, which names from a cluster or an agent may
// contain, so that they cannot change what a terminal shows.
func (t *text) line(format string, args ...any) {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, fmt.Sprintf(format, args...))
	t.b = append(append(t.b, line...), '\n')
}

func (t *text) service(s *Service) {
	t.line("")
	line := fmt.Sprintf("service %s: declared weight %d", s.Ref, s.Weight)
	if s.Missing != "" {
		t.line("%s, no servers: %s", line, s.Missing)
	} else {
		line += fmt.Sprintf(", %.4g%% of the requests, node port %d", s.Percent, s.NodePort)
		if s.AgentPort != 0 {
			line += fmt.Sprintf(", agent port %d, weight of its annotation %d%%", s.AgentPort, s.ServiceWeight)
		}
		t.line("%s", line)
	}
	if c := s.Connectivity; c.Unreachable() {
		what := "does not answer, and its last known state is in force"
		if c.State == kube.Never {
			what = "has never answered"
		}
		t.line("  cluster %s %s, since %s: %s", s.Cluster, what, stamp(c.Since), c.Reason)
	}
	if len(s.Nodes) > 0 {
		t.line("  nodes in use:")
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		t.line("    %s: %s", nodeName(n), n.Text)
		if len(n.Servers) == 0 {
			t.line("      no server: another service of the route has the same address and port")
		}
		for j := range n.Servers {
			x := &n.Servers[j]
			t.line("      server %s/%s, weight %d%s", x.Backend, x.Name, x.Weight, state(x.Now))
			if x.Track != "" {
				t.line("        has the health of %s%s", x.Track, state(x.TrackNow))
			}
		}
	}
	t.unused(s)
}

// unused appends the unused nodes. In a large cluster, many nodes are unused only because of their
// rank by the hash, so unused writes these nodes in one paragraph.
func (t *text) unused(s *Service) {
	if len(s.Unused)+s.Unknown == 0 {
		return
	}
	t.line("  unused nodes:")
	var outranked []*Node
	for i := range s.Unused {
		n := &s.Unused[i]
		if n.Why == nodeselect.Outranked && len(n.Marks) == 0 {
			outranked = append(outranked, n)
			continue
		}
		t.line("    %s: %s", nodeName(n), n.Text)
	}
	if len(outranked) > 0 {
		t.line("    %s not selected by the hash, with their ranks:", count(len(outranked), "node"))
		line := "     "
		for _, n := range outranked {
			word := fmt.Sprintf(" %s (%d)", n.Node, n.Rank)
			if len(line)+len(word) > 100 {
				t.line("%s", line)
				line = "     "
			}
			line += word
		}
		t.line("%s", line)
	}
	if s.Unknown > 0 {
		t.line("    %s for an unknown reason: the objects of the cluster are unknown", count(s.Unknown, "further node"))
	}
}

func nodeName(n *Node) string {
	name := n.Node
	if n.Addr.IsValid() {
		name += " " + n.Addr.String()
	}
	if n.Zone != "" {
		name += " in " + n.Zone
	}
	return name
}

// state returns the state of a server in the running HAProxy as text. It returns "" if the state is
// unknown.
func state(n *Now) string {
	if n == nil {
		return ""
	}
	s := fmt.Sprintf("; now %s, weight %d", n.Status, n.Weight)
	if n.Check != "" {
		s += ", check " + n.Check
	}
	if n.Agent != "" {
		s += ", agent " + n.Agent
	}
	if n.LastAgent != "" {
		s += fmt.Sprintf(" (%q)", n.LastAgent)
	}
	return s + ", " + count(int(min(n.Sessions, 1<<31-1)), "session")
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func place(file string, line int) string {
	switch {
	case file == "":
		return "an unknown place"
	case line == 0:
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
