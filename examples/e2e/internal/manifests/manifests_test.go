package manifests

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const examples = "../../.."

// noWorkload lists the programs whose kustomizations run no pods, with the reasons.
var noWorkload = map[string]string{
	"drill":      "a command that operators run",
	"e2e":        "a test",
	"kubeapp":    "a command that operators run",
	"quickstart": "a demonstration on one machine",
	"terminator": "it reloads the HAProxy of an edge machine; a new pod would end the connections of that HAProxy",
}

// exceptions lists the properties that a workload may lack, with the reasons. A workload that lacks
// another property fails the test, and so does an exception without need.
var exceptions = map[string]map[string]string{
	"DaemonSet headgate-nodeagent": {
		"budget":     "kubectl drain ignores the pods of a DaemonSet",
		"spread":     "a DaemonSet runs one pod on each node",
		"policy":     "a NetworkPolicy does not apply to pods with hostNetwork",
		"restricted": "HAProxy asks the agent at the address of the node, so the agent needs hostNetwork; it reads one directory of the node",
	},
	"DaemonSet node-dns": {
		"budget":     "kubectl drain ignores the pods of a DaemonSet",
		"spread":     "a DaemonSet runs one pod on each node",
		"policy":     "a NetworkPolicy does not apply to pods with hostNetwork",
		"restricted": "pods ask at the address of the node, so CoreDNS needs hostNetwork, and port 53 needs root",
		"probes":     "CoreDNS has no listener with the name admin",
		"command":    "the image of CoreDNS has an entry point",
		"image":      "the image of CoreDNS is published",
		"monitoring": "its metrics have no port with a name, because a declared port would block the second pod of an update",
	},
	"Deployment headgate-nodegate-protect": {
		"budget": "it has one replica; a budget would block the drain of its node",
		"spread": "it has one replica",
	},
	"Deployment frontproxy-tracks-eu-1a": {
		"zones":     "its proxies serve one zone",
		"namespace": "the namespace is that of the service",
	},
}

// workload is a Deployment or a DaemonSet with the objects of its kustomization.
type workload struct {
	program, name, namespace string
	daemon                   bool
	replicas                 int32
	pod                      corev1.PodTemplateSpec
	others                   objects
	monitored                objects // with the component monitoring
	job                      string  // the job of Prometheus that scrapes its port admin
	haproxyJob               string  // the job of Prometheus that scrapes the HAProxy in its pods; empty without HAProxy
}

type objects []*unstructured.Unstructured

// all returns the objects of a kind in a namespace. It fails for fields that the type does not
// have.
func all[T any](t *testing.T, list objects, kind, namespace string) (typed []T) {
	t.Helper()
	for _, o := range list {
		if o.GetKind() != kind || o.GetNamespace() != namespace {
			continue
		}
		var v T
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &v, true), o.GetName())
		typed = append(typed, v)
	}
	return typed
}

func selects(t *testing.T, selector *metav1.LabelSelector, set map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	return !s.Empty() && s.Matches(labels.Set(set))
}

func ports(c corev1.Container) map[string]corev1.ContainerPort {
	named := map[string]corev1.ContainerPort{}
	for _, p := range c.Ports {
		named[p.Name] = p
	}
	return named
}

func deref(p *corev1.Protocol) corev1.Protocol {
	if p == nil {
		return ""
	}
	return *p
}

