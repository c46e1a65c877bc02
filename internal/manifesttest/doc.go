// Package manifesttest makes the objects of a cluster of any size, and prints
// them as kubectl does, for tests and benchmarks. What it makes depends on its
// arguments alone.
//
// The objects look like those of a real cluster, of which routing needs little:
// nodes carry managed fields, images, capacities and five conditions, services
// the annotation that kubectl apply leaves behind. The shape follows what
// kube-apiserver 1.36 stores for a kubelet's node. kubectl leaves managed fields
// out since 1.21 unless it is asked for them; they are here because older
// versions, and files made through the API, have them.
package manifesttest
