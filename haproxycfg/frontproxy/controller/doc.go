// Package controller changes the HAProxy of a front proxy whenever the pods of its service or a
// policy change.
//
//	s, err := supervisor.New(supervisor.Options{Config: "/run/front/haproxy.cfg", RunDir: "/run/front"})
//	…
//	c := &controller.Controller{
//		Proxy:  frontproxy.Proxy{Service: "media.tracks", Zone: "eu-1a", Binds: …, Global: …},
//		Source: controller.Discovery{Client: client, Ref: ref},
//		Policy: controller.PolicyFile{Path: "policy.yaml"},
//		Dir:    &deploy.Dir{Path: "/run/front", Runtime: &deploy.Runtime{…}, …},
//	}
//	err = c.Run(ctx)
//
// # What happens at a change
//
// A pod is in service if it is ready and not terminating; see endpoints.InService. Package
// frontproxy makes a configuration from the pods in service, the expected number of pods and the
// policy. Package deploy writes it to the directory and changes the running HAProxy, without a
// reload if only servers and variables differ. The controller applies several changes within
// [MinInterval] together.
//
// The expected number of pods of a zone is the largest number of pods that the zone had within the
// last 10 minutes; see [Expected]. If the other zones have lost pods too, the controller reduces
// the expected number in the same proportion. The file expected-pods.json keeps the expected
// numbers over a restart.
//
// # What happens at a failure
//
//   - Before the source has answered, the controller keeps the configuration in the directory. If
//     the directory is empty, HAProxy has no pods and answers 503.
//   - If the source stops answering, or reports that its list may have lost pods by mistake, the
//     controller keeps the last good list.
//   - If the policy file is wrong, the controller keeps the last good policy.
//   - If HAProxy refuses a configuration, or if a change of HAProxy fails, the controller tries
//     again after 1 s, then after longer pauses of up to 30 s. It also tries again at each change.
//
// [Status] shows all of these failures.
//
// # The retry budget
//
// HAProxy before 2.9 cannot limit how many requests it repeats, so the controller does. It reads the
// counters of HAProxy 20 times a second, and 100 times a second while HAProxy repeats requests. After
// too many repetitions, the controller forbids repetitions for at most 10 s.
//
// # What it does not do
//
// Package supervisor starts HAProxy. The package has no metrics and writes no log: use
// [Controller].Changed and [Controller.Traffic].
package controller
