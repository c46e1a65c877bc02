package kubeapp_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/manifest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func minimal() kubeapp.App {
	return kubeapp.App{
		Name: "art", Namespace: "media", Image: "registry.example.com:5000/art:2.0.1",
		Ports: []kubeapp.Port{{Name: "http", Number: 8080}},
	}
}

// apps are the Apps of the golden files.
func apps() map[string]kubeapp.App {
	full := kubeapp.App{
		Name: "tracks", Namespace: "media", Image: "registry.example.com/tracks:1.4.2@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865",
		Command: []string{"/tracks"}, Args: []string{"-listen", ":8080"}, Replicas: 12,
		Ports: []kubeapp.Port{
			{Name: "admin", Number: 9090, Private: true},
			{Name: "http", Number: 8080, NodePort: 30080, AppProtocol: "kubernetes.io/h2c"},
			{Name: "grpc", Number: 8081, NodePort: kubeapp.AutoNodePort},
		},
		Env: []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}},
		EnvFrom: []corev1.EnvFromSource{
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "tracks"}}},
		},
		Resources: kubeapp.Resources{CPU: "1", Memory: "256Mi", CPULimit: "2", MemoryLimit: "1Gi"},
		RunAsUser: 65532,
		Readiness: kubeapp.Probe{Kind: kubeapp.ProbeHTTP, Port: "admin", Path: "/readyz"},
		Liveness:  kubeapp.Probe{Kind: kubeapp.ProbeGRPC, Port: "grpc"}, DrainDelay: 20 * time.Second, StopTime: time.Minute,
		ServiceAnnotations: map[string]string{"headgate.dev/agent-port": "9801", "headgate.dev/weight": "50"},
		Ingress:            &kubeapp.Ingress{Host: "*.example.com", Path: "/tracks", Class: "haproxy", TLSSecret: "wildcard"},
	}
	single := minimal()
	single.Name, single.Namespace, single.Replicas = "cron", "default", 1
	single.WritableRoot, single.DrainDelay = true, -time.Second
	single.Readiness = kubeapp.Probe{Kind: kubeapp.ProbeNone}
	scaled := minimal()
	scaled.Autoscaled, scaled.ExistingNamespace = true, true
	scaled.Ingress = &kubeapp.Ingress{Host: "art.example.com"}
	return map[string]kubeapp.App{"minimal": minimal(), "full": full, "single": single, "autoscaled": scaled}
}

func TestGolden(t *testing.T) {
	for name, app := range apps() {
		t.Run(name, func(t *testing.T) {
			objects, err := app.Objects()
			require.NoError(t, err)
			got, err := kubeapp.AppendYAML(nil, objects.List()...)
			require.NoError(t, err)
			file := filepath.Join("testdata", "TestGolden", name+".yaml")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, got, 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))

			// The text has exactly the fields of the objects, and no field that Kubernetes does not know.
			documents := bytes.Split(got, []byte("---\n"))[1:]
			require.Len(t, documents, len(objects.List()))
			for i, o := range objects.List() {
				var same kubeapp.Object
				switch o.(type) {
				case *corev1.Namespace:
					same = &corev1.Namespace{}
				case *corev1.Service:
					same = &corev1.Service{}
				case *policyv1.PodDisruptionBudget:
					same = &policyv1.PodDisruptionBudget{}
				case *appsv1.Deployment:
					same = &appsv1.Deployment{}
				case *networkingv1.Ingress:
					same = &networkingv1.Ingress{}
				}
				require.NoError(t, yaml.UnmarshalStrict(documents[i], same))
				a, err := kubeapp.Unstructured(o)
				require.NoError(t, err)
				b, err := kubeapp.Unstructured(same)
				require.NoError(t, err)
				require.Equal(t, a, b)
			}
		})
	}
}

