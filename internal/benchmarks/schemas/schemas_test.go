// Package schemas compares the JSON Schemas of the files that users write with the parsers of these
// files. It reads the schemas with a library that shares no code with headgate.
package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const top = "../../../"

func (f *format) compile(t testing.TB) *jsonschema.Schema {
	text, err := os.ReadFile(top + f.schema)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, "https://raw.githubusercontent.com/headgate/headgate/main/"+f.schema, value.(map[string]any)["$id"])
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", value))
	schema, err := c.Compile("schema.json")
	require.NoError(t, err)
	return schema
}

// documents returns the values of the documents in a file, as an editor sees them. An error means
// that the file is not well-formed.
func (f *format) documents(data []byte) (values []any, err error) {
	if f.json {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		return []any{value}, err
	}
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		switch err := d.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return values, nil
		case err != nil:
			return nil, err
		}
		budget := 100_000
		v, err := value(&doc, &budget)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
}

var errShape = errors.New("this document has no form in JSON, or is too large")

// value converts a YAML node into the value that JSON would have. budget limits the number of nodes.
func value(n *yaml.Node, budget *int) (any, error) {
	if *budget--; *budget < 0 {
		return nil, errShape
	}
	switch n.Kind {
	case yaml.AliasNode:
		return value(n.Alias, budget)
	case yaml.DocumentNode:
		return value(n.Content[0], budget)
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			v, err := value(item, budget)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		object := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				return nil, errShape
			}
			v, err := value(n.Content[i+1], budget)
			if err != nil {
				return nil, err
			}
			object[key.Value] = v
		}
		return object, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, errShape
	}
	switch number := v.(type) {
	case time.Time:
		return n.Value, nil
	case float64:
		if text, err := json.Marshal(number); err == nil {
			return json.Number(text), nil
		}
		return n.Value, nil // .inf and .nan
	}
	return v, nil
}

// unseen matches the messages about what a schema does not see, because it gets the value of one
// document: a key that comes twice, a second document, an alias, and the size of the file.
var unseen = regexp.MustCompile(`(is given|is set|comes) twice$|second document|more than one document|must not be an alias|the "---" above|there are further problems|the file's aliases`)

// comparison compares a parser with its schema.
type comparison struct {
	*format
	schema   *jsonschema.Schema
	accepted int
	files    map[string]bool
}

func newComparison(t testing.TB, f *format) *comparison {
	return &comparison{format: f, schema: f.compile(t), files: map[string]bool{}}
}

// check requires that the schema accepts a file that the parser accepts. It requires that the
// schema refuses a file that the parser refuses, unless the parser gives a reason that is beyond
// the schema.
func (c *comparison) check(t testing.TB, data []byte) {
	faults := c.parse(data)
	documents, err := c.documents(data)
	if err != nil || len(documents) == 0 {
		return
	}
	var refused error
	for _, d := range documents {
		if err := c.schema.Validate(d); err != nil {
			refused = err
		}
	}
	if len(faults) == 0 {
		c.accepted++
		assert.NoError(t, refused, "the parser accepts\n%s", data)
		return
	}
	if refused != nil || slices.ContainsFunc(faults, unseen.MatchString) {
		return
	}
	for _, fault := range faults {
		expected := slices.ContainsFunc(c.beyond, func(b beyond) bool { return b.message.MatchString(fault) })
		assert.True(t, expected, "the schema accepts\n%s\nthe parser says\n%s", data, fault)
	}
}

func TestExamplesOfTheFormats(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			schema := f.compile(t)
			validate := func(text string) error {
				documents, err := f.documents([]byte(text))
				require.NoError(t, err)
				require.Len(t, documents, 1)
				return schema.Validate(documents[0])
			}
			for _, text := range f.good {
				require.Empty(t, f.parse([]byte(text)))
				require.NoError(t, validate(text))
			}
			for _, text := range f.bad {
				require.NotEmpty(t, f.parse([]byte(text)), text)
				require.Error(t, validate(text), text)
			}
			for _, b := range f.beyond {
				require.NoError(t, validate(b.example), "%s: the schema can express this rule", b.example)
				require.Regexp(t, b.message, strings.Join(f.parse([]byte(b.example)), "\n"), b.example)
			}
		})
	}
}

// TestKeys: the schema has exactly the keys that the parser reads, and the good files have each of
// these keys.
func TestKeys(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			text, err := os.ReadFile(top + f.schema)
			require.NoError(t, err)
			var schema map[string]any
			require.NoError(t, json.Unmarshal(text, &schema))
			inSchema := map[string]bool{}
			keysOfSchema(t, schema, schema, "", inSchema)

			inParser := map[string]bool{}
			for _, key := range f.keys() {
				inParser[key] = true
			}
			require.Equal(t, inParser, inSchema)

			inGood := map[string]bool{}
			for _, text := range f.good {
				documents, err := f.documents([]byte(text))
				require.NoError(t, err)
				keysOfValue(documents[0], "", inSchema, inGood)
			}
			require.Equal(t, inSchema, inGood)
		})
	}
}

