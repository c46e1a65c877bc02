package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/examples/internal/kubeconn"
)

func TestManifestsGrantNoMoreThanIsUsed(t *testing.T) {
	var account corev1.ServiceAccount
	var role rbacv1.ClusterRole
	var binding rbacv1.ClusterRoleBinding
	clitest.Manifest(t, "kubernetes/rbac.yaml", &account, &role, &binding)
	require.Equal(t, []rbacv1.PolicyRule{{
		APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"},
	}}, role.Rules)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}, binding.RoleRef)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}, binding.Subjects)
	var namespace corev1.Namespace
	clitest.Manifest(t, "kubernetes/namespace.yaml", &namespace)
	require.Equal(t, account.Namespace, namespace.Name)
	require.Equal(t, "restricted", namespace.Labels["pod-security.kubernetes.io/enforce"])
}

func TestDeploymentRunsTheServer(t *testing.T) {
	var deployment appsv1.Deployment
	var service corev1.Service
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	clitest.Manifest(t, "kubernetes/service.yaml", &service)
	require.EqualValues(t, 2, *deployment.Spec.Replicas)
	template := deployment.Spec.Template
	require.Equal(t, deployment.Spec.Selector.MatchLabels, template.Labels)
	require.Equal(t, service.Spec.Selector, template.Labels)
	require.Equal(t, service.Namespace, deployment.Namespace)
	require.Equal(t, "headgate-discovery", template.Spec.ServiceAccountName)
	c := template.Spec.Containers[0]

	// The program accepts the settings of the Deployment.
	environment := map[string]string{}
	for _, e := range c.Env {
		environment[e.Name] = e.Value
	}
	used := map[string]bool{}
	fs := cli.NewFlagSet(program)
	s := register(fs)
	_, done := cli.Invocation{Stderr: &clitest.Output{}, LookupEnv: func(name string) (string, bool) {
		value, ok := environment[name]
		used[name] = ok
		return value, ok
	}}.Parse(fs)
	require.False(t, done)
	require.NoError(t, s.check())
	for name := range environment {
		require.True(t, used[name], "%s is not a setting", name)
	}
	require.Equal(t, kubeconn.InCluster, s.kubeconfig)

	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	require.Equal(t, map[string]int32{"api": 9100, "admin": 9101}, ports)
	require.Equal(t, ":9100", s.api.Listen)
	require.Equal(t, intstr.FromString("api"), service.Spec.Ports[0].TargetPort)
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, intstr.FromString("admin"), probe.HTTPGet.Port)
	}

	// The pod fulfils the level "restricted" of the namespace.
	security := template.Spec.SecurityContext
	require.True(t, *security.RunAsNonRoot)
	require.NotZero(t, *security.RunAsUser)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.False(t, template.Spec.HostNetwork)
	require.Empty(t, template.Spec.Volumes)
	require.False(t, c.Resources.Limits.Memory().IsZero())
	require.Greater(t, *template.Spec.TerminationGracePeriodSeconds, int64(stopTimeout.Seconds()))
}

func TestKustomization(t *testing.T) {
	var base struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []string                                 `json:"resources"`
		Images          []struct{ Name, NewName, NewTag string } `json:"images"`
	}
	clitest.Manifest(t, "kubernetes/kustomization.yaml", &base)
	files, err := filepath.Glob("kubernetes/*.yaml")
	require.NoError(t, err)
	require.Len(t, base.Resources, len(files)-1)
	for _, file := range files {
		if name := filepath.Base(file); name != "kustomization.yaml" {
			require.Contains(t, base.Resources, name)
		}
	}
	var deployment appsv1.Deployment
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	require.Equal(t, deployment.Spec.Template.Spec.Containers[0].Image, base.Images[0].Name)
}
