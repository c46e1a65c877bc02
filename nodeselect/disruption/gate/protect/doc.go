// Package protect decides which nodes a tool that replaces nodes must leave alone now. Such tools,
// for example Karpenter, kured and Cluster API, do not ask before they take a node away. But each
// of them leaves a node alone that has a certain annotation or pod.
//
//	ask := protect.Ask(subjects, settings)
//	held := … // grants for as many of these nodes as the limits allow
//	plan := protect.Next(subjects, held, settings, now)
//	// set the protection of plan.Protect, end the grants plan.Release, remove the protection of plan.Free
//
// # Rules
//
// A node is free only while the holder, which stands for the tool, has a grant for the node, or while
// no applied configuration has the node. Package gate makes the grants, so all free nodes together
// may go, and no limit is exceeded, whichever of them the tool takes.
//
// The tool has the time Settings.Free to take a free node. Afterwards, the node is protected again.
// The tool may have decided before this moment to take the node. So the grant ends only when the
// node has been protected for the time Settings.Settle, and only if the node has not gone.
//
// If the tool shows which nodes it wants to take, then only these nodes become free, and the node
// that has waited longest comes first. If the tool does not show this, then nodes become free in
// turn: the node that has been protected longest comes first.
//
// # Contract
//
// The functions are pure. They need no history: the protection and the grants show what happened
// before. So a restart changes nothing.
//
// # What it does not do
//
// It does not set any protection: package protector does this.
package protect