// keysOfSchema adds the paths of the properties of a schema, such as "routes[].host". "*" stands
// for any key.
func keysOfSchema(t testing.TB, root, schema map[string]any, at string, keys map[string]bool) {
	if ref, ok := schema["$ref"].(string); ok {
		target := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		require.NotNil(t, target, ref)
		keysOfSchema(t, root, target.(map[string]any), at, keys)
	}
	join := func(key string) string { return strings.TrimPrefix(at+"."+key, ".") }
	properties, _ := schema["properties"].(map[string]any)
	for key, property := range properties {
		keys[join(key)] = true
		property := property.(map[string]any)
		keysOfSchema(t, root, property, join(key), keys)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		keysOfSchema(t, root, items, at+"[]", keys)
	}
	if others, ok := schema["additionalProperties"].(map[string]any); ok {
		keysOfSchema(t, root, others, join("*"), keys)
	}
}

// keysOfValue adds the path of each key of the value v that is in the argument "known" to the
// argument "keys". In the paths of the keys below an unknown key, "*" stands for the unknown key.
func keysOfValue(v any, at string, known, keys map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			keysOfValue(item, at+"[]", known, keys)
		}
	case map[string]any:
		for key, member := range v {
			path := strings.TrimPrefix(at+"."+key, ".")
			if known[path] {
				keys[path] = true
			} else {
				path = strings.TrimPrefix(at+".*", ".")
			}
			keysOfValue(member, path, known, keys)
		}
	}
}

// pool are values that are right for some field and wrong for others.
var pool = func() (nodes []*yaml.Node) {
	for _, text := range []string{
		"null", "~", "true", "false", "True", "FALSE", "yes", "on", "off", "Off", `"off"`, `"true"`, "{}", "[]", "[1]", "[a]", "{a: b}", `[""]`, "[null]", "[{}]",
		"0", "1", "-1", "+1", "00", "010", "08", "0x10", "0b11", "0o17", "1_000", "1.0", "1.5", "1e3", "-0", ".5", ".inf", ".nan",
		"64", "65", "80", "99", "100", "101", "256", "257", "1000", "1001", "32767", "32768", "65535", "65536", "99999", "100000", "1000000", "1000001",
		"10000000", "10000001", "2147483647", "2147483648", "9223372036854775808", "1e400", "502", "503", "504", "505",
		`"0"`, `"1"`, `"80"`, `"080"`, `"0080"`, `"65535"`, `"65536"`, `"99999"`, `"100000"`, `"-1"`, `"+1"`, `"1.5"`, `"503"`, `"2147483648"`,
		"0s", "-0s", "+0s", "5s", "+5s", "-5s", "5", "1h30m", "1.5s", ".5s", "5.s", ".s", "s", "1s ", "1S", "5 s", "10ns", "100us", "100µs", "100μs", "99ms", "100ms", "29ms", "30ms", "2d", "0d", "2d12h", "1d0s", "1h2d", "1.5d", "d", "24d20h31m23s647ms", "25d", "65535d", "65536d", "600h", "10000h", "9999999999h", "99999999999999999999s", "0.0000001ns", "2001-01-01", "1:30",
		"0%", "1%", "25%", "025%", "99%", "100%", "101%", "140%", "1000%", "1001%", "65535%", "65536%", "-1%", "+1%", "0.5%", "0.50%", "0.555%", ".5%", "5.%", "100.0%", "100.01%", "99.99%", "25", `"%"`, "1e1%", "25 %",
		"http", "http1", "h2c", "grpc", "HTTP1", "tls", "leastconn", "roundrobin", "random", "source", "never", "safe", "aggressive", "always", "conn-failure",
		"[conn-failure]", "[conn-failure, conn-failure]", `["503", 503]`, "[503]", "[0503]", "[503.0]", `[conn-failure, all]`, "[[]]",
		"a", "A", "a-b", "-a", "a-", "a_b", "a.b", "eu-1", strings.Repeat("a", 63), strings.Repeat("a", 64), "ü", `"a b"`, `""`, `" "`, `"\t"`, `"a\nb"`, `"\x00"`, `"\u3000"`,
		"api.example.com", "API.example.com.", "api.example.com:8080", "api.example.com:", "api.example.com:0", "api.example.com:000080", "api.example.com:65536", "api.example.com:http", "api..example.com", ".example.com", "-a.example", "a-.example",
		`"*.example.com"`, `"*.*.example.com"`, `"*"`, `"*.com"`, `"a.*.com"`, `"*example.com"`, `"*.10"`, "bücher.example", "BÜCHER.example:80", "ü..example", "10.0.0.1", "10.0.0.1:80", "127.1", "a.0x7f", "a.0x", "a.0xg", "1.a", `"[::1]"`, `"[::1]:443"`, `"[::1"`, `"[::1]x"`, `"[10.0.0.1]"`, `"::1"`, `"fe80::1%eth0"`, `"::"`, `"[::]:80"`, `"::ffff:0.0.0.0"`, "224.0.0.1", "ff02::1", "0.0.0.0", "0.0.0.0:80", "256.0.0.1", "a:b:c", "a:123456",
		"https://a.example", "user@a.example", "a.example/x", "xn--zzzzzz99.example", "_x.example", strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 127) + "a", strings.Repeat("abcdefghi.", 26) + "a", strings.Repeat("ü", 64) + ".example", strings.Repeat("a", 1100),
		"/", "/a", "/a/", "/a//", "//", "//a", "/a/b", "a/b", "/a?b", "/a?b?c=%41", "/a#b", "/a*", "/a b", `"/ü"`, "/%41", "/%4", "/%zz", "/%2e", "/a/./b", "/a/..", "/..a", "/...", "/.%2E/", "/..;x", "/%252e%252e", "/%2f", "/!$&'()+,;=:@~", `"/\""`, `"/\\"`, "/" + strings.Repeat("a", 999), "/" + strings.Repeat("a", 1000), "/" + strings.Repeat("a", 1023), "/" + strings.Repeat("a", 1024),
		"[{cluster: a, namespace: b, service: c, port: d}]", "[{cluster: a, namespace: b, service: c, port: d}, {cluster: a, namespace: b, service: c, port: d}]",
		"[{cluster: a, namespace: b, service: c, port: d}, {cluster: a, namespace: b, service: c, port: d, weight: 1}]",
		"{path: /}", "{grpc: true}", "{grpc: false, path: /a}", "{host: a}", "{interval: 1s}", "{requests: 1}", "{source: {}}", "{server: 1s}", "{zone: {}}", "{zone: null}",
		`[{host: a.example, endpoint: b}, {host: a.example, endpoint: b}]`,
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			panic(text + ": " + err.Error())
		}
		nodes = append(nodes, doc.Content[0])
	}
	return nodes
}()

