// Package unevenness computes how unevenly the pods of a service are loaded behind a balancer that
// sends its connections to the node ports of Kubernetes.
//
//	c := unevenness.Effective(20, 2, 5) // 20 nodes, 2 balancers, 5 requests in flight on each path
//	worst := unevenness.Worst(50, c, 0.99)
//	fmt.Printf("the busiest of 50 pods has %.1f times the mean load\n", worst)
//
// The balancer spreads requests evenly over the nodes, but kube-proxy chooses a random pod for each
// connection. With only a few connections for each pod, the busiest pod gets a multiple of the mean
// load, and some get none.
//
// [Service] has the properties of one service, and Service.Estimate computes its [Estimate].
//
// # The model
//
// In the model, C connections carry the same load, and each goes to one of p pods at random. So the
// connections of one pod have the binomial distribution B(C, 1/p), and a pod with q connections has
// the load q·p/C times the mean. [Worst] returns the smallest load that no pod exceeds with the
// given probability, and treats the pods as independent. The tests compare it with simulated
// connections.
//
// HAProxy prefers the idle connection that it used last, so some connections carry more load than
// others. [Effective] returns the number of connections with which the model gives the same
// unevenness.
//
// # What it does not do
//
// It reads nothing from a cluster and measures nothing. It does not consider that some requests
// cost more than others, or that connections end and others replace them.
package unevenness