func protocol(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

// properties are what each workload must have. A property that holds returns nil.
var properties = map[string]func(*testing.T, *workload) error{
	"budget": func(t *testing.T, w *workload) error {
		for _, b := range all[policyv1.PodDisruptionBudget](t, w.others, "PodDisruptionBudget", w.namespace) {
			if selects(t, b.Spec.Selector, w.pod.Labels) {
				if w.replicas < 2 || b.Spec.MaxUnavailable == nil || *b.Spec.MaxUnavailable != intstr.FromInt32(1) || b.Spec.UnhealthyPodEvictionPolicy == nil {
					return errors.New("the budget can block the drain of a node")
				}
				return nil
			}
		}
		return errors.New("no PodDisruptionBudget")
	},
	"spread": func(t *testing.T, w *workload) error { return spread(t, w, corev1.LabelHostname) },
	"zones": func(t *testing.T, w *workload) error {
		if w.replicas < 2 || w.daemon {
			return nil // see spread
		}
		return spread(t, w, corev1.LabelTopologyZone)
	},
	"policy": func(t *testing.T, w *workload) error {
		if w.pod.Spec.HostNetwork {
			return errors.New("hostNetwork")
		}
		declared := ports(w.pod.Spec.Containers[0])
		open := map[string]bool{}
		for _, p := range all[networkingv1.NetworkPolicy](t, w.others, "NetworkPolicy", w.namespace) {
			if !selects(t, &p.Spec.PodSelector, w.pod.Labels) {
				continue
			}
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					name := port.Port.StrVal
					if d := declared[name]; d.ContainerPort == 0 || protocol(d.Protocol) != protocol(deref(port.Protocol)) {
						return fmt.Errorf("the NetworkPolicy names the port %q", name)
					}
					if name == "admin" && len(rule.From) == 0 {
						return errors.New("everybody can reach the admin listener")
					}
					open[name] = true
				}
			}
		}
		if len(open) != len(declared) {
			return fmt.Errorf("the NetworkPolicies open %v, and the container has %v", open, declared)
		}
		return nil
	},
	// A Service offers each port except those for operators and balancers.
	"service": func(t *testing.T, w *workload) error {
		if w.pod.Spec.HostNetwork {
			return nil // clients connect to the node
		}
		declared := ports(w.pod.Spec.Containers[0])
		delete(declared, "admin")
		delete(declared, "monitor")
		for _, s := range all[corev1.Service](t, w.others, "Service", w.namespace) {
			if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.pod.Labels)) || s.Spec.ClusterIP == corev1.ClusterIPNone {
				continue
			}
			for _, p := range s.Spec.Ports {
				if d := declared[p.TargetPort.StrVal]; d.ContainerPort == 0 || protocol(d.Protocol) != protocol(p.Protocol) {
					return fmt.Errorf("the Service %s names the port %q", s.Name, p.TargetPort.StrVal)
				}
				delete(declared, p.TargetPort.StrVal)
			}
		}
		if len(declared) > 0 {
			return fmt.Errorf("no Service offers the ports %v", declared)
		}
		return nil
	},
	// The scenario "manifests" lets the API server check the whole standard.
	"restricted": func(_ *testing.T, w *workload) error {
		s := w.pod.Spec
		for _, v := range s.Volumes {
			if v.HostPath != nil {
				return errors.New("hostPath")
			}
		}
		if c := s.SecurityContext; s.HostNetwork || c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot || c.RunAsUser == nil || *c.RunAsUser == 0 {
			return errors.New("root, or hostNetwork")
		}
		return nil
	},
	"container": func(_ *testing.T, w *workload) error {
		for _, c := range slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers) {
			s := c.SecurityContext
			if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
				s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				return fmt.Errorf("container %s: allowPrivilegeEscalation, readOnlyRootFilesystem or capabilities", c.Name)
			}
		}
		if s := w.pod.Spec.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			return errors.New("seccompProfile")
		}
		return nil
	},
	"namespace": func(t *testing.T, w *workload) error {
		level := "restricted"
		if exceptions[w.name]["restricted"] != "" {
			level = "privileged"
		}
		for _, n := range all[corev1.Namespace](t, w.others, "Namespace", "") {
			if n.Name == w.namespace && n.Labels["pod-security.kubernetes.io/enforce"] == level {
				return nil
			}
		}
		return fmt.Errorf("no Namespace %s with the level %s", w.namespace, level)
	},
	"probes": func(_ *testing.T, w *workload) error {
		c := w.pod.Spec.Containers[0]
		for path, probes := range map[string][]*corev1.Probe{"/healthz": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
			for _, p := range probes {
				if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port != intstr.FromString("admin") {
					return fmt.Errorf("no probe of %s at the port admin", path)
				}
			}
		}
		if ports(c)["admin"].ContainerPort == 0 {
			return errors.New("no port admin")
		}
		return nil
	},
	// The test of each binary compares this time with the time that its drain needs.
	"grace": func(_ *testing.T, w *workload) error {
		if s := w.pod.Spec.TerminationGracePeriodSeconds; s == nil || *s == 0 {
			return errors.New("no terminationGracePeriodSeconds")
		}
		return nil
	},
	"resources": func(_ *testing.T, w *workload) error {
		for _, c := range slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers) {
			r := c.Resources
			if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
				return fmt.Errorf("container %s: requests or the limit of memory", c.Name)
			}
			if !r.Limits.Cpu().IsZero() {
				return fmt.Errorf("container %s: a limit of CPU stops a program in the middle of a request", c.Name)
			}
		}
		return nil
	},
	"links": func(_ *testing.T, w *workload) error {
		if w.pod.Spec.EnableServiceLinks == nil || *w.pod.Spec.EnableServiceLinks {
			return errors.New("a Service could set a variable HEADGATE_...")
		}
		return nil
	},
	"command": func(_ *testing.T, w *workload) error {
		if c := w.pod.Spec.Containers[0]; len(c.Command) == 0 || c.Command[0] != w.program {
			return fmt.Errorf("the command is %q; the image has no entry point", c.Command)
		}
		return nil
	},
	"image": func(_ *testing.T, w *workload) error {
		if image := w.pod.Spec.Containers[0].Image; !strings.HasPrefix(image, "registry.invalid/headgate") || !strings.HasSuffix(image, ":set-me") {
			return fmt.Errorf("the kustomization does not set the image %s", image)
		}
		return nil
	},
	// Prometheus finds the port admin of each pod through one Service, and the HAProxy in the pod, whose
	// port is called monitor, through another one.
	"monitoring": func(t *testing.T, w *workload) error {
		if w.monitored == nil {
			return errors.New("no component monitoring")
		}
		found := 0
		for _, o := range w.monitored {
			if o.GetKind() != "ServiceMonitor" || o.GetNamespace() != w.namespace {
				continue
			}
			var m serviceMonitor
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &m, true))
			for _, s := range all[corev1.Service](t, w.monitored, "Service", w.namespace) {
				if selects(t, &m.Spec.Selector, s.Labels) && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.pod.Labels)) {
					require.True(t, s.Spec.PublishNotReadyAddresses)
					require.Equal(t, corev1.ClusterIPNone, s.Spec.ClusterIP)
					require.Len(t, s.Spec.Ports, 1)
					require.Equal(t, m.Spec.Endpoints[0].Port, s.Spec.Ports[0].Name)
					target := s.Spec.Ports[0].TargetPort.String()
					require.Equal(t, ports(w.pod.Spec.Containers[0])[target].ContainerPort, s.Spec.Ports[0].Port)
					job := s.Labels[m.Spec.JobLabel]
					if target == "monitor" {
						require.Empty(t, w.haproxyJob)
						w.haproxyJob = job
						continue
					}
					require.Equal(t, "admin", target)
					require.True(t, job == w.program || strings.HasPrefix(job, w.program+"-"), job)
					w.job = job
					drops, err := m.dropped()
					require.NoError(t, err)
					require.Equal(t, colliding(t, w.program), drops, "%s: the labels that labeldrop must remove", m.Name)
					found++
				}
			}
		}
		if found != 1 {
			return fmt.Errorf("%d Services with a ServiceMonitor select the pods", found)
		}
		want := ""
		if _, ok := ports(w.pod.Spec.Containers[0])["monitor"]; ok {
			want = "front-haproxy" // the name in the dashboards
		}
		if w.haproxyJob != want {
			return fmt.Errorf("the job for HAProxy is %q, want %q", w.haproxyJob, want)
		}
		return nil
	},
}

