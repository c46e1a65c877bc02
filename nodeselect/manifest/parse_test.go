package manifest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect/manifest"
)

func lines(s ...string) []byte { return []byte(strings.Join(s, "\n") + "\n") }

func TestParseProblems(t *testing.T) {
	node := func(name string) string { return "{apiVersion: v1, kind: Node, metadata: {name: " + name + "}}" }
	tests := []struct {
		name  string
		data  []byte
		want  string // names of nodes and services
		probs []string
	}{
		{"broken document", lines(node("a"), "---", "kind: [", "---", node("b")), "a b", []string{
			"f:3: YAML: did not find expected node content",
		}},
		{
			"broken item", lines("apiVersion: v1", "items:", "- "+node("a"), "- apiVersion: v1", "  kind: Node", "  metadata: }", "- "+node("b"), "kind: List"), "a b",
			[]string{"f:6: YAML: did not find expected node content"},
		},
		{
			"item indented by a tab", lines("apiVersion: v1", "items:", "- "+node("a"), "- apiVersion: v1", "\tkind: Node", "- "+node("b"), "kind: List"), "a b",
			[]string{"f:5: YAML: found a tab character that violates indentation"},
		},
		{"wrong type", lines("apiVersion: v1", "items:", "- "+node("a"), "- apiVersion: v1", "  kind: Service", "  metadata:", "    name: s", "    namespace: m", "  spec:", "    ports:", "    - nodePort: high", "kind: List"), "a", []string{
			"f:4: Service m/s: spec.ports.nodePort: want an integer, got string",
		}},
		{"annotation that is a number", lines("apiVersion: v1", "kind: Service", "metadata:", "  name: s", "  annotations:", "    headgate.dev/weight: 50"), "", []string{
			"f:1: Service default/s: metadata.annotations: want a string, got number",
		}},
		{"twice", lines(node("a"), "---", node("a")), "a", []string{"f:3: Node a: given before, at f:1; that one is kept"}},
		{"duplicate key", lines("apiVersion: v1", "kind: Node", "metadata:", "  name: a", "  name: b"), "", []string{
			`f:5: YAML: key "name" already set in map`,
		}},
		{"no name", lines("apiVersion: v1", "kind: Node", "metadata: {}"), "", []string{"f:1: metadata.name: Node without a name"}},
		{"bad name", lines("apiVersion: v1", "kind: Node", `metadata: {name: "a b"}`), "", []string{
			`f:1: metadata.name: "a b" is not a valid name in Kubernetes`,
		}},
		{"bad namespace", lines("apiVersion: v1", "kind: Service", `metadata: {name: a, namespace: "a\nb"}`), "", []string{
			`f:1: metadata.namespace: "a\nb" is not a valid name in Kubernetes`,
		}},
		{"empty", nil, "", []string{"f: no object in it"}},
		{"comments alone", lines("# nothing", "---", "", "# here"), "", []string{"f: no object in it"}},
		{"empty list", lines("apiVersion: v1", "items: []", "kind: List"), "", nil},
		{"no kind", lines("metadata:", "  name: a"), "", []string{"f:1: an object without kind"}},
		{"cut short before the kind", lines("apiVersion: v1", "items:", "- "+node("a")), "", []string{"f:1: a list without kind; is it cut short?"}},
		{"cut short in the kind", []byte("apiVersion: v1\nitems:\n- " + node("a") + "\nkind: Li"), "", []string{`f:1: kind "Li" has items but is no list; is it cut short?`}},
		{"items of another shape", lines("apiVersion: v1", "items: {}", "kind: List"), "", []string{"f:1: List: items is not a list"}},
		{"a scalar", lines("---", "hello"), "", []string{"f:2: not an object"}},
		{"a sequence", lines("- " + node("a")), "", []string{"f:1: not an object"}},
		{"item is a scalar", lines("apiVersion: v1", "items:", "- a", "- "+node("b"), "kind: List"), "b", []string{"f:3: not an object"}},
		{"json", lines(`{"apiVersion": "v1", "kind": "List", "items": [`, `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}},`, `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": 1}}`, `]}`), "a", []string{
			"f:3: Service default/b: spec.ports: want a list, got number",
		}},
		{"json cut short", lines("", `{"apiVersion": "v1",`, `"kind": "List", "items": [`), "", []string{"f:4: JSON: unexpected EOF"}},
		{"json with a mistake", lines(`{"apiVersion": "v1",`, `"kind" "Node"}`), "", []string{"f:2: JSON: invalid character '\"' after object key"}},
		{"json, then a mistake", lines(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}`, `}`), "a", []string{
			"f:2: JSON: invalid character '}' looking for beginning of value",
		}},
		{"flow style", lines("# by hand", "{apiVersion: v1, kind: Node, metadata: {name: a}} # node"), "a", nil},
		{"text behind a flow mapping", lines(node("a"), "b: c"), "", []string{"f:2: YAML: did not find expected '-' indicator"}},
		{"text behind a flow mapping on its marker", lines("--- "+node("a"), "}"), "", []string{"f:2: YAML: did not find expected '-' indicator"}},
		{"two flow mappings", lines("--- "+node("a"), "- "+node("b")), "", []string{"f:1: YAML: text behind the end of the document's value"}},
		{"text further left", lines("  apiVersion: v1", "  kind: Node", "  metadata: {name: a}", "b: c"), "", []string{"f:4: YAML: did not find expected '-' indicator"}},
		{"all further right", lines(" apiVersion: v1", " kind: Node", " metadata: {name: a}", "---", "   apiVersion: v1", "   kind: Node", "   metadata: {name: b}"), "a b", nil},
		{"json values in a row", lines(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}} {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}`), "a b", nil},
		{"nested lists", lines("apiVersion: v1", "items:", "- apiVersion: v1", "  kind: List", "  items:", "  - "+node("a"), "kind: List"), "a", nil},
		{"typed list", lines("apiVersion: v1", "items:", "- metadata:", "    name: a", "- metadata: {name: b}", "kind: NodeList"), "a b", nil},
		{"items indented", lines("kind: List", "apiVersion: v1", "items:", "  # two", "  - "+node("a"), "", "  - "+node("b")), "a b", nil},
		{"quotes over the cut", lines("apiVersion: v1", "items:", `- `+node("a"), `- apiVersion: v1`, `  kind: Node`, `  metadata:`, `    name: b`, `    annotations:`, `      x: "y`, `- z"`, "kind: List"), "a b", nil},
		{"windows line ends", []byte("apiVersion: v1\r\nitems:\r\n- apiVersion: v1\r\n  kind: Node\r\n  metadata:\r\n    name: a\r\nkind: List\r\n"), "a", nil},
		{
			"broken item between windows line ends", bytes.ReplaceAll(lines("apiVersion: v1", "items:", "- "+node("a"), "- kind: }", "- "+node("b"), "kind: List"), []byte("\n"), []byte("\r\n")), "a b",
			[]string{"f:4: YAML: did not find expected node content"},
		},
		{"directives", lines("%YAML 1.1", "---", node("a"), "...", "---", node("b")), "a b", nil},
		{"documents on their markers", lines("--- "+node("a"), "--- # and", node("b")), "a b", nil},
		{"byte order mark", append([]byte("\xef\xbb\xbf"), lines(node("a"))...), "a", nil},
		{"aliases of aliases", bomb("%s: &%[1]s [%s]", "kind: X"), "", []string{"f:1: YAML: document contains excessive aliasing"}},
		{"aliases of aliases in an item", lines("apiVersion: v1", "items:", "- "+node("a"), "- "+strings.ReplaceAll(string(bomb("%s: &%[1]s [%s]", "kind: X")), "\n", "\n  "), "- "+node("b"), "kind: List"), "a b", []string{"f:4: YAML: document contains excessive aliasing"}},
		{"merges of merges", bomb("%s: &%[1]s {<<: [%s]}", "kind: X"), "", []string{"f:1: YAML: document contains excessive aliasing"}},
		{"an alias of itself", lines("kind: X", "a: &a [*a]"), "", []string{"f:1: YAML: anchor 'a' value contains itself"}},
		{"deep lists", lines("kind: X", "a: "+strings.Repeat("[", 1<<20)), "", []string{"f:2: YAML: exceeded max depth of 10000"}},
		{"deep dashes", lines("kind: X", "a:", strings.Repeat("- ", 1<<20)+"a"), "", []string{"f:3: YAML: exceeded max depth of 10000"}},
		{"deep JSON", lines(`{"kind": "X", "a": ` + strings.Repeat("[", 1<<20)), "", []string{"f:1: JSON: invalid character '[' exceeded max depth"}},
		{"deep JSON objects", lines(strings.Repeat(`{"a":`, 1<<20)), "", []string{"f:1: JSON: invalid character '{' exceeded max depth"}},
		{"UTF-16, little end first", utf16Text(node("a"), false), "a", nil},
		{"UTF-16, big end first", utf16Text(node("a"), true), "a", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects, problems := manifest.Parse("f", tt.data)
			var names, got []string
			for _, n := range objects.Nodes {
				names = append(names, n.Name)
			}
			for _, s := range objects.Services {
				names = append(names, s.Namespace+"/"+s.Name)
			}
			for _, p := range problems {
				got = append(got, p.Error())
			}
			require.Equal(t, tt.probs, got)
			require.Equal(t, tt.want, strings.Join(names, " "))
		})
	}
}

