package drill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Drill is a fault, described as a list of Steps.
type Drill struct {
	// Kind is the kind of the fault, such as "zone". Name identifies the drill, such as
	// "zone eu-1a". If there is only one drill of a kind, Name is Kind.
	Kind, Name string
	// Title says in one line what happens.
	Title string
	// Steps are sorted by At.
	Steps []Step
	// End is the time from the first step to the end of the drill.
	End time.Duration
	// Notes tell the operator facts about HAProxy and the agents that the Result does not show.
	Notes []string
}

// Step is a moment of a drill.
type Step struct {
	// At is the time from the beginning of the drill.
	At time.Duration
	// What describes the step in a few words, such as "no API server answers".
	What string
	// Change returns the World after this step of the drill. nil means that the World stays the
	// same.
	Change func(World) World
	// Restart means that the terminator restarts after Change.
	Restart bool
	// Recovery means that the fault of the drill ends with this step.
	Recovery bool
}

const (
	burstShare = 0.3 // new nodes, as a share of the nodes
	flapShare  = 0.1 // nodes that flap, as a share of the nodes
	cordoned   = 0.5 // cordoned nodes, as a share of the nodes
	flapPause  = 30 * time.Second
	flaps      = 10               // changes of a node that flaps
	burstReady = 30 * time.Second // from the registration of a new node until it is ready
)

// Standard returns the drills that apply to the clusters and routes: one for each zone, and one of
// each other kind. health is the health check of nodes in the configuration.
func Standard(clusters []Cluster, table routes.Table, health edge.NodeHealth) []Drill {
	base := base{clusters: clusters}
	var drills []Drill
	for _, zone := range zonesOf(clusters) {
		drills = append(drills, base.zoneLost(zone))
	}
	drills = append(drills, base.apiAway(), base.apiEmpty(), base.flapping(), base.registering(), base.burst())
	if d, ok := base.nodePort(table); ok {
		drills = append(drills, d)
	}
	return append(drills, base.agentsGone(health), base.cordon(health))
}

// base contains the clusters as they are before a drill.
type base struct{ clusters []Cluster }

func (b base) of(name string) Cluster {
	i := slices.IndexFunc(b.clusters, func(c Cluster) bool { return c.Name == name })
	return b.clusters[i]
}

// restore returns a World with the clusters as they were before the drill, and with the time of w.
func (b base) restore(w World) World { return World{Now: w.Now, Clusters: b.clusters} }

