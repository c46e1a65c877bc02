package routes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// oddities are entries of a list with a fault of syntax, or with a wrong place in the list.
var oddities = []struct{ name, entry string }{
	{"key in a flow mapping without value", "- {? host, B}"},
	{"mapping as key", "- {? {a: b} : c, B}"},
	{"list as key", "- ? [a, b]\n  : c"},
	{"key alone", "- ?"},
	{"merge key", "- {<<: {host: three.example.com}, B}"},
	{"unknown alias", "- {host: *nowhere, B}"},
	{"unknown alias of a list", "- host: three.example.com\n  backends: *nowhere"},
	{"unknown tag", "- {host: !foo three.example.com, B}"},
	{"template", "- {host: {{ .Host }}, B}"},
	{"template at the start of a line", "{{ range .Hosts }}"},
	{"percent", "- {host: %h, B}"},
	{"directive", "%YAML 1.2"},
	{"at sign", "- {host: @h, B}"},
	{"backtick", "- {host: `h`, B}"},
	{"tab as indentation", "- host: three.example.com\n\tB"},
	{"tab before the hyphen", "\t- {host: three.example.com, B}"},
	{"bracket not closed", "- {host: three.example.com, backends: [{cluster: c1}"},
	{"bracket too many", "- {host: three.example.com, B]}"},
	{"quote not closed", "- {host: \"three.example.com, B}"},
	{"single quote not closed", "- host: 'three.example.com\n  B"},
	{"bad escape", "- {host: \"three\\.example.com\", B}"},
	{"wildcard without quotes", "- host: *.example.com\n  B"},
	{"wildcard without quotes in a flow mapping", "- {host: *.example.com, B}"},
	{"colon in a plain value", "- host: a: b\n  B"},
	{"no space after the colon", "- host:three.example.com\n  B"},
	{"alias to itself", "- &x {host: three.example.com, backends: *x}"},
	{"end of the document", "..."},
	{"new document", "---"},
	{"text", "three.example.com"},
	{"entry more indented", " - {host: three.example.com, B}"},
	{"block entry more indented", "  - host: three.example.com\n    B"},
	{"one side of a conflict", "<<<<<<< HEAD\n- {host: three.example.com, B}\n======="},
	{"conflict", "<<<<<<< HEAD\n- {host: three.example.com, B}\n=======\n- {host: four.example.com, B}\n>>>>>>> branch"},
	{"not UTF-8", "- {host: three\xff.example.com, B}"},
	{"control character", "- {host: three\x00.example.com, B}"},
	{"carriage return", "- {host: three\r.example.com, B}"},
	{"no-break space", "-\u00a0{host: three.example.com, B}"},
	{"no-break space as indentation", "- host: three.example.com\n\u00a0 B"},
	{"bad block text", "- host: |bad\n   x\n  B"},
	{"deep", "- " + strings.Repeat("[", 10_002)},
}

// TestParseSalvage puts each oddity between two good entries, in every form of list. Parse must
// keep the two good entries. Each problem has a file, a line and a field.
func TestParseSalvage(t *testing.T) {
	for _, form := range []struct{ name, first, last string }{
		{"flow entries", "- {host: one.example.com, B}\n", "- {host: two.example.com, B}\n"},
		{"block entries", "- host: one.example.com\n  B\n", "- host: two.example.com\n  B\n"},
		{"block lists", "- host: one.example.com\n  backends:\n  - {cluster: c1, namespace: ns, service: web, port: http}\n", "- backends: *all\n  host: two.example.com\n"},
	} {
		for _, o := range oddities {
			if form.name == "block lists" && o.name == "block entry more indented" {
				continue // here the oddity is a well-formed entry of the list "backends"
			}
			t.Run(form.name+"/"+o.name, func(t *testing.T) {
				text := "x-all: &all [" + backend + "]\nroutes:\n" + form.first + o.entry + "\n" + form.last
				table, problems := Parse("f", []byte(withBackends(text)))
				hosts := table.Hosts()
				require.Contains(t, hosts, "one.example.com", problems)
				require.Contains(t, hosts, "two.example.com", problems)
				require.NotEmpty(t, problems)
				for _, p := range problems {
					require.Equal(t, "f", p.File)
					require.NotEmpty(t, p.Field, p)
					require.GreaterOrEqual(t, p.Line, 4, p)
					require.LessOrEqual(t, p.Line, 4+strings.Count(form.first, "\n")+strings.Count(o.entry, "\n"), p)
				}
			})
		}
	}
}

func withBackends(text string) string {
	return strings.ReplaceAll(text, "B", "backends: ["+backend+"]")
}

