// Package deploy puts a configuration of package haproxycfg into force: it lets HAProxy check the
// configuration, writes it to a directory and makes HAProxy load it without an interruption.
//
//	master := runtimeapi.Socket{Path: "/run/haproxy/master.sock"}
//	dir := &deploy.Dir{
//		Path:   "/etc/haproxy",
//		Check:  deploy.Checker{}.Check, // haproxy -c
//		Reload: deploy.Reloader{Master: master, StateFile: "/var/lib/haproxy/state", Config: "/etc/haproxy/haproxy.cfg"}.Reload,
//	}
//	changed, err := dir.Apply(ctx, config)
//
// A [Dir] writes only files that have changed. It replaces each file as a whole. It keeps the last
// good configuration, and puts it back if HAProxy refuses the new one. With [Dir.Plan] a caller can
// look at the difference before it applies the configuration.
//
// After a reload, the old worker of HAProxy runs until its last connection ends. [Workers] lists
// the old workers, and can end the oldest one. If a reload gives a server another port, [Reloader] keeps
// the weight and the drain of the server. It also makes the old worker send requests for this server
// to the new port. [Reloader.Redirect] makes the present worker send them to the new port, without a
// reload.
//
// The package does not make configurations, does not start HAProxy, and does not watch files or
// clusters.
package deploy
