// Package live follows the nodes and services of a live Kubernetes cluster. After each change it
// chooses the nodes of each service again, with package nodeselect.
//
//	watcher := live.Watcher{Config: config}
//	watcher.SetRefs(refs)
//	err := watcher.Run(ctx, func(s live.Snapshot) {
//		if s.Err != nil {
//			log.Print(s.Err) // the API server does not answer; the rest is the last good state
//		}
//		…
//	})
//
// A [Watcher] follows one cluster. Watchers of several clusters do not wait for each other.
package live
