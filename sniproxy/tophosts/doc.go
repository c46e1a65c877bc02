// Package tophosts finds the hosts with the most connections, failures, bytes and waiting time among
// any number of hosts, in a fixed amount of memory:
//
//	top := &tophosts.Counter{}
//	server.Finished = func(s sniproxy.Stats) {
//		top.Add(tophosts.Sample{
//			Host: s.Name, At: s.Start.Add(s.Total), Failed: s.Err != nil,
//			Bytes: s.ToUpstream + s.ToClient, Wait: s.Lookup + s.Dial,
//		})
//	}
//	for _, host := range top.Top(tophosts.Bytes, 10) {
//		fmt.Println(host.Name, host.Least)
//	}
//
// # Algorithm
//
// A Counter follows Misra and Gries ("Finding repeated elements", 1982) with batches, as in
// Anderson and others, "A High-Performance Algorithm for Identifying Frequent Items in Data
// Streams" (IMC 2017). It has records for at most 8*Size hosts. The record of a host has one value
// for each Metric.
//
// When a further host needs a record, the Counter subtracts the Size-th largest value of each
// Metric from all values of this Metric. Then it removes the records without a positive value, at
// least half of them. The result:
//
//   - the true value of a host is never above Host.Most and never below Host.Least;
//   - their difference is at most 1/Size of the sum over all hosts;
//   - each host with more than 1/Size of this sum has a record, whatever names clients invent;
//   - with at most 8*Size hosts, all values are exact.
//
// A Counter covers the time of one to two Windows: it counts each Window in a generation of its
// own, and has the present generation and the one before.
//
// # What it does not do
//
// A Counter counts only the samples that a caller adds. It reads no clock, and starts no goroutine.
package tophosts
