//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
	"github.com/headgate/headgate/nodeselect"
)

var adapters = scenario.Scenario[*Env]{
	Name:   "adapters",
	About:  "Karpenter, the cluster autoscaler, kured, Cluster API and a shell may take one node after the other, and only while nodegate has granted it",
	Within: 6 * time.Minute,
	Run:    underLoad(runAdapters),
}

// adapted runs `nodegate protect` on the machine of the terminator. Karpenter, the cluster
// autoscaler, kured and Cluster API do not run. In their place, the scenario obeys the annotations
// and pods that these tools obey, and drains, restarts and deletes nodes as they do.
type adapted struct {
	*System
	c     *lab.Cluster
	flags []string // the flags of each command of nodegate
	made  int      // number of processes
}

func runAdapters(ctx context.Context, s *System, t *traffic, report *scenario.Report) error {
	c := s.Clusters[0]
	dir := filepath.Join(c.Bin(), "..", "..", "nodegate", "kubernetes")
	account, err := installProtect(ctx, c)
	if err != nil {
		return err
	}
	report.Add(scenario.Row{What: "the API server accepts the manifests of nodegate serve and nodegate protect", Err: c.Validate(ctx,
		filepath.Join(dir, "serve", "settings.yaml"), filepath.Join(dir, "serve", "deployment.yaml"), filepath.Join(dir, "serve", "service.yaml"),
		filepath.Join(dir, "serve", "pdb.yaml"), filepath.Join(dir, "protect", "settings.yaml"), filepath.Join(dir, "protect", "deployment.yaml"))})
	a := &adapted{System: s, c: c, flags: []string{
		"-cluster", c.Name + "=kubeconfig:" + account,
		"-report", "http://" + netip.AddrPortFrom(s.Edge.Addr, terminatorAdminPort).String() + "/report.json",
		"-max-away", "1", "-back-for", gateHoldDown.String(),
	}}
	for _, n := range c.Nodes() {
		if err := n.Label(ctx, "karpenter.sh/nodepool", "default"); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context, *traffic) error{
		func(ctx context.Context, t *traffic) error {
			return a.annotated(ctx, t, "karpenter", "karpenter.sh/do-not-disrupt", nodeselect.TaintKarpenter)
		},
		func(ctx context.Context, t *traffic) error {
			return a.annotated(ctx, t, "cluster-autoscaler", "cluster-autoscaler.kubernetes.io/scale-down-disabled", nodeselect.TaintClusterAutoscaler)
		},
		a.kured, a.shell, a.clusterAPI,
	} {
		if err := step(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (a *adapted) nodegate(ctx context.Context, command string, args ...string) (string, error) {
	return a.Edge.Run(ctx, slices.Concat([]string{"nodegate", command}, a.flags, args)...)
}

// protect starts `nodegate protect` for a tool.
func (a *adapted) protect(tool string, args ...string) (*lab.Process, error) {
	a.made++
	return a.Edge.Start(fmt.Sprintf("nodegate-protect-%d", a.made),
		slices.Concat([]string{"nodegate", "protect"}, a.flags, []string{"-tool", tool, "-refresh", "500ms", "-settle", "2s"}, args)...)
}

// The method "until" calls the function "look" again and again, and returns when look returns no
// error.
func (a *adapted) until(ctx context.Context, what string, p *lab.Process, look func(context.Context) error) error {
	_, err := lab.Until(ctx, what, 2*patience, look, p)
	return err
}

// end stops p, a process of `nodegate protect`. With `nodegate protect -remove`, it ends the
// protection of all nodes against the tool. Then it checks that no node has a grant, a permission
// of nodegate to drain the node.
func (a *adapted) end(ctx context.Context, p *lab.Process, tool string, args ...string) error {
	if err := p.Stop(); err != nil {
		return err
	}
	_, err := a.nodegate(ctx, "protect", append([]string{"-tool", tool, "-remove"}, args...)...)
	return errors.Join(err, a.noGrants(ctx))
}

func (a *adapted) noGrants(ctx context.Context) error {
	out, err := a.nodegate(ctx, "grants")
	if err == nil && out != "" {
		err = errors.New(out)
	}
	return err
}

// The method "without" returns the names of the nodes that do not have the annotation with the
// value "true".
func (a *adapted) without(ctx context.Context, annotation string) (names []string, err error) {
	list, err := a.c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range list.Items {
		if n.Annotations[annotation] != "true" {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

// wantOne returns the only name in names. It returns err if err is not nil. It also returns an
// error if names does not contain exactly one name, or if this name equals the argument "not".
func wantOne(names []string, err error, not string) (string, error) {
	if err == nil && (len(names) != 1 || names[0] == not) {
		err = fmt.Errorf("free: %v", names)
	}
	return strings.Join(names, ""), err
}

// annotated does what a tool such as Karpenter does: it waits until exactly one node does not have
// the annotation that the argument "key" names, and sets the taint on this node. While the node has
// the taint, nodegate must not remove the annotation from another node, even if nodegate is killed
// and starts again.
func (a *adapted) annotated(ctx context.Context, t *traffic, tool, key, taint string) error {
	start := time.Now()
	p, err := a.protect(tool, "-free", "1h")
	if err != nil {
		return err
	}
	var first string
	one := func(not string) func(context.Context) error {
		return func(ctx context.Context) error {
			names, err := a.without(ctx, key)
			first, err = wantOne(names, err, not)
			return err
		}
	}
	err = a.until(ctx, "one free node", p, one(""))
	if err := t.row(scenario.Row{What: tool + " may take one node only", Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	n := a.c.Node(first)
	err = n.Taint(ctx, corev1.Taint{Key: taint, Effect: corev1.TaintEffectNoSchedule})
	if err == nil {
		err = a.until(ctx, "the drain of "+n.Name, p, func(ctx context.Context) error { return a.drainedInHAProxy(ctx, n) })
	}
	p.Kill()
	err = errors.Join(err, p.Start())
	if err == nil {
		err = a.sameFor(ctx, 2*time.Second, one(""))
	}
	if err == nil && first != n.Name {
		err = fmt.Errorf("free: %s", first)
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("%s takes %s, and no other node while it is away, also after nodegate is killed", tool, n.Name), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	err = n.Taint(ctx)
	if err == nil {
		err = a.until(ctx, "another free node", p, one(n.Name))
	}
	if err := t.row(scenario.Row{What: n.Name + " is back, and then " + tool + " may take another node", Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	err = p.Stop()
	if names, listed := a.without(ctx, key); err == nil && (listed != nil || len(names) > 0) {
		err = errors.Join(listed, fmt.Errorf("free after the end: %v", names))
	}
	err = errors.Join(err, a.end(ctx, p, tool))
	if names, listed := a.without(ctx, key); err == nil && (listed != nil || len(names) != len(a.c.Nodes())) {
		err = errors.Join(listed, fmt.Errorf("after -remove, free: %v", names))
	}
	return t.row(scenario.Row{What: "nodegate protect ends: no node is free; with -remove, no protection is left", Err: err}, start)
}

// sameFor checks several times, for about the given time, that the function "look" returns no
// error.
func (a *adapted) sameFor(ctx context.Context, wait time.Duration, look func(context.Context) error) error {
	tick := time.NewTicker(wait / 10)
	defer tick.Stop()
	for range 10 {
		if err := look(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// unblocked returns the nodes that kured may restart. It makes the same query for blocking pods as
// kured, and leaves out the nodes of these pods.
func (a *adapted) unblocked(ctx context.Context) (names []string, err error) {
	for _, n := range a.c.Nodes() {
		pods, err := a.c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{
			LabelSelector: "headgate.dev/blocks=kured",
			FieldSelector: "spec.nodeName=" + n.Name + ",status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown",
			Limit:         10,
		})
		if err != nil {
			return nil, err
		}
		if len(pods.Items) == 0 {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

// The method "kured" plays the program kured with the flag --annotate-nodes. It annotates two nodes
// as nodes that must restart. Then it restarts each of the two nodes after nodegate has deleted the
// pod that blocks kured on this node.
func (a *adapted) kured(ctx context.Context, t *traffic) error {
	const wanted = "weave.works/kured-reboot-in-progress"
	start := time.Now()
	p, err := a.protect("kured")
	if err != nil {
		return err
	}
	are := func(want ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			names, err := a.unblocked(ctx)
			if err == nil && !slices.Equal(names, want) {
				err = fmt.Errorf("unblocked: %v, want %v", names, want)
			}
			return err
		}
	}
	err = a.until(ctx, "a pod on each node", p, are())
	if err := t.row(scenario.Row{What: "a pod on each node blocks kured", Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	nodes := a.c.Nodes()[1:]
	for i, n := range nodes {
		err = errors.Join(err, n.Annotate(ctx, wanted, time.Now().Add(time.Duration(i)*time.Second).Format(time.RFC3339)))
		if i == 0 {
			err = errors.Join(err, a.until(ctx, "the first node", p, are(n.Name)))
		}
	}
	if err == nil {
		err = a.sameFor(ctx, 2*time.Second, are(nodes[0].Name))
	}
	if err := t.row(scenario.Row{What: fmt.Sprintf("kured wants %s and %s, and may restart %s", nodes[0].Name, nodes[1].Name, nodes[0].Name), Took: time.Since(start), Err: err}, start); err != nil {
		return err
	}
	start = time.Now()
	for i, n := range nodes {
		err = a.restartAsKured(ctx, p, n)
		err = errors.Join(err, n.Annotate(ctx, wanted, ""))
		if i == 0 {
			err = errors.Join(err, a.until(ctx, "the second node", p, are(nodes[1].Name)))
		} else {
			err = errors.Join(err, a.until(ctx, "a pod on each node", p, are()))
		}
		if err != nil {
			break
		}
	}
	err = errors.Join(err, a.until(ctx, "the last grant to end", p, a.noGrants), a.end(ctx, p, "kured"))
	if names, listed := a.unblocked(ctx); err == nil && (listed != nil || len(names) != len(a.c.Nodes())) {
		err = errors.Join(listed, fmt.Errorf("after -remove, unblocked: %v", names))
	}
	return t.row(scenario.Row{What: "kured restarts both nodes, one after the other", Took: time.Since(start), Err: err}, start)
}

// restartAsKured cordons a node, waits until HAProxy has drained it, restarts its programs, and
// uncordons it.
func (a *adapted) restartAsKured(ctx context.Context, p *lab.Process, n *lab.Node) error {
	if err := n.Cordon(ctx); err != nil {
		return err
	}
	if err := a.until(ctx, "the drain of "+n.Name, p, func(ctx context.Context) error { return a.drainedInHAProxy(ctx, n) }); err != nil {
		return err
	}
	agent := a.Agents[n.Name]
	if err := n.SetReady(ctx, false); err != nil {
		return err
	}
	agent.Kill()
	return errors.Join(n.Proxy.Restart(), agent.Start(), n.SetReady(ctx, true), n.Uncordon(ctx))
}

// shell runs a script that calls `nodegate may`, as an operator's script does before `kubectl
// drain`. When nodegate has made a grant for the node, the test itself sends the requests that
// `kubectl drain` sends.
func (a *adapted) shell(ctx context.Context, t *traffic) error {
	start := time.Now()
	n := a.c.Nodes()[0]
	marker := filepath.Join(a.env.Lab.Dir("edge"), "granted")
	args := slices.Concat([]string{filepath.Join(a.c.Bin(), "nodegate"), "may"}, a.flags, []string{"-take", "-holder", "shell", "-wait", "1m", n.Name})
	_, err := a.Edge.Run(ctx, "sh", "-c", strings.Join(args, " ")+" && touch "+marker+" && test -e "+marker)
	if err == nil {
		err = n.Cordon(ctx)
	}
	pods, listed := a.c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + n.Name})
	if err = errors.Join(err, listed); err == nil {
		for _, pod := range pods.Items {
			// Evict the pods with a dry run only. In the lab, no kubelet ends the process of a pod
			// after somebody deletes the Pod object, so after a real eviction the process would
			// continue.
			eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}, DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}}
			err = errors.Join(err, a.c.Client.CoreV1().Pods(pod.Namespace).EvictV1(ctx, eviction))
		}
	}
	if err == nil {
		_, err = lab.Until(ctx, "the drain of "+n.Name, patience, func(ctx context.Context) error { return a.drainedInHAProxy(ctx, n) })
	}
	if err == nil { // without this command, nodegate would not notice that the node was away
		_, err = a.nodegate(ctx, "grants")
	}
	err = errors.Join(err, n.Uncordon(ctx))
	if err == nil {
		_, err = lab.Until(ctx, "the end of the grant", 2*patience, a.noGrants)
	}
	return t.row(scenario.Row{What: "nodegate may -take -wait && kubectl drain", Took: time.Since(start), Err: err}, start)
}