// TestParseSalvageIndented: one entry has another indentation than the others. Parse leaves out
// this entry, wherever it is in the list.
func TestParseSalvageIndented(t *testing.T) {
	lines := []string{"  - {host: one.example.com, B}", "  - {host: two.example.com, B}", "  - {host: three.example.com, B}"}
	for i := range lines {
		for _, odd := range []string{"", " ", "   ", "      "} {
			t.Run(fmt.Sprint(i, " by ", len(odd)), func(t *testing.T) {
				text := "routes:\n"
				for j, l := range lines {
					if j == i {
						l = odd + strings.TrimSpace(l)
					}
					text += l + "\n"
				}
				table, problems := Parse("f", []byte(withBackends(text)))
				require.Len(t, table.Hosts(), 2, problems)
				require.Len(t, problems, 1)
				require.Equal(t, i+2, problems[0].Line)
			})
		}
	}
}

// TestParseSalvageBrackets: if a list in brackets, such as a JSON list, has one fault, Parse leaves
// out only one entry.
func TestParseSalvageBrackets(t *testing.T) {
	const b = `"backends": [{"cluster": "c", "namespace": "n", "service": "s", "port": "p"}]`
	one, two := `{"host": "one.example.com", `+b+`}`, `{"host": "two.example.com", `+b+`}`
	for _, form := range []struct{ name, text string }{
		{"JSON", "{\"routes\": [\n" + one + ",\nODD,\n" + two + "\n]}\n"},
		{"JSON in one line", `{"routes": [` + one + `,ODD,` + two + `]}`},
		{"YAML", "x-a: &a 1\nroutes: [\n  " + one + ",\n  ODD,\n  " + two + ",\n]\n"},
	} {
		for _, odd := range []string{
			`{"host": "three.example.com" ` + b + `}`,
			`{"host": "three.example.com", ` + b,
			`{"host": "three.example.com, ` + b + `}`,
			`{"host": "three.example.com", "backends": [{"cluster": "c"}`,
			`{"host": "three.example.com", ` + b + `]}`,
			`{"host": %h, ` + b + `}`,
			`{"host": *nowhere, ` + b + `}`,
			`{"host": "three\q", ` + b + `}`,
			`@`,
		} {
			t.Run(form.name+"/"+odd, func(t *testing.T) {
				table, problems := Parse("f", []byte(strings.Replace(form.text, "ODD", odd, 1)))
				require.Contains(t, table.Hosts(), "one.example.com", problems)
				require.Contains(t, table.Hosts(), "two.example.com", problems)
				require.NotEmpty(t, problems)
				for _, p := range problems {
					require.NotEmpty(t, p.Field)
				}
			})
		}
	}
}

// TestParseSalvageAnchors: entries can use the anchors of other pieces, but not those of bad
// entries.
func TestParseSalvageAnchors(t *testing.T) {
	table, problems := Parse("f", []byte(withBackends(`x-all: &all [`+backend+`]
x-bad: &bad [
routes:
- {host: &one one.example.com, backends: *all}
- {host: %h, backends: *all}
- {host: *one, path: /b, backends: *all}
- {host: &two "two.example.com, backends: *all}
- {host: *two, backends: *all}
- {host: bad.example.com, backends: *bad}
x-more: &more [`+backend+`]
---
routes:
- {host: three.example.com, B}
`)))
	require.Equal(t, []string{"one.example.com", "three.example.com"}, table.Hosts())
	require.Len(t, table.Routes(), 3)
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	require.Equal(t, []string{
		"f:2: routes: did not find expected node content; the entries around it are used",
		"f:5: routes[1]: found character that cannot start any token; this entry is left out",
		"f:7: routes[3]: found unexpected end of stream; this entry is left out",
		"f:8: routes[4]: unknown anchor 'two' referenced; this entry is left out",
		"f:9: routes[5]: unknown anchor 'bad' referenced; this entry is left out",
	}, got)
}

// TestParseSalvageIsWhole: if Parse cannot read a part of an entry, it leaves out the whole entry.
func TestParseSalvageIsWhole(t *testing.T) {
	table, _ := Parse("f", []byte(withBackends(`routes:
- host: one.example.com
  backends:
  - {cluster: c, namespace: n, service: s, port: p}
  - %{cluster: c, namespace: n, service: t, port: p}
- {host: two.example.com, B}
- host: three.example.com
  backends:
  - {cluster: c, namespace: n, service: s, port: p}
  - host: %h
`)))
	require.Equal(t, []string{"two.example.com"}, table.Hosts())
}

// TestParseSalvageBounds: Parse searches for entries with another indentation only in a bounded
// amount of text.
func TestParseSalvageBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "- {host: h%d.example.com, %s}\n", i, withBackends("B"))
	}
	b.WriteString("- host: %h\n")
	for i := range 1500 {
		b.WriteString(strings.Repeat(" ", i+1) + "- host: x\n")
	}
	text := []byte(b.String())
	s := salvage(text)
	require.Equal(t, 2000, s.entries)
	require.Less(t, s.again, 0)
	table, problems := Parse("f", text)
	require.Len(t, table.Hosts(), 2000)
	require.Len(t, problems, 1)
}