// bomb returns ten lines, each with ten aliases of the line before, and then more lines.
func bomb(format string, more ...string) []byte {
	text := []string{"a: &a {x: y}"}
	for c := 'b'; c < 'k'; c++ {
		text = append(text, fmt.Sprintf(format, string(c), strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ",")))
	}
	return lines(append(text, more...)...)
}

func utf16Text(s string, bigEnd bool) []byte {
	var b bytes.Buffer
	for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(s))...) {
		if bigEnd {
			b.Write([]byte{byte(u >> 8), byte(u)})
		} else {
			b.Write([]byte{byte(u), byte(u >> 8)})
		}
	}
	return b.Bytes()
}

// Parse only counts objects of other kinds. It also only counts objects of kind Service in other
// API groups.
func TestParseIgnores(t *testing.T) {
	objects, problems := manifest.Parse("f", lines(
		"apiVersion: v1", "items:",
		"- {apiVersion: v1, kind: Pod, metadata: {name: a}}",
		"- {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}}",
		"- {apiVersion: v1, kind: Service, metadata: {name: a}}",
		"kind: List", "---", "apiVersion: v1", "kind: PodList", "items:", "- metadata: {name: b}", "- metadata: {name: c}",
	))
	require.Empty(t, problems)
	require.Equal(t, 4, objects.Ignored)
	require.Len(t, objects.Services, 1)
	require.Equal(t, "default", objects.Services[0].Namespace)
}

