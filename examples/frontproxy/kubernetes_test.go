package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
)

func TestManifestsGrantNoMoreThanIsUsed(t *testing.T) {
	var account corev1.ServiceAccount
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	clitest.Manifest(t, "kubernetes/rbac.yaml", &account, &role, &binding)
	require.Equal(t, []rbacv1.PolicyRule{{
		APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"},
	}}, role.Rules)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name}, binding.RoleRef)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name}}, binding.Subjects)
}

func TestDeploymentRunsTheProxy(t *testing.T) {
	var deployment appsv1.Deployment
	var service corev1.Service
	var budget policyv1.PodDisruptionBudget
	var config corev1.ConfigMap
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	clitest.Manifest(t, "kubernetes/service.yaml", &service, &budget)
	clitest.Manifest(t, "kubernetes/policy.yaml", &config)
	template := deployment.Spec.Template
	require.Equal(t, deployment.Spec.Selector.MatchLabels, template.Labels)
	require.Equal(t, service.Spec.Selector, template.Labels)
	require.Equal(t, budget.Spec.Selector.MatchLabels, template.Labels)
	require.Equal(t, "headgate-frontproxy", template.Spec.ServiceAccountName)
	c := template.Spec.Containers[0]

	// The program accepts the settings of the Deployment.
	environment := map[string]string{}
	for _, e := range c.Env {
		environment[e.Name] = e.Value
	}
	used := map[string]bool{"TMPDIR": true}
	stderr := &clitest.Output{}
	s, code, done := parseSettings(cli.Invocation{Args: c.Args, Stderr: stderr, LookupEnv: func(name string) (string, bool) {
		value, ok := environment[name]
		used[name] = ok
		return value, ok
	}})
	require.False(t, done, "%d: %s", code, stderr)
	for name := range environment {
		require.True(t, used[name], "%s is not a setting", name)
	}
	require.Equal(t, kubeconn.InCluster, s.kubeconfig)
	require.Equal(t, s.zone, template.Spec.NodeSelector[corev1.LabelTopologyZone])
	require.Equal(t, s.zone, template.Labels["headgate.dev/zone"])
	require.Equal(t, s.ref.Service, template.Labels["headgate.dev/service"])

	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	require.Equal(t, map[string]int32{"http": 8080, "monitor": 8405, "admin": 9710}, ports)
	require.Equal(t, cli.Strings{":8080"}, s.listen)
	require.Equal(t, cli.Strings{":8405"}, s.exporter)
	require.Equal(t, intstr.FromString("http"), service.Spec.Ports[0].TargetPort)
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, intstr.FromString("admin"), probe.HTTPGet.Port)
	}

	// The drain ends before Kubernetes kills the pod. The hook reads the address from the
	// environment.
	require.Equal(t, []string{program, "drain"}, c.Lifecycle.PreStop.Exec.Command)
	require.Greater(t, *template.Spec.TerminationGracePeriodSeconds, int64((s.drainDelay + 2*s.drainTimeout).Seconds()))
	admin := strings.Fields(environment["HEADGATE_ADMIN"])
	require.Equal(t, ":9710", admin[0])
	socket, ok := strings.CutPrefix(admin[1], "unix:")
	require.True(t, ok)

	// HAProxy, the socket and temporary files share one directory. The policy needs another
	// directory.
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.MountPath] = m.Name
	}
	require.Equal(t, map[string]string{s.out: "run", filepath.Dir(s.policy): "policy"}, mounts)
	require.Equal(t, s.out, environment["TMPDIR"])
	require.Equal(t, s.out, filepath.Dir(socket))
	require.Equal(t, config.Name, template.Spec.Volumes[1].ConfigMap.Name)
	_, err := policy.Parse("policy.yaml", []byte(config.Data[filepath.Base(s.policy)]))
	require.NoError(t, err)

	// The pod fulfils the level "restricted".
	security := template.Spec.SecurityContext
	require.True(t, *security.RunAsNonRoot)
	require.NotZero(t, *security.RunAsUser)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.False(t, template.Spec.HostNetwork)
	require.False(t, c.Resources.Limits.Memory().IsZero())
}

func TestKustomization(t *testing.T) {
	var base struct {
		metav1.TypeMeta `json:",inline"`
		Namespace       string                                   `json:"namespace"`
		Resources       []string                                 `json:"resources"`
		Images          []struct{ Name, NewName, NewTag string } `json:"images"`
	}
	clitest.Manifest(t, "kubernetes/kustomization.yaml", &base)
	for _, file := range base.Resources {
		require.FileExists(t, filepath.Join("kubernetes", file))
	}
	var deployment appsv1.Deployment
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	require.Equal(t, deployment.Spec.Template.Spec.Containers[0].Image, base.Images[0].Name)
	namespace, _, _ := strings.Cut(deployment.Spec.Template.Spec.Containers[0].Env[0].Value, "/")
	require.Equal(t, namespace, base.Namespace, "the Role is for the namespace of the service")
}

// The program has each metric that the rules name. "make test-rules" tests the rules.
func TestRulesNameMetrics(t *testing.T) {
	rules, err := os.ReadFile("kubernetes/rules.yaml")
	require.NoError(t, err)
	code, err := os.ReadFile("metrics.go")
	require.NoError(t, err)
	recorded := map[string]bool{"requests": true, "requests_in_flight": true}
	for _, m := range regexp.MustCompile(`headgate_frontproxy_(\w+)`).FindAllStringSubmatch(string(rules), -1) {
		require.True(t, recorded[m[1]] || strings.Contains(string(code), `"`+m[1]+`"`), m[1])
	}
}