// serviceMonitor has the fields of a ServiceMonitor that the components use.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel  string               `json:"jobLabel"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port        string `json:"port"`
			Relabelings []struct {
				Action string `json:"action"`
				Regex  string `json:"regex"`
			} `json:"relabelings"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// targetLabels are the labels that the Prometheus Operator gives every series of a pod. If a metric
// has a label of the same name, Prometheus renames the label of the metric to exported_*.
var targetLabels = []string{"container", "endpoint", "namespace", "pod", "service"}

// dropped returns those of the targetLabels that the ServiceMonitor removes.
func (m serviceMonitor) dropped() (names []string, err error) {
	for _, r := range m.Spec.Endpoints[0].Relabelings {
		if r.Action != "labeldrop" {
			return nil, fmt.Errorf("the test does not know the action %q", r.Action)
		}
		expr, err := regexp.Compile("^(?:" + r.Regex + ")$")
		if err != nil {
			return nil, err
		}
		for _, label := range targetLabels {
			if expr.MatchString(label) {
				names = append(names, label)
			}
		}
	}
	return names, nil
}

// colliding returns the names in targetLabels that are also labels of metrics of the program.
// METRICS.md lists the labels of all metrics.
func colliding(t *testing.T, program string) (names []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(examples, "METRICS.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## "+program+"\n")
	require.True(t, found, program)
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `headgate_\\w+` \\|[^|]*\\|[^|]*\\|([^|]*)\\|").FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, rows, program)
	for _, label := range targetLabels {
		if slices.ContainsFunc(rows, func(row []string) bool { return strings.Contains(row[1], "`"+label+"`") }) {
			names = append(names, label)
		}
	}
	return names
}

func spread(t *testing.T, w *workload, key string) error {
	for _, c := range w.pod.Spec.TopologySpreadConstraints {
		if c.TopologyKey == key && selects(t, c.LabelSelector, w.pod.Labels) {
			return nil
		}
	}
	return fmt.Errorf("no topologySpreadConstraint for %s", key)
}

// workloads renders a kustomization: without components, and with all of them.
func workloads(t *testing.T, b Base) (list []*workload) {
	t.Helper()
	render := func(components ...string) objects {
		rendered, err := b.Render(components...)
		require.NoError(t, err)
		return rendered
	}
	var monitored objects
	for _, c := range b.Components {
		if filepath.Base(c) == "monitoring" {
			monitored = render(c)
		}
	}
	for _, others := range []objects{render(), render(b.Components...)} {
		for _, o := range others {
			w := &workload{program: b.Program, namespace: o.GetNamespace(), others: others, monitored: monitored}
			w.name = o.GetKind() + " " + o.GetName()
			var selector *metav1.LabelSelector
			for _, d := range all[appsv1.Deployment](t, objects{o}, "Deployment", w.namespace) {
				w.replicas, w.pod, selector = *d.Spec.Replicas, d.Spec.Template, d.Spec.Selector
			}
			for _, d := range all[appsv1.DaemonSet](t, objects{o}, "DaemonSet", w.namespace) {
				w.daemon, w.pod, selector = true, d.Spec.Template, d.Spec.Selector
			}
			if selector != nil {
				require.True(t, selects(t, selector, w.pod.Labels), w.name)
				list = append(list, w)
			}
		}
	}
	return list
}

// TestWorkloads checks every Deployment and DaemonSet of the examples. A new program needs
// manifests, or an entry in noWorkload.
func TestWorkloads(t *testing.T) {
	bases, err := Find(examples)
	require.NoError(t, err)
	// The Namespace headgate is in the account of nodegate, and not in the base of protect, so that
	// an overlay can have both serve and protect.
	var shared objects
	runs := map[string]bool{}
	var seen []*workload
	for _, b := range bases {
		rendered, err := b.Render()
		require.NoError(t, err)
		for _, o := range rendered {
			if o.GetKind() == "Namespace" && b.Program == "nodegate" {
				shared = append(shared, o)
			}
		}
	}
	for _, b := range bases {
		for _, w := range workloads(t, b) {
			if w.program == "nodegate" {
				w.others = slices.Concat(w.others, shared)
			}
			runs[w.program] = true
			seen = append(seen, w)
		}
	}
	lacking := map[string]map[string]bool{}
	for _, w := range seen {
		for name, check := range properties {
			err := check(t, w)
			if err == nil {
				continue
			}
			if lacking[w.name] == nil {
				lacking[w.name] = map[string]bool{}
			}
			lacking[w.name][name] = true
			if exceptions[w.name][name] == "" {
				t.Errorf("%s of %s: %s: %v", w.name, w.program, name, err)
			}
		}
	}
	for name, list := range exceptions {
		for property := range list {
			if !lacking[name][property] {
				t.Errorf("%s needs no exception for %q", name, property)
			}
		}
	}
	jobs := map[string]bool{"terminator": true, "edge-haproxy": true} // they run on edge machines
	for _, w := range seen {
		jobs[w.job], jobs[w.haproxyJob] = true, true
	}
	rules, err := filepath.Glob(examples + "/*/kubernetes/rules.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, rules)
	for _, file := range rules {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`job="([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
			require.True(t, jobs[m[1]], "%s: no component makes the job %s", file, m[1])
		}
	}
	mains, err := filepath.Glob(examples + "/*/main.go")
	require.NoError(t, err)
	for _, file := range mains {
		program := filepath.Base(filepath.Dir(file))
		require.NotEqual(t, noWorkload[program] != "", runs[program], "%s needs manifests or an entry in noWorkload, not both", program)
		delete(noWorkload, program)
	}
	require.Empty(t, slices.Collect(maps.Keys(noWorkload)))
}

