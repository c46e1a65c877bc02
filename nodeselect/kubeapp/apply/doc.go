// Package apply sends the objects of an application to an API server by server-side apply, and reads
// the objects that package change compares.
//
//	a, err := apply.New(config, func(warning string) { log.Print(warning) })
//	…
//	old, err := a.Read(ctx, "media")
//	…
//	results, err := a.Apply(ctx, objects.List()...)
//	if conflict, ok := errors.AsType[*apply.ConflictError](err); ok {
//		fmt.Println(conflict.Conflicts[0].Manager) // kubectl-edit
//	}
//
// In a server-side apply, each field of an object has a manager: the program that set it last. The
// package has a manager of its own, so it changes and removes only fields that it has set itself. If
// another manager owns a field and its value differs, the API server answers with a conflict, and
// Apply changes nothing.
//
// # What it does not do
//
// The package deletes no objects: if an App had an Ingress and has none now, the Ingress stays. It
// does not wait for a rollout. It does not check a change: package change does that.
package apply
