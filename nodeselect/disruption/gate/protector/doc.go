// Package protector is for tools that take nodes away: Karpenter, the cluster autoscaler, kured and
// Cluster API. It keeps them from taking a node that must stay now. These tools do not ask, but
// they leave a node alone if it has a certain annotation or pod, which is called the protection of
// the node.
//
//	p := &protector.Protector{
//		Keeper: k, // of package keeper
//		Tool:   protector.Karpenter(core.Nodes()),
//		Holder: "protect-karpenter",
//	}
//	err := p.Run(ctx, 10*time.Second, nil)
//
// Package protect decides which nodes get a protection, and package keeper grants nodes. A node is
// free, without protection, only while the Holder has a grant for it, or while no terminator uses
// it.
//
// # Tools
//
//   - [Karpenter] and [ClusterAutoscaler] do not show which nodes they want to take, so the nodes
//     become free in turn, as many as the limits allow.
//   - [Kured] shows which nodes it wants to restart, and [Machines] of Cluster API which nodes are
//     to be deleted. These become free as soon as the limits allow.
//
// # Errors
//
// A Protector protects all nodes if it cannot decide, for example because it cannot read a report,
// and when Run ends. The grants remain, so nodes that were free still count as away. After a kill
// of the Protector, free nodes stay free.
//
// A Protector never removes a protection of somebody else. It recognizes its own by a second
// annotation, or by the name of the pod or of the hook.
//
// # What it does not do
//
// A Protector does not cordon or drain nodes. It does not stop disruptions that ignore the
// protection; the comments of [Karpenter], [ClusterAutoscaler], [Kured] and [Machines] list such
// disruptions. A new node has no protection until the next Step.
package protector
