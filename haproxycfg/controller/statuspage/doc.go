// Package statuspage serves the status page of a terminator: what HAProxy runs now, what was refused
// and why, and what an operator can do about it.
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
// The page shows, in this order: why nothing or something old is in force; the refused change with
// its largest losses, and the command that allows it; holds and shifts, and the commands that end
// them; clusters, and how old the information about each of them is; problems with file, line and
// field; certificates that were refused or expire soon; the last changes with their causes, and
// whether they needed a reload; and routes. The parameters of the request choose what else the page
// shows:
//
//	?q=TEXT                  routes whose host, path or services contain TEXT
//	?host=HOST&path=PATH     where the requests for HOST and PATH go, and why
//	?service=REF             the nodes of a service such as eu-1/media/tracks:http
//	&node=TEXT               only nodes whose name, address or zone contains TEXT
//	&refresh=on              load the page again every 10 s
//
// Each list has at most MaxRows rows, and says how many there are. So the page of a terminator with
// 10,000 routes and 3,000 nodes has about as many bytes as the page of a small one.
//
// # What it does not do
//
// The page changes nothing, and has no form that changes anything. It shows commands with which an
// operator can allow a change, or end a hold or a shift. The reason: the admin listener of a
// terminator accepts no change from a browser, because otherwise every web page in the operator's
// browser could try to make one. The package checks no permission, and reads no cluster.
package statuspage