// clone returns a deep copy of a node without aliases.
func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, clone(child))
	}
	return &c
}

// nodes returns all mappings, lists and scalars of a document, except keys.
func nodes(n *yaml.Node) (all []*yaml.Node) {
	all = append(all, n)
	for i, child := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			all = append(all, nodes(child)...)
		}
	}
	return all
}

// encode writes a document in the format.
func (f *format) encode(t testing.TB, n *yaml.Node) []byte {
	if !f.json {
		text, err := yaml.Marshal(n)
		require.NoError(t, err)
		return text
	}
	budget := 100_000
	v, err := value(n, &budget)
	require.NoError(t, err)
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return text
}

// mutate changes one node of a document: it gets a value of the pool, or a mapping or list loses or
// repeats an entry, or a mapping gets an unknown key.
func mutate(n *yaml.Node, choice int) {
	if choice < len(pool) {
		*n = *clone(pool[choice])
		return
	}
	choice -= len(pool)
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	if choice == 0 && step == 2 {
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "unknown"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "5", Tag: "!!int"})
		return
	}
	if len(n.Content) == 0 {
		return
	}
	i := choice % (len(n.Content) / step) * step
	if choice%2 == 0 {
		n.Content = slices.Delete(n.Content, i, i+step)
		return
	}
	for _, repeated := range n.Content[i : i+step] {
		n.Content = append(n.Content, clone(repeated))
	}
}

// shrink removes from a valid document every part without which the document stays valid, except
// the node "keep". A small document makes the test of all values of the pool fast.
func (f *format) shrink(t testing.TB, root, keep *yaml.Node) {
	for _, n := range nodes(root) {
		step := 1
		if n.Kind == yaml.MappingNode {
			step = 2
		}
		for i := len(n.Content) - step; i >= 0; i -= step {
			before := n.Content
			n.Content = slices.Delete(slices.Clone(before), i, i+step)
			if !slices.Contains(nodes(root), keep) || len(f.parse(f.encode(t, root))) > 0 {
				n.Content = before
			}
		}
	}
}

// TestChangedDocuments: parser and schema agree about all documents that differ from a good one in
// one value, and about random documents with several differences.
func TestChangedDocuments(t *testing.T) {
	rounds := 150
	if scale, err := strconv.Atoi(os.Getenv("HEADGATE_TEST_SCALE")); err == nil {
		rounds *= scale
	}
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := newComparison(t, &f)
			for _, text := range f.good {
				var good yaml.Node
				require.NoError(t, yaml.Unmarshal([]byte(text), &good))
				root := good.Content[0]
				choices := len(pool) + 8
				for i := range nodes(root) {
					small := clone(root)
					node := nodes(small)[i]
					f.shrink(t, small, node)
					kept := *clone(node)
					for choice := range choices {
						mutate(node, choice)
						c.check(t, f.encode(t, small))
						*node = *clone(&kept)
					}
				}
				random := rand.New(rand.NewPCG(1, 2))
				for range rounds {
					changed := clone(root)
					for range 2 + random.IntN(3) {
						all := nodes(changed)
						mutate(all[random.IntN(len(all))], random.IntN(choices))
					}
					c.check(t, f.encode(t, changed))
				}
			}
			require.Greater(t, c.accepted, 100)
		})
	}
}
