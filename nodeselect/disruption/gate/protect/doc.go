// Package protect decides which nodes a tool that replaces nodes must leave alone now. Such tools,
// for example Karpenter, kured and Cluster API, do not ask before they take a node away. But each
// of them leaves a node alone if the node has a certain annotation or pod: the protection of the
// node.
//
//	ask := protect.Ask(subjects, settings)
//	held := … // grants for as many of these nodes as the limits allow
//	plan := protect.Next(subjects, held, settings, now)
//	// set the protection of plan.Protect, end the grants plan.Release, remove the protection of plan.Free
//
// # Rules
//
// A node is free if it has no protection, so that the tool may take it. A node is free only while
// the tool has a grant for the node, or while no applied configuration contains the node. The
// holder of these grants is a name that stands for the tool. Package gate makes the grants. So the
// tool may take any of the free nodes, even all of them, and no limit is exceeded.
//
// The tool may take a free node within the time Settings.Free. If the tool has not taken the node
// by then, the node gets its protection again. The tool may have decided to take the node just
// before. So the grant ends only when the node has had its protection for the time Settings.Settle,
// and only if the node has not gone.
//
// If the tool shows which nodes it wants to take, only these nodes become free, and the node for
// which the tool has waited longest becomes free first. If the tool does not show this, all nodes
// become free in turn: the node that has had its protection for the longest time becomes free
// first.
//
// # Contract
//
// The functions are pure, and need no memory of earlier calls: the protection of the nodes and the
// grants show what happened before. So a restart of the program changes nothing.
//
// # What it does not do
//
// Package protect does not set or remove any protection: package protector does this.
package protect
