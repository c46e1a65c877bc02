package nodelocaldns

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The tests of the module in the directory coredns run the Corefile. These tests check how the
// manifests start CoreDNS.

func TestDaemonSet(t *testing.T) {
	var namespace corev1.Namespace
	var account corev1.ServiceAccount
	clitest.Manifest(t, "kubernetes/base/namespace.yaml", &namespace, &account)
	var set appsv1.DaemonSet
	clitest.Manifest(t, "kubernetes/base/daemonset.yaml", &set)
	require.Equal(t, namespace.Name, set.Namespace)
	require.Equal(t, set.Spec.Selector.MatchLabels, set.Spec.Template.Labels)
	pod := set.Spec.Template.Spec
	require.Equal(t, account.Name, pod.ServiceAccountName)
	require.False(t, *pod.AutomountServiceAccountToken)
	require.True(t, pod.HostNetwork)
	require.Equal(t, corev1.DNSDefault, pod.DNSPolicy)
	require.Equal(t, "system-node-critical", pod.PriorityClassName)
	require.Equal(t, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations)

	// The scheduler refuses the second pod of an update if the container declares ports.
	update := set.Spec.UpdateStrategy.RollingUpdate
	require.Equal(t, intstr.FromInt32(1), *update.MaxSurge)
	require.Equal(t, intstr.FromInt32(0), *update.MaxUnavailable)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	require.Empty(t, c.Ports)

	require.Equal(t, &corev1.Capabilities{
		Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"},
	}, c.SecurityContext.Capabilities)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)

	require.Equal(t, c.ReadinessProbe.HTTPGet, c.StartupProbe.HTTPGet)
	require.Equal(t, "/ready", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/health", c.LivenessProbe.HTTPGet.Path)
	corefile := read(t, "kubernetes/base/Corefile")
	require.Contains(t, corefile, "ready {$NODE_IP}:"+c.ReadinessProbe.HTTPGet.Port.String())
	require.Contains(t, corefile, "health {$NODE_IP}:"+c.LivenessProbe.HTTPGet.Port.String())

	var used, given []string
	for _, match := range regexp.MustCompile(`\{\$(\w+)\}`).FindAllStringSubmatch(corefile, -1) {
		used = append(used, match[1])
	}
	for _, e := range c.Env {
		given = append(given, e.Name)
	}
	slices.Sort(used)
	slices.Sort(given)
	require.Equal(t, slices.Compact(used), given, "the variables of the Corefile")
}

// The kustomizations name files that exist, and the patch of link-local changes the DaemonSet.
func TestKustomizations(t *testing.T) {
	for _, dir := range []string{"base", "node-address", "link-local"} {
		var k struct {
			Resources          []string
			Patches            []struct{ Path string }
			ConfigMapGenerator []struct {
				Name  string
				Files []string
			}
		}
		dir = filepath.Join("kubernetes", dir)
		require.NoError(t, yaml.Unmarshal([]byte(read(t, filepath.Join(dir, "kustomization.yaml"))), &k))
		files := slices.Clone(k.Resources)
		for _, p := range k.Patches {
			files = append(files, p.Path)
		}
		for _, g := range k.ConfigMapGenerator {
			require.Equal(t, "node-dns", g.Name)
			files = append(files, g.Files...)
		}
		require.NotEmpty(t, files)
		for _, file := range files {
			_, err := os.Stat(filepath.Join(dir, file))
			require.NoError(t, err)
		}
	}

	var base, patch appsv1.DaemonSet
	clitest.Manifest(t, "kubernetes/base/daemonset.yaml", &base)
	clitest.Manifest(t, "kubernetes/link-local/daemonset.yaml", &patch)
	require.Equal(t, base.Name, patch.Name)
	require.Equal(t, base.Namespace, patch.Namespace)
	spec := patch.Spec.Template.Spec
	require.Equal(t, base.Spec.Template.Spec.Containers[0].Name, spec.Containers[0].Name)
	require.Equal(t, []corev1.EnvVar{{Name: "DNS_ADDRESS", Value: "169.254.20.10"}}, spec.Containers[0].Env)
	require.Equal(t, &corev1.Capabilities{
		Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"},
	}, spec.InitContainers[0].SecurityContext.Capabilities)
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}
