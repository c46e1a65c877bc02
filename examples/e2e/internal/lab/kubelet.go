//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// These controllers of Kubernetes make pods from the objects that kubectl and kubeapp apply, and
// remove what belongs to deleted objects.
const podControllers = "deployment-controller,replicaset-controller,daemonset-controller,disruption-controller," +
	"serviceaccount-controller,namespace-controller,garbage-collector-controller"

// kubeletInterval is the time between two readings of the pods, and between two probes of a pod.
const kubeletInterval = 250 * time.Millisecond

// RunKubelets does the work of a scheduler, and of the kubelets of all nodes, until ctx ends. For
// an image whose name contains "headgate", it runs the container's command, with the token of the
// pod's account. Volumes may be of the types hostPath and emptyDir. For any other image, it runs
// the server of package pod on the first port of the container.
//
// Only the first container of a pod runs. It runs as root, and sees the file system of the computer
// instead of its image.
func (c *Cluster) RunKubelets(ctx context.Context) error {
	controllers, err := c.StartControllers("-pods", podControllers)
	if err != nil {
		return err
	}
	defer controllers.Kill()
	k := &kubelets{cluster: c, pods: map[types.UID]*kubeletPod{}}
	defer k.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		// Ignore the error: usually the lab ends, or a user has stopped the API server. The next
		// round tries again.
		_ = k.sync(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(kubeletInterval):
		}
	}
}

type kubelets struct {
	cluster *Cluster
	pods    map[types.UID]*kubeletPod
	running sync.WaitGroup
}

// kubeletPod is a pod that a kubelet runs. Closing stop makes the kubelet end the pod.
type kubeletPod struct {
	stop  chan struct{}
	grace time.Duration
}

// sync lists the pods of the API server. It assigns new pods to nodes, runs the pods that do not
// run yet, and ends the pods that somebody has deleted.
func (k *kubelets) sync(ctx context.Context) error {
	nodes, err := k.cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	list, err := k.cluster.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	seen := map[types.UID]bool{}
	for i := range list.Items {
		p := &list.Items[i]
		seen[p.UID] = true
		running := k.pods[p.UID]
		n := k.cluster.Node(p.Spec.NodeName)
		switch {
		case p.Spec.NodeName == "" && p.DeletionTimestamp == nil:
			k.bind(ctx, p, nodes.Items, list.Items)
		case p.DeletionTimestamp != nil && running == nil:
			k.forget(ctx, p)
		case p.DeletionTimestamp != nil:
			running.end(graceOf(p))
		case running == nil && n != nil:
			running = &kubeletPod{stop: make(chan struct{})}
			k.pods[p.UID] = running
			k.running.Go(func() { k.run(ctx, n, p, running) })
		}
	}
	for uid, running := range k.pods {
		if !seen[uid] {
			running.end(0)
			delete(k.pods, uid)
		}
	}
	return nil
}

// end closes stop once.
func (p *kubeletPod) end(grace time.Duration) {
	select {
	case <-p.stop:
	default:
		p.grace = grace
		close(p.stop)
	}
}

func graceOf(p *corev1.Pod) time.Duration {
	if p.DeletionGracePeriodSeconds == nil {
		return 0
	}
	return time.Duration(*p.DeletionGracePeriodSeconds) * time.Second
}

// bind assigns a pod to the node that chooseNode returns. If chooseNode finds no node, bind does
// nothing.
func (k *kubelets) bind(ctx context.Context, p *corev1.Pod, nodes []corev1.Node, pods []corev1.Pod) {
	node := chooseNode(p, nodes, pods)
	if node == "" {
		return
	}
	err := k.cluster.Client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err == nil {
		p.Spec.NodeName = node // counts for the next pod in this round
	}
}

