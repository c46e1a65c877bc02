package endpoints_test

import (
	"fmt"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// sliced returns EndpointSlices of the service ns/name, with at most 100 pods in each.
func sliced(name string, pods int) objects {
	var list objects
	for i := range pods {
		if i%100 == 0 {
			list = append(list, of(name, slice(fmt.Sprint(name, "-", i/100), fmt.Sprint(i+1))))
		}
		last := list[len(list)-1]
		last.Endpoints = append(last.Endpoints, pod(fmt.Sprint(name, "-", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	return list
}

func BenchmarkMerge(b *testing.B) {
	for _, pods := range []int{75, 1000, 5000} {
		list := sliced("s", pods)
		b.Run(fmt.Sprint("pods=", pods), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				endpoints.Merge(list, "http", nodeselect.AddressPolicy{})
			}
		})
	}
}

// BenchmarkPods merges slices that are already parsed.
func BenchmarkPods(b *testing.B) {
	for _, pods := range []int{75, 1000, 5000} {
		svc := endpoints.Group(sliced("s", pods), nodeselect.AddressPolicy{})["ns/s"]
		b.Run(fmt.Sprint("pods=", pods), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				svc.Pods("http")
			}
		})
	}
}

// cluster returns the slices of 200 services with 75 pods each.
func cluster() objects {
	var list objects
	for i := range 200 {
		list = append(list, sliced(fmt.Sprint("s", i), 75)...)
	}
	return list
}

// BenchmarkTrackerSet changes one slice of 200 services, while the caller holds the map of
// Services.
func BenchmarkTrackerSet(b *testing.B) {
	list := cluster()
	tracker := endpoints.NewTracker(nodeselect.AddressPolicy{})
	tracker.Replace(list, time.Time{})
	tracker.Changed()
	changed := [2]*discoveryv1.EndpointSlice{list[7].DeepCopy(), list[7]}
	changed[0].Endpoints = changed[0].Endpoints[1:]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tracker.Set(changed[i%2], time.Time{})
		if len(tracker.Changed()) != 1 {
			b.Fatal("want one changed service")
		}
		tracker.Services()
	}
}

// BenchmarkTrackerReplace applies a list that changes nothing.
func BenchmarkTrackerReplace(b *testing.B) {
	list := cluster()
	tracker := endpoints.NewTracker(nodeselect.AddressPolicy{})
	b.ReportAllocs()
	for b.Loop() {
		tracker.Replace(list, time.Time{})
	}
}
