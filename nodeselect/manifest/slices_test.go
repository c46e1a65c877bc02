package manifest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/nodeselect"
)

// slicesYAML has the form of the output of kubectl get endpointslices -A -o yaml, with mistakes.
const slicesYAML = `apiVersion: v1
items:
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses:
    - 10.0.0.1
    conditions:
      ready: true
      serving: true
      terminating: false
    nodeName: n1
    targetRef:
      kind: Pod
      name: tracks-a
      namespace: media
      uid: 5b0c2f9e-0f7b-4a8e-8a8e-0d6f8c5d1e2f
    zone: eu-west-1a
  kind: EndpointSlice
  metadata:
    generateName: tracks-
    labels:
      kubernetes.io/service-name: tracks
    managedFields:
    - manager: kube-controller-manager
    name: tracks-x7k2p
    namespace: media
    resourceVersion: "42"
  ports:
  - name: http
    port: 8080
    protocol: TCP
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses: 10.0.0.2
  kind: EndpointSlice
  metadata:
    name: wrong
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints: []
  kind: EndpointSlice
  metadata:
    name: unnamespaced
- apiVersion: example.com/v1
  kind: EndpointSlice
  metadata:
    name: foreign
- apiVersion: v1
  kind: Service
  metadata:
    name: tracks
    namespace: media
kind: List
`

func TestParseEndpointSlices(t *testing.T) {
	t.Parallel()
	list, problems := ParseEndpointSlices("f.yaml", []byte(slicesYAML))
	require.Len(t, problems, 1)
	require.EqualError(t, problems[0], "f.yaml:33: EndpointSlice default/wrong: endpoints.addresses: want a list, got string")
	kind := metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
	require.Equal(t, []*discoveryv1.EndpointSlice{
		{
			TypeMeta: kind, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "unnamespaced"},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
		},
		{
			TypeMeta: kind,
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "media", Name: "tracks-x7k2p", ResourceVersion: "42", Labels: map[string]string{discoveryv1.LabelServiceName: "tracks"},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses:  []string{"10.0.0.1"},
				Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
				NodeName:   new("n1"), Zone: new("eu-west-1a"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "tracks-a", Namespace: "media", UID: "5b0c2f9e-0f7b-4a8e-8a8e-0d6f8c5d1e2f"},
			}},
			Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		},
	}, list)

	objects, problems := Parse("f.yaml", []byte(slicesYAML))
	require.Empty(t, problems, "Parse only counts EndpointSlices, even wrong ones")
	require.Len(t, objects.Services, 1)
	require.Equal(t, 4, objects.Ignored)
}

func TestParseEndpointSlicesProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "f: no object in it",
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a"},"endpoints":["10.0.0.1"]}`:                  "f:1: EndpointSlice default/a: endpoints: want a mapping, got string",
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a"},"ports":[{"port":"http"}]}`:                 "f:1: EndpointSlice default/a: ports.port: want an integer, got string",
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{}}`:                                                     "f:1: metadata.name: EndpointSlice without a name",
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a","namespace":"_"}}`:                           `f:1: metadata.namespace: "_" is not a valid name in Kubernetes`,
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSliceList","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"a"}}]}`: "f:1: EndpointSlice default/a: given before, at f:1; that one is kept",
	} {
		_, problems := ParseEndpointSlices("f", []byte(text))
		require.Len(t, problems, 1, text)
		require.EqualError(t, problems[0], want)
	}
}

func TestReadEndpointSlices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.WriteFile(path, []byte(slicesYAML), 0o600))
	list, problems, err := ReadEndpointSlices(dir)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Len(t, problems, 1)
	require.Equal(t, path, problems[0].File)
	_, _, err = ReadEndpointSlices(filepath.Join(dir, "missing"))
	require.ErrorContains(t, err, "nodeselect/manifest: ")
}

// If a file becomes broken, WatchEndpointSlices keeps the last EndpointSlices of the file.
func TestWatchEndpointSlices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write(strings.Replace(slicesYAML, "addresses: 10.0.0.2", "addresses: [10.0.0.2]", 1))
	type call struct {
		names    string
		problems []nodeselect.Problem
	}
	calls := make(chan call, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- WatchEndpointSlices(ctx, dir, func(list []*discoveryv1.EndpointSlice, problems []nodeselect.Problem) {
			var names []string
			for _, s := range list {
				names = append(names, s.Name)
			}
			calls <- call{strings.Join(names, " "), problems}
		})
	}()
	next := func(what string, is func(call) bool) call {
		deadline := time.After(time.Minute)
		for {
			select {
			case c := <-calls:
				if is(c) {
					return c
				}
			case <-deadline:
				t.Fatalf("no %s", what)
			}
		}
	}
	first := next("first reading", func(call) bool { return true })
	require.Equal(t, "unnamespaced wrong tracks-x7k2p", first.names)
	require.Empty(t, first.problems)
	write(slicesYAML)
	broken := next("broken file", func(c call) bool { return len(c.problems) > 0 })
	require.Equal(t, "unnamespaced wrong tracks-x7k2p", broken.names)
	require.Len(t, broken.problems, 2)
	require.Contains(t, broken.problems[1].Message, "1 objects are kept")
	write("apiVersion: v1\nkind: List\nitems: []\n")
	require.Empty(t, next("correct file", func(c call) bool { return len(c.problems) == 0 }).names)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// FuzzParseEndpointSlices checks the promises of ParseEndpointSlices about problems and names.
func FuzzParseEndpointSlices(f *testing.F) {
	f.Add([]byte(slicesYAML))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		list, problems := ParseEndpointSlices("f", data)
		for _, p := range problems {
			require.Equal(t, "f", p.File)
			require.NotEmpty(t, p.Message)
			require.NotContains(t, p.Message, "\n")
		}
		names := map[string]bool{}
		for _, s := range list {
			require.True(t, isName(s.Name))
			require.True(t, isName(s.Namespace))
			require.False(t, names[s.Namespace+"/"+s.Name])
			names[s.Namespace+"/"+s.Name] = true
		}
	})
}
