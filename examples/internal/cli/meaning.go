package cli

import (
	"fmt"
	"strings"
)

// meanings are the texts of the flags that several binaries or commands have. The word in back
// quotes stands for the value of the flag. The tests of examples/FLAGS.md fail if two flags of the
// same name have different texts, unless both begin with the text in this table.
var meanings = map[string]string{
	"admin":             "`address` of the admin listener; may be given several times",
	"admin-token-file":  "`file` with the bearer token for requests over TCP that change something",
	"annotation-prefix": "`prefix` of the annotations to read",
	"cluster":           "cluster, as `NAME=WHERE`: its name in declarations, and where to read its objects: kubeconfig:FILE[:CONTEXT], in-cluster, or dir:DIR with files as kubectl get -o yaml or -o json prints them",
	"dir":               "`directory` with objects of the cluster, as kubectl get -o yaml or -o json prints them; replaces the API server",
	"drain-delay":       "how long to continue to serve after a drain has begun, so that balancers notice the drain; 0 means no delay",
	"drain-timeout":     "how long open connections may stay open after -drain-delay; 0 means no wait",
	"dry-run":           "change nothing",
	"exporter":          "`address` of HAProxy's own pages: /ready for the checks of a balancer in front, and /metrics; may be given several times",
	"force":             "ignore -max-change",
	"haproxy":           "`path` of the haproxy binary",
	"holder":            "`name` of the program that replaces the nodes",
	"hosts":             "JSON `file` with an array of {\"app\", \"host\", \"endpoint\"}",
	"http":              "`address` to serve HTTP on; may be given several times",
	"json":              "print JSON",
	"kubeconfig":        "`FILE[:CONTEXT]` with the address and account of the API server, or in-cluster for the account of the pod; default: the account of the pod, and outside of a pod the configuration of kubectl",
	"listen":            "`address` to listen on",
	"max-connections":   "largest `number` of client connections at one time",
	"max-drain":         "largest `share` of the nodes of the cluster that the node agents drain at the same time",
	"max-wait":          "longest time to wait for the end of a burst of changes",
	"max-waiting":       "largest `number` of requests that wait for changes at one time; for one more, the client address with the most waiting requests gets an early answer to its oldest",
	"namespace":         "`namespace` of the objects",
	"node-agent-port":   "`port` of the node agents",
	"only":              "`name` of what to run; may be given several times",
	"out":               "`directory` for the files of the program",
	"policy":            "YAML `file` with the policy",
	"poll":              "how often to look for changes of files that the operating system has not reported",
	"quiet":             "time without a change after which a burst of changes is over",
	"refresh":           "time between two observations of the cluster",
	"reload":            "master `socket` of the HAProxy to reload when its configuration changes",
	"routes":            "`file` of declarations; may be given several times",
	"timeout":           "time after which the command gives up and fails",
	"undo":              "end what an earlier call of this command has begun",
}

// Meaning returns the text of the flag "name" from meanings, and panics if it is not there. details
// are facts about one binary, such as what an empty value means. Meaning appends each of them to
// the text, after a semicolon.
func Meaning(name string, details ...string) string {
	text, ok := meanings[name]
	if !ok {
		panic(fmt.Sprintf("cli: the flag -%s has no meaning that several binaries share", name))
	}
	return strings.Join(append([]string{text}, details...), "; ")
}
