// Package protector keeps tools that replace nodes from taking nodes away that must stay now. The
// tools are Karpenter, the cluster autoscaler, kured and Cluster API. These tools do not ask before
// they take a node away. But each of them leaves a node alone if the node has a certain annotation
// or pod: the protection of the node.
//
//	p := &protector.Protector{
//		Keeper: k, // of package keeper
//		Tool:   protector.Karpenter(core.Nodes()),
//		Holder: "protect-karpenter",
//	}
//	err := p.Run(ctx, 10*time.Second, nil)
//
// Package protect decides which nodes get a protection, and package keeper grants nodes. A node is
// free, that is, without protection, only while the Holder has a grant for the node, or while no
// terminator uses it.
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
// When Run ends, it also protects all nodes. The grants remain, so the nodes that were free still
// count as away. If somebody kills a Protector, free nodes stay free, and the grants remain too.
//
// A Protector never removes a protection that somebody else has set. It recognizes its own
// protection by a second annotation, or by the name of the pod or of the hook.
//
// # What it does not do
//
// A Protector does not cordon or drain nodes. It does not stop disruptions that ignore the
// protection; the documentation of Karpenter, ClusterAutoscaler, Kured and Machines lists them. A
// node that joins the cluster has no protection until the next Step of the Protector.
package protector