// A declaration finds the node port of an App.
func TestNodeSelectResolvesThePorts(t *testing.T) {
	app := apps()["full"]
	objects, err := app.Objects()
	require.NoError(t, err)
	text, err := kubeapp.AppendYAML(nil, objects.List()...)
	require.NoError(t, err)
	read, problems := manifest.Parse("tracks.yaml", text)
	require.Empty(t, problems)
	ref := nodeselect.Ref{Namespace: "media", Service: "tracks", Port: "http"}
	target := nodeselect.Selector{}.Select(read, []nodeselect.Ref{ref}, time.Time{}, nil).Targets[0]
	require.Equal(t, uint16(30080), target.NodePort)
	require.Equal(t, 50, target.WeightPercent)
}

// The pods of every App meet the level "restricted" of the Pod Security Standards.
func TestPodsAreRestricted(t *testing.T) {
	for name, app := range apps() {
		objects, err := app.Objects()
		require.NoError(t, err, name)
		pod := objects.Deployment.Spec.Template.Spec
		require.True(t, *pod.SecurityContext.RunAsNonRoot)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
		require.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC)
		require.False(t, *pod.AutomountServiceAccountToken)
		for _, c := range pod.Containers {
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
			require.False(t, c.Resources.Requests.Cpu().IsZero())
			require.False(t, c.Resources.Limits.Memory().IsZero())
			if c.Lifecycle != nil {
				require.Less(t, c.Lifecycle.PreStop.Sleep.Seconds, *pod.TerminationGracePeriodSeconds)
			}
		}
		require.Equal(t, objects.Service.Spec.Selector, objects.Deployment.Spec.Selector.MatchLabels)
		for key, value := range objects.Service.Spec.Selector {
			require.Equal(t, value, objects.Deployment.Spec.Template.Labels[key])
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*kubeapp.App)
		want   []string // nil: no mistake
	}{
		{"digest without tag", func(a *kubeapp.App) { a.Image = "art@sha256:00" }, nil},
		{"no names", func(a *kubeapp.App) { a.Name, a.Namespace, a.Image = "", "", "" }, []string{"Name: is missing", "Namespace: is missing", "Image: is missing"}},
		{"name of a Service", func(a *kubeapp.App) { a.Name = "2art" }, []string{`Name: "2art": `}},
		{"namespace of Kubernetes", func(a *kubeapp.App) { a.Namespace = "kube-system" }, []string{`Namespace: "kube-system": namespaces that begin with kube-`}},
		{"latest", func(a *kubeapp.App) { a.Image = "art:latest" }, []string{`Image: "art:latest": want a tag`}},
		{"no tag", func(a *kubeapp.App) { a.Image = "registry:5000/art" }, []string{`Image: "registry:5000/art": want a tag`}},
		{"no digest", func(a *kubeapp.App) { a.Image = "art@" }, []string{`Image: "art@": want a digest`}},
		{"space", func(a *kubeapp.App) { a.Image = "art: 1" }, []string{`Image: "art: 1": want an image`}},
		{"replicas", func(a *kubeapp.App) { a.Replicas = -1 }, []string{"Replicas: -1: "}},
		{"two masters", func(a *kubeapp.App) { a.Replicas, a.Autoscaled = 3, true }, []string{"Replicas: 3: another program"}},
		{"only private ports", func(a *kubeapp.App) { a.Ports[0].Private = true }, []string{"Ports: want at least one"}},
		{"private node port", func(a *kubeapp.App) {
			a.Ports = append(a.Ports, kubeapp.Port{Name: "admin", Number: 1, NodePort: 30000, Private: true})
		}, []string{"Ports[1].NodePort: 30000: a private port"}},
		{"same ports", func(a *kubeapp.App) {
			a.Ports[0].NodePort = 30000
			a.Ports = append(a.Ports, a.Ports[0])
		}, []string{`Ports[1].Name: "http": another`, "Ports[1].Number: 8080: another", "Ports[1].NodePort: 30000: another"}},
		{"names of ports", func(a *kubeapp.App) { a.Ports[0].Name = "hTTp" }, []string{`Ports[0].Name: "hTTp": `}},
		{"numbers", func(a *kubeapp.App) { a.Ports[0].Number, a.Ports[0].NodePort = 0, 70000 }, []string{"Ports[0].Number: 0: ", "Ports[0].NodePort: 70000: "}},
		{"app protocol", func(a *kubeapp.App) { a.Ports[0].AppProtocol = "a b" }, []string{`Ports[0].AppProtocol: "a b": `}},
		{"environment", func(a *kubeapp.App) {
			a.Env = []corev1.EnvVar{{Name: "A"}, {Name: "A"}, {Name: "="}}
			a.EnvFrom = []corev1.EnvFromSource{{}}
		}, []string{`Env[1].Name: "A": another`, `Env[2].Name: "=": `, "EnvFrom[0]: want"}},
		{"amounts", func(a *kubeapp.App) { a.Resources = kubeapp.Resources{CPU: "much", Memory: "-1"} }, []string{`Resources.CPU: "much": `, `Resources.Memory: "-1": `}},
		{"limits below requests", func(a *kubeapp.App) {
			a.Resources = kubeapp.Resources{CPU: "2", CPULimit: "1", Memory: "2Gi", MemoryLimit: "1Gi"}
		}, []string{`Resources.CPULimit: "1": is less`, `Resources.MemoryLimit: "1Gi": is less`}},
		{"user", func(a *kubeapp.App) { a.RunAsUser = -1 }, []string{"RunAsUser: -1: "}},
		{"probe", func(a *kubeapp.App) { a.Readiness = kubeapp.Probe{Kind: kubeapp.ProbeHTTP, Port: "admin", Path: "x"} }, []string{`Readiness.Port: "admin": no port`, `Readiness.Path: "x": `}},
		{"probe without a kind", func(a *kubeapp.App) { a.Liveness = kubeapp.Probe{Path: "/"} }, []string{"Liveness.Kind: is missing"}},
		{"kind of a probe", func(a *kubeapp.App) { a.Liveness = kubeapp.Probe{Kind: "exec"} }, []string{`Liveness.Kind: "exec": `}},
		{"path of TCP", func(a *kubeapp.App) { a.Liveness = kubeapp.Probe{Kind: kubeapp.ProbeTCP, Path: "/"} }, []string{`Liveness.Path: "/": `}},
		{"times", func(a *kubeapp.App) { a.DrainDelay, a.StopTime = 1500*time.Millisecond, -time.Second }, []string{"DrainDelay: 1.5s: ", "StopTime: -1s: "}},
		{"long times", func(a *kubeapp.App) { a.StopTime = 2 * time.Hour }, []string{"StopTime: 2h0m0s: "}},
		{"ingress", func(a *kubeapp.App) {
			a.Ingress = &kubeapp.Ingress{Host: "*", Path: "x", Class: "A", TLSSecret: "_"}
		}, []string{`Ingress.Host: "*": `, `Ingress.Path: "x": `, `Ingress.Class: "A": `, `Ingress.TLSSecret: "_": `}},
		{"name of an annotation", func(a *kubeapp.App) { a.ServiceAnnotations = map[string]string{"a b": ""} }, []string{`ServiceAnnotations: "a b": `}},
		{"headgate's annotations", func(a *kubeapp.App) {
			a.Ports[0].NodePort = 30080
			a.ServiceAnnotations = map[string]string{"headgate.dev/agent-port": "30080", "headgate.dev/weight": "300", "headgate.dev/drain": "maybe"}
		}, []string{`headgate.dev/agent-port]: "30080": the service has`, `headgate.dev/weight]: "300": `, `headgate.dev/drain]: "maybe": `}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := minimal()
			test.change(&app)
			objects, err := app.Objects()
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.Equal(t, kubeapp.Objects{}, objects)
			field, ok := errors.AsType[*kubeapp.FieldError](err)
			require.True(t, ok)
			require.NotEmpty(t, field.Field)
			lines := strings.Split(err.Error(), "\n")
			require.Len(t, lines, len(test.want), err)
			for i, want := range test.want {
				require.Contains(t, lines[i], want)
				require.True(t, strings.HasPrefix(lines[i], "kubeapp: "), lines[i])
			}
		})
	}
}
