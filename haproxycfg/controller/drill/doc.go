// Package drill simulates faults of clusters, such as the loss of a zone, and says what a
// Controller would do: which configurations it would apply and refuse, which nodes would drain, how
// many servers each service would keep, and what the operator would see. A drill changes nothing
// except a temporary directory.
//
//	runner := drill.Runner{
//		Controller: func() *controller.Controller { … }, // the settings of the terminator
//		Clusters:   clusters,                            // the nodes and services of each cluster
//	}
//	drills, err := runner.Standard()
//	for _, d := range drills {
//		result, err := runner.Run(ctx, d)
//		…
//		violations = append(violations, policy.Judge(result)...)
//	}
//
// A Drill is a list of Steps, functions from a World to the next World. A World contains the
// objects of all clusters, the nodes that are down, and the API servers that do not answer. A
// program can build its own drills from the faults in this package, such as NotReady and Join.
//
// # What is real
//
// A Runner uses controller.Rehearsal: the Controller makes its usual decisions, and writes to a
// temporary directory. If Controller.Dir.Check is set, HAProxy checks each configuration. Package
// nodeagent decides which nodes drain. The Runner replaces only the clock, the API servers and the
// reload of HAProxy, and treats each cluster as a live cluster.
//
// # When a server serves
//
// No traffic flows in a drill. A server of the configuration in force counts as serving if all of
// these conditions are true:
//
//   - its node is not down,
//   - its node does not drain,
//   - its port is the present node port of the service,
//   - its node has a ready pod, if the service has externalTrafficPolicy Local and the pods are
//     known,
//   - the agent of its node runs, if the check of the node connects to the agent (edge.NodeAgent).
//     The agent is not needed if each route of the service declares a check of its own.
//
// The number of serving servers changes at the moment of a fault. So it says how many servers could
// serve, and not how many requests fail until HAProxy notices the fault. An event of the API server
// takes effect after 0.1 s. Checks and reloads need no time.
//
// # What it does not do
//
// A drill does not simulate faults of routes, certificates or HAProxy. It does not know the load of
// a service, so it cannot say whether half of its servers are enough.
package drill
