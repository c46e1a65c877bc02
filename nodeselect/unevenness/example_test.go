package unevenness_test

import (
	"fmt"

	"github.com/headgate/headgate/nodeselect/unevenness"
)

func Example() {
	s := unevenness.Service{Pods: 50, Nodes: 20, Balancers: 2, InFlight: 5}
	e := s.Estimate(1.5)
	fmt.Printf("%.0f connections: the busiest pod has %.1f times the mean load\n", e.Connections, e.P99)
	// Output: 266 connections: the busiest pod has 2.8 times the mean load
}
