// Package supervisor runs HAProxy as a child process, restarts it when it ends, and drains and
// stops it.
//
//	s, err := supervisor.New(supervisor.Options{
//		Config:  "/run/front/haproxy.cfg",
//		RunDir:  "/run/front",
//		Changed: func(st supervisor.State) { log.Info("haproxy", "state", st) },
//		Log:     func(line string) { fmt.Println(line) },
//	})
//	if err != nil { … }
//	go s.Run(ctx)
//	…
//	err = s.Reload(ctx, deploy.Reloader{Master: s.Master()}.Reload)
//	…
//	err = s.Drain(ctx) // until HAProxy's last connection ends, or ctx ends
//
// HAProxy runs in master-worker mode. [Supervisor.Master] is the socket of the master, through
// which package deploy reloads HAProxy and package runtimeapi sends commands.
//
// If HAProxy ends or does not start, the Supervisor waits and starts it again. The first wait is
// Options.MinDelay, and each further wait is twice as long, up to Options.MaxDelay. Each wait
// varies by 20%, so that many machines do not start HAProxy at the same moment. After HAProxy has
// run for Options.Stable, the waits begin with MinDelay again.
//
// If HAProxy does not start with Options.Config, the Supervisor starts it with Options.LastGood;
// the next Reload loads Config again. The Supervisor then also creates the file Options.Pending, so
// that the next Apply of package deploy reloads HAProxy.
//
// On Linux, HAProxy does not outlive the process of the Supervisor; see [Supervisor.Run]. This
// process may be process 1 of a container: the Supervisor waits for the orphaned workers of a dead
// master, so that they do not stay as zombies.
//
// # What it does not do
//
// The package does not write or check configurations; package haproxycfg/deploy does. It does not
// decide when to reload. It limits neither the memory nor the CPU time of HAProxy. For several
// HAProxies, use several Supervisors.
package supervisor
