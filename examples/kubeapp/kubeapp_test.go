package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs clitest.Output
	code = run(t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// tracks are the required flags.
var tracks = []string{"-name", "tracks", "-namespace", "media", "-image", "tracks:1.4.2", "-port", "http=8080", "-port", "admin=9090,private"}

func flags(more ...string) []string { return append(append([]string{}, tracks...), more...) }

func TestPrint(t *testing.T) {
	code, stdout, stderr := call(t, flags("-node-port", "auto", "-port", "grpc=81,app-protocol=kubernetes.io/h2c", "-node-port", "grpc=30081",
		"-readiness", "admin/readyz", "-liveness", "grpc:grpc", "-ingress", "a.example.com/tracks", "-ingress-class", "haproxy", "-ingress-tls", "a",
		"-env", "A=b=c", "-env-from-secret", "s", "-env-from-configmap", "m", "-drain-delay", "0", "-service-annotation", "headgate.dev/weight=50",
		"-allow-change", "30080", "-command", "/tracks", "-arg", "-v", "-create-namespace=false", "-memory", "1Gi")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Empty(t, stderr)
	objects, problems := change.Parse("stdout", []byte(stdout))
	require.Empty(t, problems)
	require.Empty(t, objects.Namespaces)
	service, pod := objects.Services[0], objects.Deployments[0].Spec.Template.Spec
	require.Equal(t, map[string]string{"headgate.dev/weight": "50", "headgate.dev/allow-change": "30080"}, service.Annotations)
	require.Len(t, service.Spec.Ports, 2)
	require.Equal(t, int32(30081), service.Spec.Ports[1].NodePort)
	require.Equal(t, "kubernetes.io/h2c", *service.Spec.Ports[1].AppProtocol)
	c := pod.Containers[0]
	require.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "admin", c.ReadinessProbe.HTTPGet.Port.StrVal)
	require.Equal(t, int32(81), c.LivenessProbe.GRPC.Port)
	require.Equal(t, "b=c", c.Env[0].Value)
	require.Len(t, c.EnvFrom, 2)
	require.Equal(t, []string{"/tracks"}, c.Command)
	require.Equal(t, []string{"-v"}, c.Args)
	require.Nil(t, c.Lifecycle)
	require.Contains(t, stdout, "path: /tracks")
}

func TestWrongFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-name", "tracks", "-namespace", "media", "-image", "tracks:1"}, "kubeapp: -port: want at least one"},
		{flags("-image", "tracks"), `-image: "tracks": want a tag`},
		{flags("-port", "http"), `-port: "http": want NAME=NUMBER`},
		{flags("-port", "a=1,public"), `"public": want private`},
		{flags("-node-port", "-1"), `-node-port: "-1": want a number`},
		{flags("-node-port", "30080", "-node-port", "http=30081"), "port http has two node ports"},
		{flags("-node-port", "web=30080"), "no such port"},
		{flags("-node-port", "admin=30080"), "-node-port: 30080: a private port"},
		{flags("-env", "A"), `-env: "A": want NAME=VALUE`},
		{flags("-service-annotation", "A"), "want NAME=VALUE"},
		{flags("-service-annotation", "headgate.dev/allow-change=1", "-allow-change", "1"), "given twice"},
		{flags("-readiness", "http"), `-readiness: "http": want /PATH`},
		{flags("-liveness", "tcp:"), `-liveness: "tcp:": want /PATH`},
		{flags("-liveness", "web/x"), `-liveness: "web": no port`},
		{flags("-ingress-class", "a"), "need -ingress"},
		{flags("-memory-limit", "1Mi"), "-memory-limit: "},
		{flags("-dry-run"), "-dry-run needs -apply"},
		{flags("-apply", "-routes", "testdata/routes.yaml"), "-routes needs -cluster"},
		{flags("-apply", "-cluster", "eu-1=dir:testdata"), "-cluster: a directory"},
		{flags("-apply", "-cluster", "eu-1"), "-cluster: "},
		{flags("-timeout", "0"), "-timeout: 0s"},
		{[]string{"check"}, "kubeapp check: -f is missing"},
		{[]string{"check", "-f", "testdata", "-cluster", "a=dir:x", "-routes", "testdata/none.yaml"}, "-routes: "},
	} {
		code, stdout, stderr := call(t, test.args...)
		require.Equal(t, cli.ExitUsage, code, test.args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, test.want)
		require.Contains(t, stderr, "(-h shows the flags)")
	}
}

// Each field of an App has a flag, so an error names a flag.
func TestFlagOfNamesFieldsAndFlags(t *testing.T) {
	s := &settings{}
	fs := cli.NewFlagSet(program)
	s.register(fs)
	for field, name := range flagOf {
		require.NotNil(t, fs.Lookup(name), name)
		_, ok := reflect.TypeFor[kubeapp.App]().FieldByName(strings.Split(field, ".")[0])
		require.True(t, ok, field)
	}
}

