package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestManifestsGrantNoMoreThanIsUsed(t *testing.T) {
	var account corev1.ServiceAccount
	var role rbacv1.ClusterRole
	var binding rbacv1.ClusterRoleBinding
	clitest.Manifest(t, "kubernetes/rbac.yaml", &account, &role, &binding)
	require.Equal(t, []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"nodes", "services"}, Verbs: []string{"list", "watch"},
	}}, role.Rules)
	require.Equal(t, metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}, role.TypeMeta)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}, binding.RoleRef)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}, binding.Subjects)
	require.Equal(t, "headgate-nodeagent", account.Name)

	var namespace corev1.Namespace
	clitest.Manifest(t, "kubernetes/namespace.yaml", &namespace)
	require.Equal(t, account.Namespace, namespace.Name)
}

func TestDaemonSetRunsTheAgent(t *testing.T) {
	var set appsv1.DaemonSet
	clitest.Manifest(t, "kubernetes/daemonset.yaml", &set)
	require.Equal(t, set.Spec.Selector.MatchLabels, set.Spec.Template.Labels)
	require.Equal(t, "headgate-nodeagent", set.Namespace)
	require.Equal(t, []string{program}, set.Spec.Template.Spec.Containers[0].Command)
	pod := set.Spec.Template.Spec
	require.Equal(t, "headgate-nodeagent", pod.ServiceAccountName)
	require.True(t, pod.HostNetwork)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]

	// The agent parses the settings of the DaemonSet.
	environment := map[string]string{}
	for _, e := range c.Env {
		environment[e.Name] = e.Value
		if e.ValueFrom != nil {
			require.Equal(t, "spec.nodeName", e.ValueFrom.FieldRef.FieldPath)
			environment[e.Name] = "node-a"
		}
	}
	stderr := &clitest.Output{}
	used := map[string]bool{}
	s, code, done := parseSettings(cli.Invocation{Args: c.Args, Stderr: stderr, LookupEnv: func(name string) (string, bool) {
		value, ok := environment[name]
		used[name] = ok
		return value, ok
	}})
	require.False(t, done, "%d: %s", code, stderr)
	for name := range environment {
		require.True(t, used[name], "%s is not a setting of the agent", name)
	}
	require.Equal(t, "node-a", s.rules.Node)
	require.Equal(t, 0.3, s.rules.MaxDrain)
	require.Equal(t, 10*time.Second, s.rules.HoldDown)
	require.Equal(t, 2500*time.Millisecond, s.rules.ZeroWeightDelay)
	require.Empty(t, s.dir)
	require.Empty(t, s.kubeconfig, "the pod's own account")

	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	require.EqualValues(t, s.rules.Port, ports["agent"])
	addrs := strings.Fields(environment["HEADGATE_ADMIN"])
	_, admin, err := splitListen(addrs[0])
	require.NoError(t, err)
	require.EqualValues(t, admin, ports["admin"])
	socket, ok := strings.CutPrefix(addrs[1], "unix:")
	require.True(t, ok, "the drain command needs a Unix socket")
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, intstr.FromString("admin"), probe.HTTPGet.Port)
	}
	require.Equal(t, "/healthz", c.StartupProbe.HTTPGet.Path)

	// The pod has as few rights as possible.
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	require.NotZero(t, *pod.SecurityContext.RunAsUser)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.GreaterOrEqual(t, s.rules.Port, uint16(1024), "a lower port needs root")
	require.Nil(t, c.Lifecycle)
	require.Len(t, s.files, 1)
	require.Len(t, c.VolumeMounts, 2)
	require.Equal(t, c.VolumeMounts[1].MountPath, filepath.Dir(socket))
	require.Equal(t, pod.Volumes[1].Name, c.VolumeMounts[1].Name)
	require.NotNil(t, pod.Volumes[1].EmptyDir)
	require.True(t, c.VolumeMounts[0].ReadOnly)
	require.True(t, strings.HasPrefix(s.files[0], c.VolumeMounts[0].MountPath+"/"))
	require.Equal(t, pod.Volumes[0].HostPath.Path, c.VolumeMounts[0].MountPath)
	require.False(t, c.Resources.Limits.Memory().IsZero())
	require.True(t, c.Resources.Limits.Cpu().IsZero(), "a CPU limit would delay answers")
	require.Equal(t, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations)
}

// kustomization has the fields of a kustomization.yaml that the agent's manifests use.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []string `json:"resources"`
	Images          []struct {
		Name, NewName, NewTag string
	} `json:"images"`
	Patches []struct {
		Target struct{ Kind, Name string } `json:"target"`
		Path   string                      `json:"path"`
	} `json:"patches"`
}

func TestKustomizations(t *testing.T) {
	var base, component kustomization
	clitest.Manifest(t, "kubernetes/kustomization.yaml", &base)
	var set appsv1.DaemonSet
	clitest.Manifest(t, "kubernetes/daemonset.yaml", &set)
	require.Equal(t, set.Spec.Template.Spec.Containers[0].Image, base.Images[0].Name)

	clitest.Manifest(t, "kubernetes/drain-on-stop/kustomization.yaml", &component)
	require.Equal(t, "Component", component.Kind)
	require.Equal(t, set.Name, component.Patches[0].Target.Name)
	text, err := os.ReadFile(filepath.Join("kubernetes", "drain-on-stop", component.Patches[0].Path))
	require.NoError(t, err)
	var patch appsv1.DaemonSet
	require.NoError(t, yaml.UnmarshalStrict(bytes.ReplaceAll(text, []byte("    $patch: replace\n"), nil), &patch))
	require.Equal(t, set.Name, patch.Name)
	require.Equal(t, set.Spec.Template.Spec.Containers[0].Name, patch.Spec.Template.Spec.Containers[0].Name)

	// The preStop hook runs a command of the agent, and ends before Kubernetes kills the pod.
	command := patch.Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Exec.Command
	require.Equal(t, []string{"nodeagent", "drain", "-timeout"}, command[:3])
	wait, err := time.ParseDuration(command[3])
	require.NoError(t, err)
	require.Less(t, int64(wait.Seconds()), *patch.Spec.Template.Spec.TerminationGracePeriodSeconds)
}

// TestUnits checks that the agent accepts the command in its systemd unit.
func TestUnits(t *testing.T) {
	clitest.CheckUnits(t)
	unit := clitest.ReadUnit(t, "headgate-nodeagent.service")
	command := unit.Command(t)
	stderr := &clitest.Output{}
	s, code, done := parseSettings(cli.Invocation{Args: command[1:], Stderr: stderr})
	require.False(t, done, "%d: %s", code, stderr)
	require.Equal(t, "notify", unit.Get(t, "Type"))
	dir := "/run/" + unit.Get(t, "RuntimeDirectory")
	require.Equal(t, []string{dir + "/drain"}, s.files)
	require.Equal(t, "unix:"+dir+"/admin.sock", command[len(command)-1])
	require.Equal(t, "true", unit.Get(t, "RuntimeDirectoryPreserve"), "the drain file must survive a restart")
}
