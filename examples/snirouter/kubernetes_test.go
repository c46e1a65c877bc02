package main

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The test of the module examples/e2e renders the kustomizations, and checks what the manifests of
// every program must have. These tests check what depends on the settings of the router.

// parseManifests returns the pod of the base, and the settings of the router in it, with further
// variables.
func parseManifests(t *testing.T, more ...corev1.EnvVar) (corev1.PodSpec, *settings) {
	t.Helper()
	var deployment appsv1.Deployment
	var config corev1.ConfigMap
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	clitest.Manifest(t, "kubernetes/settings.yaml", &config)
	pod := deployment.Spec.Template.Spec
	c := &pod.Containers[0]
	require.Equal(t, config.Name, c.EnvFrom[0].ConfigMapRef.Name)
	c.Env = append(c.Env, more...)
	fs := cli.NewFlagSet(program)
	s := register(fs)
	stderr := &clitest.Output{}
	_, done := cli.Invocation{Args: c.Args, Stderr: stderr, LookupEnv: clitest.Environment(t, c, config.Data)}.Parse(fs)
	require.False(t, done, stderr)
	require.NoError(t, s.check())
	r, err := newRouter(*s, cli.Invocation{Stderr: stderr}.Logger("text", slog.LevelInfo))
	require.NoError(t, err)
	require.NoError(t, r.srv.Close())
	return pod, s
}

func TestDeploymentRunsTheRouter(t *testing.T) {
	pod, s := parseManifests(t)
	require.Equal(t, cli.Strings{":8443"}, s.tls)
	require.Equal(t, cli.Strings{":8080"}, s.http)
	// After SIGTERM, the whole drain ends before Kubernetes kills the pod.
	require.Greater(t, *pod.TerminationGracePeriodSeconds, int64((s.drainDelay + s.drainTimeout).Seconds()))
	require.NotZero(t, s.drainDelay, "the balancer in front needs time to notice")
	require.Equal(t, filepath.Dir(s.cacheFile), pod.Containers[0].VolumeMounts[0].MountPath)
	require.NotNil(t, pod.Volumes[0].EmptyDir)
	require.NotEmpty(t, s.allow)
}

func TestComponentQUIC(t *testing.T) {
	var patch appsv1.Deployment
	clitest.Manifest(t, "kubernetes/quic/deployment.yaml", &patch)
	c := patch.Spec.Template.Spec.Containers[0]
	_, s := parseManifests(t, c.Env...)
	require.Equal(t, cli.Strings{":8443"}, s.quic)
	require.Equal(t, corev1.ContainerPort{Name: "quic", ContainerPort: 8443, Protocol: corev1.ProtocolUDP}, c.Ports[0])
}
