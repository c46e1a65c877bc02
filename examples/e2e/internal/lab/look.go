//go:build linux

package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

// EntryNode returns the node whose port took a request, by what the pod that answered
// says: kube-proxy masquerades, so that the pod sees an address of that node. When it
// does not, as with externalTrafficPolicy Local, the pod's own node took it. It returns
// nil for a node that is not in the cluster.
func (c *Cluster) EntryNode(answer pod.Answer) *Node {
	source, err := netip.ParseAddr(answer.Source)
	if err == nil {
		for _, n := range c.Nodes() {
			if source == n.Addr || source == n.Plan.PodGateway {
				return n
			}
		}
	}
	return c.Node(answer.Node)
}

// Guide says how to look around in a lab that runs in the sandbox whose first process is pid.
func (l *Lab) Guide(pid int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, `
Everything is left running, until Ctrl-C. To look around:
  nsenter -a -t %-7d bash            a shell inside, beside the bridge
  ip netns exec MACHINE bash            a shell on a machine, from there
  export KUBECONFIG=%s/CLUSTER/admin.kubeconfig
  ls %s
Machines:
`, pid, l.opts.Dir, l.opts.Logs)
	for _, name := range slices.Sorted(maps.Keys(l.machines)) {
		fmt.Fprintf(&b, "  %-24s %s\n", name, l.machines[name].Addr)
	}
	fmt.Fprintln(&b, "Clusters:")
	for _, c := range l.clusters {
		fmt.Fprintf(&b, "  %-24s %s\n", c.Name, c.Server())
	}
	return b.String()
}