func zonesOf(clusters []Cluster) (zones []string) {
	for _, c := range clusters {
		zones = append(zones, Zones(c.Objects)...)
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

func (b base) zoneLost(zone string) Drill {
	lost, all := 0, 0
	for _, c := range b.clusters {
		lost, all = lost+len(InZone(c.Objects, zone)), all+len(c.Objects.Nodes)
	}
	return Drill{
		Kind: "zone", Name: "zone " + zone, Title: fmt.Sprintf("zone %s is lost: %d of %d nodes", zone, lost, all),
		Steps: []Step{
			{What: "the nodes of the zone are down", Change: Each(func(_ time.Time, c Cluster) Cluster {
				return c.withDown(InZone(c.Objects, zone))
			})},
			{At: 40 * time.Second, What: "Kubernetes marks them as not ready", Change: Each(func(now time.Time, c Cluster) Cluster {
				c.Objects = NotReady(c.Objects, InZone(c.Objects, zone), now)
				return c
			})},
			{At: 10 * time.Minute, What: "somebody deletes their Node objects", Change: Each(func(_ time.Time, c Cluster) Cluster {
				c.Objects = Remove(c.Objects, InZone(c.Objects, zone))
				return c
			})},
			{At: 20 * time.Minute, What: "all nodes are back", Change: b.restore, Recovery: true},
		},
		End: 25 * time.Minute,
		Notes: []string{
			"HAProxy's health checks find that the nodes are down; the configuration is not needed for this.",
			"A node that is not ready keeps its places until its Node object is deleted.",
		},
	}
}

func (b base) apiAway() Drill {
	return Drill{
		Kind: "api-away", Name: "api-away", Title: "all API servers stop answering",
		Steps: []Step{
			{What: "no API server answers", Change: Each(func(_ time.Time, c Cluster) Cluster { c.API = Away; return c })},
			{At: 10 * time.Minute, What: "the terminator restarts", Restart: true},
			{At: 20 * time.Minute, What: "all API servers answer again", Change: b.restore, Recovery: true},
		},
		End:   25 * time.Minute,
		Notes: []string{"The node agents keep their last answers too; see package nodeagent."},
	}
}

func (b base) apiEmpty() Drill {
	return Drill{
		Kind: "api-empty", Name: "api-empty", Title: "all API servers lose their store, and list no objects",
		Steps: []Step{
			{What: "all API servers list no nodes and no services", Change: Each(func(_ time.Time, c Cluster) Cluster { c.API = Empty; return c })},
			{At: 10 * time.Minute, What: "the terminator restarts", Restart: true},
			{At: 20 * time.Minute, What: "the stores are restored", Change: b.restore, Recovery: true},
		},
		End: 25 * time.Minute,
	}
}

func (b base) flapping() Drill {
	d := Drill{Kind: "flapping", Name: "flapping", Title: "a tenth of the nodes is not ready and ready again, every 30 s, for 5 minutes"}
	for i := range flaps {
		step := Step{At: time.Duration(i) * flapPause, What: "the nodes are not ready", Change: Each(func(now time.Time, c Cluster) Cluster {
			c.Objects = NotReady(c.Objects, Share(c.Objects, flapShare), now)
			return c
		})}
		if i%2 == 1 {
			step.What, step.Change, step.Recovery = "the nodes are ready", b.restore, i == flaps-1
		}
		d.Steps = append(d.Steps, step)
	}
	d.End = flaps*flapPause + 5*time.Minute
	d.Notes = []string{"The nodes serve all the time: only their kubelets lose the API server."}
	return d
}

func (b base) registering() Drill {
	d := Drill{Kind: "registering", Name: "registering", Title: "a tenth of the nodes is deleted and registers again, every 30 s, for 5 minutes"}
	for i := range flaps {
		step := Step{At: time.Duration(i) * flapPause, What: "the Node objects are deleted", Change: Each(func(_ time.Time, c Cluster) Cluster {
			c.Objects = Remove(c.Objects, Share(c.Objects, flapShare))
			return c
		})}
		if i%2 == 1 {
			step.What, step.Recovery = "the nodes register again", i == flaps-1
			step.Change = Each(func(now time.Time, c Cluster) Cluster {
				was := b.of(c.Name)
				was.Objects = Register(was.Objects, Share(was.Objects, flapShare), now)
				return was
			})
		}
		d.Steps = append(d.Steps, step)
	}
	d.End = flaps*flapPause + 5*time.Minute
	d.Notes = []string{"The nodes serve all the time: only their Node objects come and go."}
	return d
}

func (b base) burst() Drill {
	join := func(c Cluster, now time.Time) (Cluster, []string) {
		c = b.of(c.Name)
		var names []string
		c.Objects, names = Join(c.Objects, max(1, int(float64(len(c.Objects.Nodes))*burstShare)), now)
		return c, names
	}
	return Drill{
		Kind: "burst", Name: "burst", Title: "an autoscaler adds 30% new nodes at once, and removes them later",
		Steps: []Step{
			{What: "the new nodes register, and are not ready", Change: Each(func(now time.Time, c Cluster) Cluster {
				c, names := join(c, now)
				return c.withDown(names)
			})},
			{At: burstReady, What: "the new nodes are ready", Change: Each(func(now time.Time, c Cluster) Cluster {
				c, names := join(c, now.Add(-burstReady))
				c.Objects = Ready(c.Objects, names, now)
				return c
			})},
			{At: 10 * time.Minute, What: "the new nodes are removed", Recovery: true, Change: Each(func(now time.Time, c Cluster) Cluster {
				c, names := join(c, now)
				return b.of(c.Name).withDown(names)
			})},
		},
		End: 15 * time.Minute,
	}
}

// nodePort returns the drill in which a service gets other node ports. The service is the one that
// most routes use. The second result is false if no route uses a service of the clusters.
func (b base) nodePort(table routes.Table) (Drill, bool) {
	uses := map[routes.Ref]int{}
	for _, r := range table.Routes() {
		for _, backend := range r.Backends {
			if slices.ContainsFunc(b.clusters, func(c Cluster) bool {
				return c.Name == backend.Cluster && c.Objects.Service(backend.Namespace, backend.Service) != nil
			}) {
				uses[backend.Ref]++
			}
		}
	}
	var most routes.Ref
	for ref, n := range uses {
		if uses[most] == 0 || cmp.Or(cmp.Compare(n, uses[most]), most.Compare(ref)) > 0 {
			most = ref
		}
	}
	if len(uses) == 0 {
		return Drill{}, false
	}
	only := func(f func(c Cluster) Cluster) func(World) World {
		return Each(func(_ time.Time, c Cluster) Cluster {
			if c.Name != most.Cluster {
				return c
			}
			return f(c)
		})
	}
	service := most.Cluster + "/" + most.Namespace + "/" + most.Service
	return Drill{
		Kind: "node-port", Name: "node-port", Title: "somebody deletes " + service + " and creates it again, with other node ports",
		Steps: []Step{
			{What: "the service is deleted", Change: only(func(c Cluster) Cluster {
				c.Objects = RemoveService(c.Objects, most.Namespace, most.Service)
				return c
			})},
			{At: 5 * time.Second, What: "the service exists again", Recovery: true, Change: only(func(c Cluster) Cluster {
				c.Objects = Renumber(b.of(c.Name).Objects, most.Namespace, most.Service)
				return c
			})},
		},
		End:   5 * time.Minute,
		Notes: []string{"The service serves nothing until HAProxy has the new node port: no other node port leads to it."},
	}, true
}

func (b base) agentsGone(health edge.NodeHealth) Drill {
	note := "With -node-health agent, HAProxy also checks each node by a connection to its agent, so it takes all nodes out of use. " +
		"With -node-health agent+kube-proxy, the nodes stay in use."
	switch health {
	case edge.NodeAgentAndKubeProxy:
		note = "With -node-health agent+kube-proxy, HAProxy checks kube-proxy, so the nodes stay in use. No cordon and no weight has an effect."
	case edge.KubeProxyOnly:
		note = "With -node-health kube-proxy, HAProxy asks no node agent. Only the agents of services are gone."
	}
	return Drill{
		Kind: "agents", Name: "agents", Title: "all node agents are gone, for example after a bad rollout",
		Steps: []Step{
			{What: "no node agent runs", Change: Each(func(_ time.Time, c Cluster) Cluster { c.NoAgents = true; return c })},
			{At: 10 * time.Minute, What: "all node agents run again", Change: b.restore, Recovery: true},
		},
		End: 15 * time.Minute,
		Notes: []string{
			"HAProxy keeps the last answer of each agent, so a drained node stays drained, and weights stay; see packages agentcheck and nodeagent.",
			note,
			"The terminator does not see the agents. HAProxy's statistics show the failed checks.",
		},
	}
}

func (b base) cordon(health edge.NodeHealth) Drill {
	d := Drill{
		Kind: "cordon", Name: "cordon", Title: "somebody cordons half of the nodes at once",
		Steps: []Step{
			{What: "half of the nodes are cordoned", Change: Each(func(now time.Time, c Cluster) Cluster {
				c.Objects = Cordon(c.Objects, Share(c.Objects, cordoned), now)
				return c
			})},
			{At: 10 * time.Minute, What: "the nodes are uncordoned", Change: b.restore, Recovery: true},
		},
		End:   15 * time.Minute,
		Notes: []string{"The agents drain nodes up to -max-drain. The other cordoned nodes wait, and still serve."},
	}
	if health == edge.KubeProxyOnly {
		d.Notes = []string{"With -node-health kube-proxy, no node drains."}
	}
	return d
}

// checkedRefs returns, for each service in the table, whether all its routes declare a check of
// their own.
func checkedRefs(table routes.Table) map[routes.Ref]bool {
	checked := map[routes.Ref]bool{}
	for _, r := range table.Routes() {
		for _, b := range r.Backends {
			was, ok := checked[b.Ref]
			checked[b.Ref] = r.Check != nil && (was || !ok)
		}
	}
	return checked
}
