// Package protect decides which nodes a tool that replaces nodes, such as Karpenter, kured or
// Cluster API, must leave alone now. Such a tool does not ask before it takes a node. But it leaves
// a node alone if the node has a certain annotation or pod, which is called the protection of the
// node.
//
//	ask := protect.Ask(subjects, settings)
//	held := … // grants for as many of these nodes as the limits allow
//	plan := protect.Next(subjects, held, settings, now)
//	// set the protection of plan.Protect, end the grants plan.Release, remove the protection of plan.Free
//
// # Rules
//
// A node is free, without protection, only while the tool has a grant for the node from package
// gate, or while no applied configuration contains the node. So the tool may take all free nodes
// without exceeding a limit.
//
// After the time Settings.Free, a free node gets its protection again. The tool may have decided
// just before this to take the node. So the grant of the node does not end at the same time: it
// ends when the node has been protected for Settings.Settle and has not gone away.
//
// If the tool shows which nodes it wants to take, only these nodes become free, first the node for
// which the tool has waited longest. Otherwise all nodes become free in turn, first the node that
// has been protected longest.
//
// # Contract
//
// The functions are pure. The protection of the nodes and the grants show what happened before, so
// a restart of the program changes nothing.
//
// # What it does not do
//
// Package protect does not set or remove any protection: package protector does this.
package protect