// Parse reads objects that kubectl has printed, and returns them without changes, except for the
// fields that Parse leaves out. This holds for both formats and for any number of processors.
func TestParseKubectl(t *testing.T) {
	nodes, services := manifesttest.Nodes(40), manifesttest.Services(40)
	for format, texts := range map[string][][]byte{
		"yaml": {manifesttest.YAML(nodes), manifesttest.YAML(services)},
		"json": {manifesttest.JSON(nodes), manifesttest.JSON(services)},
	} {
		for _, procs := range []int{1, 4} {
			t.Run(fmt.Sprint(format, " on ", procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				got, problems := manifest.Parse("nodes", texts[0])
				require.Empty(t, problems)
				require.Len(t, got.Nodes, len(nodes))
				for _, want := range nodes {
					want = want.DeepCopy()
					want.ManagedFields = nil
					want.Status = corev1.NodeStatus{Addresses: want.Status.Addresses, Conditions: want.Status.Conditions}
					requireSame(t, want, got.Node(want.Name))
				}
				got, problems = manifest.Parse("services", texts[1])
				require.Empty(t, problems)
				require.Len(t, got.Services, len(services))
				for _, want := range services {
					want = want.DeepCopy()
					want.ManagedFields = nil
					requireSame(t, want, got.Service(want.Namespace, want.Name))
				}
			})
		}
	}
}

// requireSame compares objects as text, because two equal times may differ as Go values.
func requireSame(t *testing.T, want, got interface {
	fmt.Stringer
	GetObjectKind() schema.ObjectKind
},
) {
	t.Helper()
	require.Equal(t, want.String(), got.String())
	require.Equal(t, want.GetObjectKind(), got.GetObjectKind())
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	write("b.yaml", manifesttest.YAML(manifesttest.Nodes(3)))
	write("a.json", manifesttest.JSON(manifesttest.Nodes(2)))
	write("c.YML", manifesttest.YAML(manifesttest.Services(1)))
	write("readme.txt", []byte("{"))
	write(".hidden.yaml", []byte("{"))
	write("d.yaml", []byte("kind: ["))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir.yaml"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "e.yaml")))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "f.yaml")))
	write("g.yaml", nil)
	require.NoError(t, os.Truncate(filepath.Join(dir, "g.yaml"), 1<<30))

	objects, problems, err := manifest.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, objects.Nodes, 3)
	require.Len(t, objects.Services, 1)
	var got []string
	for _, p := range problems {
		got = append(got, strings.TrimPrefix(p.Error(), dir+string(filepath.Separator)))
	}
	require.Len(t, got, 6)
	require.Contains(t, got[0], "b.yaml:3: Node "+manifesttest.NodeName(0)+": given before, at "+filepath.Join(dir, "a.json")+":4")
	require.Contains(t, got[1], "b.yaml:")
	require.Contains(t, got[2], "d.yaml:1: YAML:")
	require.Contains(t, got[3], "e.yaml: cannot be read: ")
	require.Contains(t, got[4], "f.yaml: cannot be read: a directory, not a regular file")
	require.Equal(t, "g.yaml: cannot be read: 1073741824 bytes, and at most 268435456 are allowed", got[5])

	_, _, err = manifest.ReadDir(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
