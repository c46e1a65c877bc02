package main

import (
	"path/filepath"
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
)

// parse checks that the program accepts the settings of a Deployment in a directory, and that it
// uses all of them. It returns the container, the command, and the settings.
func parse(t *testing.T, dir string) (corev1.PodTemplateSpec, command, *settings) {
	t.Helper()
	var deployment appsv1.Deployment
	var config corev1.ConfigMap
	clitest.Manifest(t, filepath.Join("kubernetes", dir, "deployment.yaml"), &deployment)
	clitest.Manifest(t, filepath.Join("kubernetes", dir, "settings.yaml"), &config)
	template := deployment.Spec.Template
	require.Equal(t, deployment.Spec.Selector.MatchLabels, template.Labels)
	c := template.Spec.Containers[0]
	require.Equal(t, []string{program, dir}, c.Command)
	require.Empty(t, c.Args)
	require.Equal(t, config.Name, c.EnvFrom[0].ConfigMapRef.Name)
	environment := config.Data
	for _, e := range c.Env {
		environment[e.Name] = e.Value
	}
	used := map[string]bool{}
	cmd, s := map[string]command{"serve": &serve{}, "protect": &protectCommand{}}[dir], &settings{}
	fs := cli.NewFlagSet(program)
	s.register(fs)
	cmd.register(fs)
	_, done := cli.Invocation{Stderr: &clitest.Output{}, LookupEnv: func(name string) (string, bool) {
		value, ok := environment[name]
		used[name] = ok
		return value, ok
	}}.Parse(fs)
	require.False(t, done)
	require.NoError(t, s.check(dir))
	require.NoError(t, cmd.check(nil))
	for name := range environment {
		require.True(t, used[name], "%s is not a setting", name)
	}
	require.Equal(t, kubeconn.InCluster, s.conn)
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, intstr.FromString("admin"), probe.HTTPGet.Port)
	}
	// The pod fulfils the level "restricted".
	security := template.Spec.SecurityContext
	require.True(t, *security.RunAsNonRoot)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.False(t, template.Spec.HostNetwork)
	require.False(t, c.Resources.Limits.Memory().IsZero())
	require.True(t, *template.Spec.AutomountServiceAccountToken, "the accounts mount no token by default")
	return template, cmd, s
}

func TestDeploymentOfServe(t *testing.T) {
	template, cmd, _ := parse(t, "serve")
	require.Equal(t, ":9711", cmd.(*serve).api.Listen)
	require.Equal(t, "headgate-nodegate", template.Spec.ServiceAccountName)
	require.Equal(t, "headgate-nodegate-token", template.Spec.Volumes[0].Secret.SecretName)
	require.Greater(t, *template.Spec.TerminationGracePeriodSeconds, int64(stopTimeout.Seconds()))
	var service corev1.Service
	var budget policyv1.PodDisruptionBudget
	clitest.Manifest(t, "kubernetes/serve/service.yaml", &service)
	clitest.Manifest(t, "kubernetes/serve/pdb.yaml", &budget)
	require.Equal(t, template.Labels, service.Spec.Selector)
	require.Equal(t, template.Labels, budget.Spec.Selector.MatchLabels)
	require.Equal(t, intstr.FromInt32(1), *budget.Spec.MaxUnavailable)
}

func TestDeploymentOfProtect(t *testing.T) {
	template, cmd, _ := parse(t, "protect")
	require.Contains(t, cmd.(*protectCommand).selectors, toolKarpenter)
	require.Equal(t, "headgate-nodegate-protect", template.Spec.ServiceAccountName)
	require.GreaterOrEqual(t, *template.Spec.TerminationGracePeriodSeconds, int64(30), "Run needs up to 20 s to protect all nodes")
}

func TestManifestsOfProtectGrantNoMoreThanIsUsed(t *testing.T) {
	var account corev1.ServiceAccount
	var cluster rbacv1.ClusterRole
	var clusterBinding rbacv1.ClusterRoleBinding
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	clitest.Manifest(t, "kubernetes/protect/rbac.yaml", &account, &cluster, &clusterBinding, &role, &binding)
	require.Equal(t, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}},
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"cluster.x-k8s.io"}, Resources: []string{"machines"}, Verbs: []string{"list", "patch"}},
	}, cluster.Rules)
	require.Equal(t, []rbacv1.PolicyRule{
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "create", "update", "delete"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "create", "delete"}},
	}, role.Rules)
	require.Equal(t, account.Name, clusterBinding.Subjects[0].Name)
	require.Equal(t, account.Name, binding.Subjects[0].Name)
	require.Equal(t, account.Namespace, role.Namespace)
}

func TestKustomizations(t *testing.T) {
	for _, dir := range []string{"serve", "protect"} {
		var base struct {
			metav1.TypeMeta `json:",inline"`
			Namespace       string                                   `json:"namespace"`
			Resources       []string                                 `json:"resources"`
			Images          []struct{ Name, NewName, NewTag string } `json:"images"`
		}
		clitest.Manifest(t, filepath.Join("kubernetes", dir, "kustomization.yaml"), &base)
		files, err := filepath.Glob(filepath.Join("kubernetes", dir, "*.yaml"))
		require.NoError(t, err)
		for _, file := range files {
			if name := filepath.Base(file); name != "kustomization.yaml" {
				require.Contains(t, base.Resources, name)
			}
		}
		template, _, _ := parse(t, dir)
		require.Equal(t, template.Spec.Containers[0].Image, base.Images[0].Name)
	}
}
