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
// A [Dir] writes only files that have changed, and replaces each file as a whole. It puts the last
// good configuration back if HAProxy refuses the new one. [Dir.Plan] shows the difference first.
//
// After a reload, the old worker of HAProxy runs until its last connection ends. [Workers] lists
// the old workers, and can end the oldest one. If the port of a server changes, the server keeps
// its weight and its drain, and [Reloader] makes the old worker send requests to the new port.
//
// # Changes without a reload
//
// With Dir.ReplaceMaps, a Dir changes the entries of stable maps (haproxycfg.Map.Stable) of the
// running HAProxy without a reload. Without a Runtime, this works only if nothing else changes.
//
// With a [Runtime], a Dir changes servers, certificates and, from HAProxy 3.4 on, backends of the
// running HAProxy without a reload:
//
//	dir.Runtime = &deploy.Runtime{Stats: runtimeapi.Socket{Path: "/run/haproxy/stats.sock"}, Master: master}
//
// The Dir writes the files first. The version of HAProxy decides what the Dir changes at run time:
//
//	change                                     before 3.0     3.0 and later
//	weight, address, "disabled" of a server    at run time    at run time
//	the value of a variable                    at run time    at run time
//	new servers, and servers with new names    at run time    at run time
//	more slots (haproxycfg.Server.Slot)        reload         at run time
//	fewer servers                              at run time    at run time
//	changed options of up to 10 servers        reload         at run time
//	a server that tracks a new server          reload, unless a spare server is free
//	more servers that other servers track      reload, unless spare servers are free
//	any change of servers with balance source, reload         reload, unless only a weight or an
//	uri or static-rr                                          address changes
//	entries of stable maps                     at run time    at run time
//	new, renewed and removed certificates      at run time    at run time
//	a renewed certificate that is preferred    reload         reload
//	to another one for the same name
//	a new backend with the settings of another reload         at run time from 3.4 on
//	one, and one backend less
//	anything else, such as time-outs           reload         reload
//
// A backend is only added or deleted at run time if the maps of a haproxycfg.Router lead to it, if it
// has no limits, and if no servers track its servers.
//
// Before 3.0, a server that the files no longer contain stays in maintenance until the next reload.
// So if servers change often, for example because they are pods, use slots. A removed server that
// other servers have tracked stays in maintenance with every version.
//
// With a Runtime, a change of servers and maps together needs no reload either. The Dir removes
// servers last, so no new entry of a map leads to a backend without servers.
//
// haproxy -c usually checks a configuration before the change. If only entries of stable maps
// change, it checks after the change. The Dir then also syncs and renames the files of the maps
// after the change, because a sync can take longer than all other steps together.
//
// Servers that are ejected, drained or in maintenance stay in that state, with and without a
// reload. A reload needs [Reloader.StateFile] for this.
//
// # Beside the files of somebody else
//
// If HAProxy also loads files that a Dir does not own, set haproxycfg.Config.Fragment, and set
// [Checker.Foreign] and [Reloader.Foreign] to the same [Foreign]. The Dir then writes a fragment,
// which HAProxy loads last. HAProxy checks all files together, and an error with [ErrForeign] says
// that the files of somebody else are the cause. Reload refuses to reload an HAProxy that does not
// load the fragment.
//
// # What it does not do
//
// The package does not make configurations, does not start HAProxy, and does not watch files or
// clusters.
package deploy