// TestOneOverlayHasAllPrograms checks that one overlay can have the kustomizations and components of
// all programs: no two of them may have the same object, such as a Namespace.
func TestOneOverlayHasAllPrograms(t *testing.T) {
	alternatives := map[string]bool{"nodelocaldns/kubernetes/link-local": true} // to node-address
	bases, err := Find(examples)
	require.NoError(t, err)
	included := map[string]bool{}
	for _, b := range bases {
		var k struct{ Resources []string }
		text, err := os.ReadFile(filepath.Join(b.Dir, "kustomization.yaml"))
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, &k))
		for _, name := range k.Resources {
			included[filepath.Join(b.Dir, name)] = true
		}
	}
	root, err := filepath.Abs(examples)
	require.NoError(t, err)
	var dirs, components []string
	for _, b := range bases {
		name, err := filepath.Rel(root, b.Dir)
		require.NoError(t, err)
		if included[b.Dir] || alternatives[name] {
			continue
		}
		dirs = append(dirs, b.Dir)
		components = append(components, b.Components...)
	}
	rendered, err := Render(dirs, components)
	require.NoError(t, err)
	namespaces := map[string]bool{}
	for _, o := range rendered {
		if o.GetKind() == "Namespace" {
			namespaces[o.GetName()] = true
		}
	}
	for _, name := range []string{"headgate", "headgate-terminator", "headgate-nodeagent"} {
		require.True(t, namespaces[name], name)
	}
}

