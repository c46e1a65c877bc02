// Package protector keeps tools that replace nodes away from nodes that may not go now. The tools are
// Karpenter, the cluster autoscaler, kured and Cluster API. They do not ask before they take a node
// away, but each of them leaves a node alone that has a certain annotation or pod:
//
//	p := &protector.Protector{
//		Keeper: k, // of package keeper
//		Tool:   protector.Karpenter(core.Nodes()),
//		Holder: "protect-karpenter",
//	}
//	err := p.Run(ctx, 10*time.Second, nil)
//
// Package protect decides, and package keeper grants nodes. A node is free for the tool only while
// the Holder has a grant for it, or while no terminator uses it.
//
// # Tools
//
//   - [Karpenter] and [ClusterAutoscaler] do not show which nodes they want to take. So the nodes become
//     free in turn, as many as the limits allow.
//   - [Kured] shows which nodes it wants to restart, and [Machines] of Cluster API show which nodes are
//     to be deleted. So these nodes become free as soon as the limits allow.
//
// # Errors
//
// If a Protector cannot decide, for example because it cannot read a report, it protects all nodes.
// At the end of Run, it protects all nodes too. The grants remain, so free nodes still count as
// away. A Protector that is killed leaves the free nodes free, and their grants remain too.
//
// A Protector never removes a protection that somebody else has set. It recognizes its own
// protection by a second annotation, or by the name of the pod or hook.
//
// # What it does not do
//
// It does not cordon or drain nodes. It does not stop disruptions that ignore the protection: the
// functions that make the tools describe them. A node that joins the cluster is not protected before
// the next step.
package protector
