package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// The test of the module examples/e2e renders the kustomizations, and checks what the manifests of
// every program must have. These tests check what depends on the settings of hostapi.

// runManifests reads the hosts as the container does. The directory of the ConfigMap is a temporary
// one.
func runManifests(t *testing.T, env []corev1.EnvVar, data map[string]string) (*settings, *sources) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range data {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for i, e := range env {
		if rest, ok := bytes.CutPrefix([]byte(e.Value), []byte("/etc/hostapi/")); ok {
			env[i].Value = filepath.Join(dir, string(rest))
		}
	}
	fs := cli.NewFlagSet(program)
	s := register(fs)
	stderr := &clitest.Output{}
	inv := cli.Invocation{Stderr: stderr, LookupEnv: clitest.Environment(t, &corev1.Container{Env: env}, nil)}
	_, done := inv.Parse(fs)
	require.False(t, done, stderr)
	require.NoError(t, s.check())
	m := newMetrics()
	api, err := newAPI(t.Context(), *s, m, inv.Logger("text", slog.LevelInfo))
	require.NoError(t, err)
	src := newSources(*s, api, m, inv.Logger("text", slog.LevelInfo))
	require.NoError(t, src.load(), stderr)
	require.NotContains(t, stderr.String(), "level=WARN")
	require.NotContains(t, stderr.String(), "level=ERROR")
	return s, src
}

func TestDeploymentServesTheHosts(t *testing.T) {
	var deployment appsv1.Deployment
	var config corev1.ConfigMap
	var service corev1.Service
	clitest.Manifest(t, "kubernetes/deployment.yaml", &deployment)
	clitest.Manifest(t, "kubernetes/hosts.yaml", &config)
	clitest.Manifest(t, "kubernetes/service.yaml", &service)
	pod := deployment.Spec.Template.Spec
	c := pod.Containers[0]
	require.Equal(t, "/etc/hostapi", c.VolumeMounts[0].MountPath)
	require.Equal(t, config.Name, pod.Volumes[0].ConfigMap.Name)
	s, _ := runManifests(t, c.Env, config.Data)
	require.Equal(t, ":9000", s.api.Listen)
	require.EqualValues(t, 9000, service.Spec.Ports[0].Port)
	require.Greater(t, *pod.TerminationGracePeriodSeconds, c.Lifecycle.PreStop.Sleep.Seconds+int64(stopTimeout.Seconds()))
}

func TestComponentRoutes(t *testing.T) {
	var base, patch appsv1.Deployment
	var config corev1.ConfigMap
	clitest.Manifest(t, "kubernetes/deployment.yaml", &base)
	clitest.Manifest(t, "kubernetes/routes/routes.yaml", &config)
	text, err := os.ReadFile("kubernetes/routes/deployment.yaml")
	require.NoError(t, err)
	const removed = "        - {name: HEADGATE_HOSTS, $patch: delete}\n"
	require.Contains(t, string(text), removed)
	file := filepath.Join(t.TempDir(), "deployment.yaml")
	require.NoError(t, os.WriteFile(file, bytes.Replace(text, []byte(removed), nil, 1), 0o600))
	clitest.Manifest(t, file, &patch)
	require.Equal(t, base.Name, patch.Name)
	delete(config.Data, "hosts.json") // null in the patch
	s, _ := runManifests(t, patch.Spec.Template.Spec.Containers[0].Env, config.Data)
	require.Empty(t, s.hosts)
	require.NotEmpty(t, s.endpoints)
}