// TestEveryFileIsUsed checks that kustomizations name every manifest in their directories.
func TestEveryFileIsUsed(t *testing.T) {
	bases, err := Find(examples)
	require.NoError(t, err)
	for _, b := range bases {
		for _, dir := range append([]string{b.Dir}, b.Components...) {
			var k struct {
				Resources []string
				Patches   []struct{ Path string }
			}
			text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
			require.NoError(t, err)
			require.NoError(t, yaml.Unmarshal(text, &k))
			named := map[string]bool{"kustomization.yaml": true}
			for _, name := range k.Resources {
				named[name] = true
			}
			for _, p := range k.Patches {
				named[p.Path] = true
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
			require.NoError(t, err)
			for _, file := range files {
				var object metav1.TypeMeta
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				first, _, _ := bytes.Cut(text, []byte("\n---\n"))
				require.NoError(t, yaml.Unmarshal(first, &object), file)
				if object.Kind != "" { // otherwise it is a file of Prometheus rules
					require.True(t, named[filepath.Base(file)], "no kustomization names %s", file)
				}
			}
		}
	}
}

// TestSettingsAreTested checks that a test of each program parses the settings of its manifests, as
// clitest.Environment does. So each variable of a manifest is a flag of the program.
func TestSettingsAreTested(t *testing.T) {
	bases, err := Find(examples)
	require.NoError(t, err)
	for _, b := range bases {
		for _, w := range workloads(t, b) {
			if exceptions[w.name]["command"] != "" {
				continue // not one of our programs
			}
			text, err := os.ReadFile(filepath.Join(examples, w.program, "kubernetes_test.go"))
			require.NoError(t, err)
			require.Contains(t, string(text), "LookupEnv: ")
		}
	}
}

func TestFindAndRenderErrors(t *testing.T) {
	found, err := Find(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, found)
	_, err = Base{Dir: filepath.Join(t.TempDir(), "missing")}.Render()
	require.ErrorContains(t, err, "missing")
}
