// Package cli holds what the example binaries do alike: settings from flags,
// environment and one YAML file, exit codes, an admin listener with metrics and
// health, and a clean stop on SIGTERM.
//
// A binary is one function of type [Run], so that a test can call it with its own
// arguments, environment and output and look at the exit code:
//
//	func main() { cli.Main(run) }
//
//	func run(ctx context.Context, inv cli.Invocation) int {
//		fs := cli.NewFlagSet("terminator", "terminator -routes routes.yaml -cluster eu-1=dir:manifests -out out -once")
//		out := fs.String("out", "", "`directory` to write to")
//		if code, done := inv.Parse(fs); done {
//			return code
//		}
//		...
//	}
//
// The package knows nothing of what the binaries do; whatever a user of headgate
// would want to import stands in the packages at the top of the module.
package cli
