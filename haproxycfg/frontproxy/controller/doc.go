// Package controller keeps the HAProxy of a front proxy in step with the pods of its service and with
// a policy.
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
// A pod is in service if it is ready and not terminating. From the pods in service, the expected
// number of pods and the policy, package frontproxy makes a configuration. Package deploy writes it
// to the directory and then changes the running HAProxy, without a reload if only servers and
// variables differ. The controller applies changes that come within [MinInterval] together.
//
// The expected number is the largest number of pods that the zone had within the last 10 minutes; see
// [Expected]. If the other zones have lost pods too, the number falls in the same proportion. So no
// request leaves its zone because all zones were scaled down. The file expected-pods.json in the
// directory keeps the numbers over a restart.
//
// # What happens at a failure
//
//   - Before the source has answered, the configuration in the directory stays. In an empty
//     directory, HAProxy gets a configuration without pods and answers 503.
//   - If the source stops answering, or doubts a list of pods, the pods stay.
//   - If the policy file is wrong, the last good policy stays.
//   - If HAProxy refuses a configuration, or if a change of HAProxy fails, the controller tries
//     again after 1 s, then after longer pauses of up to 30 s, and at each change.
//
// [Status] shows all of these.
//
// # The retry budget
//
// HAProxy before 2.9 cannot count repeated requests. For such a version the controller reads
// HAProxy's counters 20 times a second, and 100 times a second while HAProxy repeats requests.
// While HAProxy has repeated too many requests, the controller switches repetitions off.
//
// # What it does not do
//
// It does not start HAProxy; package supervisor does. It does not read clusters: a [Source] does. It
// has no metrics and no log: see Changed and [Controller.Traffic].
package controller
