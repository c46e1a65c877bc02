// Package live follows the nodes and services of a live Kubernetes cluster. After each change it
// chooses the nodes of each service again, with package nodeselect.
//
//	watcher := live.Watcher{Config: config}
//	watcher.SetRefs(refs)
//	err := watcher.Run(ctx, func(s live.Snapshot) {
//		if s.Err != nil {
//			log.Print(s.Err) // the API server does not answer; s has the last good state
//		}
//		…
//	})
//
// A [Watcher] follows one cluster. A program can run several Watchers, one for each cluster. If one
// cluster does not answer, the Watchers of the others continue.
package live
