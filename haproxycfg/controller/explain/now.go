package explain

import (
	"strings"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Now describes the state of a server in the running HAProxy. The comments of runtimeapi.Stat
// describe the fields.
type Now struct {
	// Status is the state in HAProxy's words, such as "UP" or "DRAIN (agent)".
	Status string `json:"status"`
	// Weight is the present weight.
	Weight int `json:"weight"`
	// Check and Agent are the results of the last health check and agent check, such as "L7OK".
	// LastAgent is what the agent has answered.
	Check     string `json:"check,omitempty"`
	Agent     string `json:"agent,omitempty"`
	LastAgent string `json:"lastAgent,omitempty"`
	// Sessions is the number of requests and tunnels in flight.
	Sessions uint64 `json:"sessions"`
}

// AskBackends returns the names of the backends whose statistics AddStats needs: the backends of
// the route, and the backends with the servers that the servers of the route track.
func (e *Explanation) AskBackends() []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, b := range e.Backends {
		add(b.Name)
	}
	e.eachServer(func(s *Server) {
		name, _, _ := strings.Cut(s.Track, "/")
		add(name)
	})
	return names
}

// AddStats adds the states of servers in the running HAProxy. The state of a server without a row
// in stats stays unknown.
func (e *Explanation) AddStats(stats []runtimeapi.Stat) {
	rows := make(map[string]*runtimeapi.Stat, len(stats))
	for i := range stats {
		rows[stats[i].Proxy+"/"+stats[i].Server] = &stats[i]
	}
	e.addUsable(stats)
	e.eachServer(func(s *Server) {
		row := rows[s.Backend+"/"+s.Name]
		s.Now = now(row)
		track := s.Track
		if row != nil && row.Tracked != "" {
			track = row.Tracked
		}
		s.TrackNow = now(rows[track])
	})
}

// AddError stores the reason why the states of the servers are unknown.
func (e *Explanation) AddError(reason string) { e.HAProxy = reason }

func now(row *runtimeapi.Stat) *Now {
	if row == nil {
		return nil
	}
	return &Now{
		Status: row.Status, Weight: row.Weight, Check: row.CheckStatus, Agent: row.AgentStatus, LastAgent: row.LastAgent,
		Sessions: row.Sessions,
	}
}