func TestCheck(t *testing.T) {
	before := []string{"check", "-cluster", "eu-1=dir:testdata/old", "-routes", "testdata/routes.yaml"}
	code, stdout, stderr := call(t, append(before, "-f", "testdata/new")...)
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Contains(t, readme, "```text\n"+stdout+"```\n", "the page quotes the output")

	code, stdout, _ = call(t, append(before, "-f", "testdata/new", "-prune", "-json")...)
	require.Equal(t, cli.ExitDiffer, code)
	var report struct{ Findings []change.Finding }
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Len(t, report.Findings, 2)
	require.Equal(t, change.ServiceDeleted, report.Findings[0].Kind)
	require.Empty(t, report.Findings[0].Routes, "the route to art is in another cluster")

	code, stdout, _ = call(t, append(before, "-f", "testdata/old", "-prune")...)
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, "compared 2 Services and 0 Deployments: 0 findings, 0 of them allowed by annotations\n", stdout)
	code, stdout, _ = call(t, append(before, "-f", "testdata/old", "-json")...)
	require.Equal(t, cli.ExitOK, code)
	require.Contains(t, stdout, `"findings": []`)

	dir := t.TempDir()
	code, _, stderr = call(t, append(before, "-f", dir)...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "the directory has no files")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("kind: Service"), 0o600))
	code, _, stderr = call(t, append(before, "-f", dir, "-f", "testdata/new", "-f", "testdata/new/tracks.yaml")...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "a.yaml:1: want an object")
}

// cluster is an API server with one Service. It accepts each object that somebody applies.
type cluster struct {
	mu      sync.Mutex
	applied []string
	refuse  bool
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodPatch && c.refuse:
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":409,"reason":"Conflict","details":{"causes":[
{"reason":"FieldManagerConflict","message":"conflict with \"kubectl-scale\" using apps/v1","field":".spec.replicas"}]}}`)
	case r.Method == http.MethodPatch:
		if r.URL.Query().Get("dryRun") == "" {
			c.applied = append(c.applied, r.URL.Path)
		}
		w.Header().Set("Warning", `299 - "odd"`)
		object, _ := io.ReadAll(r.Body)
		_, _ = w.Write(object)
	case r.URL.Path == "/api/v1/services":
		_, _ = io.WriteString(w, `{"kind":"ServiceList","apiVersion":"v1","metadata":{},"items":[{"kind":"Service","apiVersion":"v1",
"metadata":{"name":"tracks","namespace":"media"},"spec":{"type":"NodePort","ports":[{"name":"http","port":8080,"nodePort":30080}]}}]}`)
	case strings.HasSuffix(r.URL.Path, "/deployments"):
		_, _ = io.WriteString(w, `{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{},"items":[]}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound"}`)
	}
}

func TestApply(t *testing.T) {
	c := &cluster{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"`+server.URL+`"}}]}`), 0o600))
	to := []string{"-apply", "-cluster", "eu-1=kubeconfig:" + kubeconfig, "-routes", "testdata/routes.yaml"}

	code, stdout, stderr := call(t, flags(append(to, "-node-port", "30081")...)...)
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "30080 → 30081 (node-port-changed)")
	require.Contains(t, stderr, "declared by: api.example.com/tracks (testdata/routes.yaml:2)")
	require.Contains(t, stderr, "kubeapp: nothing is applied")
	require.Empty(t, c.applied)

	code, stdout, stderr = call(t, flags(append(to, "-node-port", "30081", "-allow-change", "30080", "-dry-run")...)...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Contains(t, stdout, "Namespace media: created\n")
	require.Contains(t, stderr, "allowed by the annotation")
	require.Empty(t, c.applied)

	code, stdout, stderr = call(t, flags(append(to, "-node-port", "30080")...)...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.Equal(t, "Namespace media: created\nService media/tracks: created\nPodDisruptionBudget media/tracks: created\nDeployment media/tracks: created\n", stdout)
	require.Contains(t, stderr, "kubeapp: warning: odd\n")
	require.Len(t, c.applied, 4)

	c.refuse = true
	code, _, stderr = call(t, flags(append(to, "-node-port", "30080", "-create-namespace=false")...)...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, `  .spec.replicas belongs to "kubectl-scale" using apps/v1`)
	require.Contains(t, stderr, "\n-force-conflicts takes these fields")
	server.Close()
	code, _, _ = call(t, append([]string{"check", "-f", "testdata/new"}, to[1:3]...)...)
	require.Equal(t, cli.ExitFailed, code)
}
