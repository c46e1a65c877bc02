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
// In a server-side apply, each field of an object has a manager: the program that set it last. This
// package has its own manager, so it changes and removes only fields that it has set. If another
// manager has set a field to another value, Apply changes nothing and returns a conflict.
//
// # What it does not do
//
// The package deletes no objects: if an App has no Ingress any more, the Ingress stays. It does not
// wait for a rollout. It does not check a change; package change does.
package apply
