// Package live follows a live Kubernetes cluster. After each change of nodes and services, a
// [Watcher] chooses the nodes of each service with package nodeselect. An [EndpointsWatcher]
// follows the pods of services with package nodeselect/endpoints.
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
// An EndpointsWatcher calls a function with the pods in the same way:
//
//	watcher := live.EndpointsWatcher{Config: config, Namespace: "media", Service: "tracks"}
//	err := watcher.Run(ctx, func(s live.EndpointsSnapshot) {
//		pods, problems := s.Services.Pods(nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"})
//		…
//	})
//
// A Watcher follows one cluster. With one Watcher for each of several clusters, a failure of one
// cluster does not affect the others.
package live
