// Package unevenness computes how unevenly the pods of a service are loaded behind a balancer that
// sends its connections to the node ports of Kubernetes.
//
//	c := unevenness.Effective(20, 2, 5) // 20 nodes, 2 balancers, 5 requests in flight on each path
//	worst := unevenness.Worst(50, c, 0.99)
//	fmt.Printf("the busiest of 50 pods has %.1f times the mean load\n", worst)
//
// The balancer spreads requests evenly over the nodes, but kube-proxy chooses a pod at random for
// each connection, and not for each request. If each pod has only a few connections on average, the
// busiest pod gets a multiple of the mean load, and some pods get no request.
//
// [Service] has the properties of one service, and Service.Estimate computes its [Estimate].
//
// # The model
//
// C connections carry the same load, and each of them goes to one of p pods at random. Then the
// number of connections of one pod has the binomial distribution B(C, 1/p). If the busiest pod has
// q connections, its load is q·p/C times the mean. [Worst] returns the smallest such load that no
// pod exceeds, with the given probability. Worst treats the pods as independent. The tests compare
// its result with simulated connections.
//
// HAProxy reuses idle connections, and prefers the connection that it used last. So some
// connections carry more load than others, but in the model all connections carry the same load. So
// [Effective] returns the number of connections for which the model gives the same unevenness.
//
// # What it does not do
//
// It reads nothing from a cluster and measures nothing. It does not consider that some requests
// cost more than others. It also does not consider that connections end. If a new connection
// replaces a connection while somebody measures the load, the load of the two spreads over two
// random pods.
package unevenness
