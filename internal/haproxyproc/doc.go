// Package haproxyproc runs a real HAProxy as a child process, for tests and
// for programs that show a whole system on one machine.
//
//	p, err := haproxyproc.Start(ctx, haproxyproc.Options{
//		Config:      "/tmp/x/haproxy.cfg",
//		StatsSocket: "/tmp/x/stats.sock", // as the configuration names it
//	})
//	if err != nil { … } // carries the end of what HAProxy printed
//	defer p.Stop()
//
// Start returns when HAProxy answers on its socket. With a MasterSocket it
// runs in master-worker mode, which a reload needs.
//
// The child never outlives its owner: Stop ends the whole process group, and on
// Linux the kernel ends it when this process dies without calling Stop.
//
// It is not a supervisor: a HAProxy that ends is not started again.
package haproxyproc