// chooseNode returns the name of the node for a pod, or "". A pod of a DaemonSet names its node.
// For any other pod, chooseNode considers the nodes that are Ready and not cordoned, and returns
// the node with the fewest pods of the same app.
func chooseNode(p *corev1.Pod, nodes []corev1.Node, pods []corev1.Pod) string {
	best, fewest := "", 0
	named := daemonNode(p)
	for _, n := range nodes {
		if named != "" && n.Name != named || named == "" && (n.Spec.Unschedulable || !ready(n)) {
			continue
		}
		on := 0
		for _, other := range pods {
			if other.Spec.NodeName == n.Name && other.Namespace == p.Namespace && other.Labels[AppLabel] == p.Labels[AppLabel] {
				on++
			}
		}
		if best == "" || on < fewest {
			best, fewest = n.Name, on
		}
	}
	return best
}

func ready(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// daemonNode returns the name of the node in the affinity that the DaemonSet controller writes into
// its pods. It returns "" for other pods.
func daemonNode(p *corev1.Pod) string {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == "metadata.name" && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

// forget deletes the object of a pod that no longer runs.
func (k *kubelets) forget(ctx context.Context, p *corev1.Pod) {
	now := int64(0)
	_ = k.cluster.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
}

// run runs a pod until somebody deletes the pod. If the program of the pod ends before that, run
// starts the program again.
func (k *kubelets) run(ctx context.Context, n *Node, p *corev1.Pod, running *kubeletPod) {
	m, ip := n.Machine, n.Addr
	if !p.Spec.HostNetwork {
		var err error
		if m, err = n.newPodMachine(k.cluster.Name + "-" + p.Name); err != nil {
			k.say(ctx, p, n.Addr, n.Addr, false, err)
			select {
			case <-ctx.Done():
			case <-running.stop:
				k.forget(ctx, p)
			}
			return
		}
		ip = m.Addr
		defer func() { _ = m.remove() }()
	}
	var server *Process
	said, wasReady := false, false
	for ctx.Err() == nil {
		if server == nil || !server.Running() {
			var err error
			if server, err = k.start(ctx, n, m, p, ip); err != nil {
				k.say(ctx, p, ip, n.Addr, false, err)
			}
		}
		if now := server != nil && probe(ctx, n, p, ip); !said || now != wasReady {
			said = k.say(ctx, p, ip, n.Addr, now, nil)
			wasReady = now
		}
		select {
		case <-ctx.Done():
		case <-time.After(kubeletInterval):
		case <-running.stop:
			stopPod(ctx, server, p, running.grace)
			k.forget(ctx, p)
			return
		}
	}
}

// stopPod waits for the time in preStop.sleep, and then ends the program. Both together last at
// most as long as the grace period.
func stopPod(ctx context.Context, server *Process, p *corev1.Pod, grace time.Duration) {
	if server == nil {
		return
	}
	defer server.Kill()
	wait := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		case <-server.done:
		}
	}
	if h := p.Spec.Containers[0].Lifecycle; grace > 0 && h != nil && h.PreStop != nil && h.PreStop.Sleep != nil {
		before := time.Duration(h.PreStop.Sleep.Seconds) * time.Second
		wait(min(before, grace))
		grace -= before
	}
	_ = server.Signal(syscall.SIGTERM)
	wait(max(grace, 0))
}

// newPodMachine makes the network namespace of a pod with the next address of the node.
func (n *Node) newPodMachine(name string) (*Machine, error) {
	n.mu.Lock()
	addr, err := n.Plan.Pod(n.made)
	n.made++
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return n.podMachine(name, addr)
}

// start starts the program of the first container.
func (k *kubelets) start(ctx context.Context, n *Node, m *Machine, p *corev1.Pod, ip netip.Addr) (*Process, error) {
	c := p.Spec.Containers[0]
	name := "pod-" + k.cluster.Name + "-" + p.Name
	if !strings.Contains(c.Image, "headgate") {
		port := int32(PodPort)
		if len(c.Ports) > 0 {
			port = c.Ports[0].ContainerPort
		}
		return m.Start(name, "e2e", "pod", "-listen", fmt.Sprintf(":%d", port),
			"-name", p.Name, "-app", p.Labels[AppLabel], "-node", n.Name, "-cluster", k.cluster.Name)
	}
	dir, err := k.accountFiles(ctx, p)
	if err != nil {
		return nil, err
	}
	// unshare gives the program its own mounts.
	script := "set -e; "
	for _, mount := range c.VolumeMounts {
		switch {
		case mount.MountPath == accountDir:
		case slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name && v.EmptyDir != nil }):
			script += fmt.Sprintf("mkdir -p '%[1]s'; mount -t tmpfs pod '%[1]s'; ", mount.MountPath)
		default:
			script += fmt.Sprintf("mkdir -p '%s'; ", mount.MountPath)
		}
	}
	script += fmt.Sprintf("mkdir -p %[1]s; mount --bind '%[2]s' %[1]s; exec \"$@\"", accountDir, dir)
	argv := append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, k.cluster.lab.lookPath(c.Command[0]))
	return m.StartEnv(name, k.env(p, c, n, ip), append(append(argv, c.Command[1:]...), c.Args...)...)
}

