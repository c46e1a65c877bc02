// Package deploy puts a configuration of package haproxycfg into force: it lets HAProxy check the
// configuration, writes it to a directory and makes HAProxy load it without a gap.
//
//	master := runtimeapi.Socket{Path: "/run/haproxy/master.sock"}
//	dir := &deploy.Dir{
//		Path:   "/etc/haproxy",
//		Check:  deploy.Checker{}.Check, // haproxy -c
//		Reload: deploy.Reloader{Master: master, StateFile: "/var/lib/haproxy/state"}.Reload,
//	}
//	changed, err := dir.Apply(ctx, config)
//
// A [Dir] writes only files that differ, each of them whole, and keeps the last good configuration
// for the case that HAProxy refuses the new one. With [Dir.Plan] a caller can look at the
// difference before it applies the configuration.
//
// The package neither makes configurations nor starts HAProxy, and it watches nothing.
package deploy
