package usage

import (
	"fmt"
	"slices"
	"strings"
)

// Page returns the section of the reference page for p, in Markdown: its commands, their flags and
// their exit codes. If a command has the same flag as the command without a name, the section lists
// only the name of the flag.
func Page(p Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n", p.Name, p.Summary)
	var first []Flag
	for i, c := range p.Commands {
		if c.Name != "" {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", strings.TrimSuffix(p.line(c)+" "+c.Args, " "), c.Summary)
		}
		fmt.Fprintf(&b, "\n```sh\n%s\n```\n\n", c.Example)
		c.table(&b, p, first)
		if i == 0 {
			first = c.Flags()
		}
		b.WriteString("| exit code | meaning |\n|---|---|\n")
		for _, e := range c.Exits {
			fmt.Fprintf(&b, "| %d | %s |\n", e.Code, e.Meaning)
		}
	}
	return b.String()
}

// table writes a table of those flags of c that are not in the list "known". Below the table, it
// writes the names of the flags of c that are in this list.
func (c Command) table(b *strings.Builder, p Program, known []Flag) {
	var same []string
	head := "| flag | value | default | purpose | meaning |\n|---|---|---|---|---|\n"
	for _, g := range c.Groups {
		for _, f := range g.Flags {
			if slices.ContainsFunc(known, f.equal) {
				same = append(same, "`-"+f.Name+"`")
				continue
			}
			b.WriteString(head)
			head = ""
			fmt.Fprintf(b, "| `-%s` | %s | %s | %s | %s |\n", f.Name, code(f.Value), code(f.Default), g.Title, cell(f.Text))
		}
	}
	if head == "" {
		b.WriteByte('\n')
	}
	if same != nil {
		slices.Sort(same)
		fmt.Fprintf(b, "As for `%s`: %s.\n\n", p.line(p.Commands[0]), strings.Join(same, ", "))
	}
}

// equal reports whether two flags have the same name, value, default and meaning.
func (f Flag) equal(g Flag) bool {
	return f.Name == g.Name && f.Value == g.Value && f.Text == g.Text && f.Default == g.Default
}

// code returns a text as code in a cell of a table, and "" for "".
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell escapes a text for a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