// accountDir is the directory in which programs in pods look for the token of their account.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// accountFiles writes the files that a pod expects in accountDir, and returns the directory that
// contains them.
func (k *kubelets) accountFiles(ctx context.Context, p *corev1.Pod) (string, error) {
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	granted, err := k.cluster.Client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, p.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("lab: token of %s/%s: %w", p.Namespace, p.Spec.ServiceAccountName, err)
	}
	var dir string
	for name, text := range map[string]string{"token": granted.Status.Token, "ca.crt": string(k.cluster.ca), "namespace": p.Namespace} {
		path, err := k.cluster.write(filepath.Join("pods", string(p.UID), name), []byte(text))
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(path)
	}
	return dir, nil
}

// env returns the environment of a container.
func (k *kubelets) env(p *corev1.Pod, c corev1.Container, n *Node, ip netip.Addr) []string {
	env := []string{
		"KUBERNETES_SERVICE_HOST=" + k.cluster.Plan.Control.String(),
		fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", apiPort),
		"KUBECONFIG=",
	}
	fields := map[string]string{
		"spec.nodeName": n.Name, "metadata.name": p.Name, "metadata.namespace": p.Namespace,
		"status.podIP": ip.String(), "status.hostIP": n.Addr.String(),
	}
	for _, v := range c.Env {
		value := v.Value
		if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
			value = fields[v.ValueFrom.FieldRef.FieldPath]
		}
		env = append(env, v.Name+"="+value)
	}
	return env
}

// probe reports whether the readiness probe of the first container succeeds. If the container has
// no HTTP probe, probe sends GET / to the first port of the container.
func probe(ctx context.Context, n *Node, p *corev1.Pod, ip netip.Addr) bool {
	c := p.Spec.Containers[0]
	path, port := "/", int32(PodPort)
	if len(c.Ports) > 0 {
		port = c.Ports[0].ContainerPort
	}
	if r := c.ReadinessProbe; r != nil && r.HTTPGet != nil {
		path = r.HTTPGet.Path
		port = r.HTTPGet.Port.IntVal
		for _, named := range c.Ports {
			if named.Name == r.HTTPGet.Port.StrVal {
				port = named.ContainerPort
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", ip, port, path), nil)
	if err != nil {
		return false
	}
	res, err := n.Client().Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode < http.StatusBadRequest
}

// say writes the status of a pod, and reports whether the API server has stored it. If failure is
// not nil, the pod is Pending, and its status has the text of failure as the message.
func (k *kubelets) say(ctx context.Context, p *corev1.Pod, ip, host netip.Addr, isReady bool, failure error) bool {
	condition, phase, message := corev1.ConditionFalse, corev1.PodRunning, ""
	if isReady {
		condition = corev1.ConditionTrue
	}
	if failure != nil {
		phase, message = corev1.PodPending, failure.Error()
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: phase, Message: message, StartTime: &now,
		PodIP: ip.String(), PodIPs: []corev1.PodIP{{IP: ip.String()}},
		HostIP: host.String(), HostIPs: []corev1.HostIP{{IP: host.String()}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: p.Spec.Containers[0].Name, Image: p.Spec.Containers[0].Image, Ready: isReady,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: condition, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: condition, LastTransitionTime: now},
		},
	}})
	if err == nil {
		_, err = k.cluster.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	return err == nil || apierrors.IsNotFound(err)
}
