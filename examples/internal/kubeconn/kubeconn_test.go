package kubeconn

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/klog/v2"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- {name: eu-1, cluster: {server: "https://eu-1.test:6443", certificate-authority: ca.crt}}
- {name: eu-2, cluster: {server: "https://eu-2.test:6443"}}
- {name: nowhere, cluster: {}}
users:
- {name: agent, user: {token: secret}}
contexts:
- {name: one, context: {cluster: eu-1, user: agent}}
- {name: "arn:aws:eks:eu-2:1234:cluster/two", context: {cluster: eu-2, user: agent}}
- {name: lost, context: {cluster: eu-9, user: agent}}
- {name: nowhere, context: {cluster: nowhere, user: agent}}
current-context: one
`

func write(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// The function "outside" sets the environment of a process that runs outside a pod and has no
// kubeconfig.
func outside(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBERNETES_SERVICE_PORT", "")
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	return dir
}

func TestLoadFile(t *testing.T) {
	outside(t)
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "config"), kubeconfig)
	write(t, filepath.Join(dir, "ca.crt"), "")
	colon := write(t, filepath.Join(dir, "with:colon"), kubeconfig)
	empty := write(t, filepath.Join(dir, "empty"), "")
	noCurrent := write(t, filepath.Join(dir, "no-current"), strings.ReplaceAll(kubeconfig, "current-context: one", ""))
	broken := write(t, filepath.Join(dir, "broken"), "clusters: [")
	tests := []struct {
		name, spec string
		host       string
		wrong      []string // parts of the error
	}{
		{name: "current context", spec: file, host: "https://eu-1.test:6443"},
		{name: "another context", spec: file + ":one", host: "https://eu-1.test:6443"},
		{name: "a context with colons", spec: file + ":arn:aws:eks:eu-2:1234:cluster/two", host: "https://eu-2.test:6443"},
		{name: "a path with a colon", spec: colon, host: "https://eu-1.test:6443"},
		{name: "a path with a colon, and a context", spec: colon + ":one", host: "https://eu-1.test:6443"},
		{name: "no such context", spec: file + ":three", wrong: []string{file, `"three"`, "no such context", "one"}},
		{name: "a context without its cluster", spec: file + ":lost", wrong: []string{file, `"lost"`, "eu-9"}},
		{name: "a cluster without a server", spec: file + ":nowhere", wrong: []string{file, `"nowhere"`, "no server"}},
		{name: "no such file", spec: file + ".none:one", wrong: []string{file + ".none", `"one"`, "no such file"}},
		{name: "an empty file", spec: empty, wrong: []string{empty, "no configuration"}},
		{name: "no current context", spec: noCurrent, wrong: []string{noCurrent, "no current context", "one"}},
		{name: "no YAML", spec: broken, wrong: []string{broken}},
		{name: "not in a pod", spec: InCluster, wrong: []string{"in-cluster", "KUBERNETES_SERVICE_HOST"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config, err := Load(tt.spec)
			for _, part := range tt.wrong {
				require.ErrorContains(t, err, part)
			}
			if tt.wrong != nil {
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.host, config.Host)
			require.Equal(t, "secret", config.BearerToken)
			if tt.host == "https://eu-1.test:6443" {
				require.Equal(t, filepath.Join(dir, "ca.crt"), config.CAFile, "paths are relative to the file")
			}
		})
	}
}

func TestLoadDefault(t *testing.T) {
	dir := outside(t)
	none := filepath.Join(dir, "none")
	_, err := Load("")
	require.ErrorContains(t, err, "not in a pod")
	require.ErrorContains(t, err, none+": the file is missing, or names no cluster")

	t.Run("KUBECONFIG, several files", func(t *testing.T) {
		write(t, filepath.Join(dir, "ca.crt"), "")
		first := write(t, filepath.Join(dir, "first"), "apiVersion: v1\nkind: Config\ncurrent-context: one\n")
		second := write(t, filepath.Join(dir, "second"), kubeconfig)
		t.Setenv("KUBECONFIG", strings.Join([]string{first, second}, string(filepath.ListSeparator)))
		config, err := Load("")
		require.NoError(t, err)
		require.Equal(t, "https://eu-1.test:6443", config.Host)
	})
	t.Run("a pod without a token and no file", func(t *testing.T) {
		t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
		t.Setenv("KUBERNETES_SERVICE_PORT", "443")
		_, err := Load("")
		require.ErrorContains(t, err, "serviceaccount/token")
		require.ErrorContains(t, err, none)
	})
}

func TestLogTo(t *testing.T) {
	out := &clitest.Output{}
	LogTo(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { LogTo(nil) })
	klog.Background().WithName("reflector").WithValues("type", "Node").Info("relisting")
	require.Contains(t, out.String(), "level=DEBUG")
	require.Contains(t, out.String(), "msg=relisting")
	require.Contains(t, out.String(), "type=Node")
	klog.Errorf("lost %s", "it")
	require.Contains(t, out.String(), "level=ERROR")
	require.Contains(t, out.String(), `msg="lost it"`)

	before := out.String()
	LogTo(nil)
	klog.Errorf("discarded")
	require.Equal(t, before, out.String())
}
