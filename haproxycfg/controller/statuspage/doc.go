// Package statuspage serves the status page of a terminator: what HAProxy runs now, what was
// refused and why, and what an operator can do about it.
//
//	page := &statuspage.Handler{
//		Title:   "edge-1",
//		View:    func(context.Context) statuspage.View { return view },
//		Explain: func(ctx context.Context, t explain.Target) (explain.Explanation, error) { … },
//		Command: func(method, path string) string {
//			return "curl --unix-socket /run/headgate/admin.sock -X " + method + " 'http://localhost" + path + "'"
//		},
//	}
//	http.Handle("GET /{$}", page)
//
// Method StatusHandler of a controller.Controller returns such a Handler with the data of the
// Controller.
//
// The page shows why nothing or something old is in force, the refused change, holds and shifts,
// clusters, problems, certificates that were refused or expire soon, the last changes, and routes.
// The parameters of the request choose what else the page shows:
//
//	?q=TEXT                  routes whose host, path or services contain TEXT
//	?host=HOST&path=PATH     where the requests for HOST and PATH go, and why
//	?service=REF             the nodes of a service such as eu-1/media/tracks:http
//	&node=TEXT               only nodes whose name, address or zone contains TEXT
//	&refresh=on              load the page again every 10 s
//
// Each list has at most MaxRows rows, and says how many there are.
//
// # What it does not do
//
// The page changes nothing. It shows commands with which an operator can allow a change, or end a
// hold or a shift, because the admin listener of a terminator accepts no change from a browser. The
// package checks no permission.
package statuspage
