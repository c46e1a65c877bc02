package usage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxWidth is the largest number of columns that Help uses. Longer lines are hard to read.
const MaxWidth = 100

// Help returns the text of -h for the command c of p. Lines have at most "width" columns, unless a
// single word is longer. 0 means 80, and a value above MaxWidth means MaxWidth.
func Help(p Program, c Command, width int) string {
	w := writer{width: min(cmp.Or(width, 80), MaxWidth)}
	w.title("Example")
	for line := range strings.SplitSeq(cmp.Or(c.Example, p.line(c)), "\n") {
		w.command(line)
	}
	w.b.WriteByte('\n')
	w.wrap(0, cmp.Or(c.Summary, p.Summary))
	if c.Name == "" {
		w.commands(p)
	}
	if c.Args != "" {
		w.title("Usage")
		w.wrap(2, p.line(c)+" [FLAG …] "+c.Args)
	}
	for _, g := range c.Groups {
		w.title(g.Title)
		for _, f := range g.Flags {
			w.flag(f)
		}
	}
	w.title("Exit status")
	for _, e := range c.Exits {
		w.item(2, fmt.Sprint(e.Code), 3, e.Meaning)
	}
	return w.b.String()
}

// writer writes text in lines of a limited width.
type writer struct {
	b     strings.Builder
	width int
}

func (w *writer) title(text string) {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	w.b.WriteString(text + ":\n")
}

// wrap writes the words of a text. Each line begins with "indent" spaces.
func (w *writer) wrap(indent int, text string) { w.item(indent, "", 0, text) }

// item writes a name after "indent" spaces, and a text to the right of the name. All lines of the
// text begin "column" columns to the right of the beginning of the name.
func (w *writer) item(indent int, name string, column int, text string) {
	line := strings.Repeat(" ", indent) + name
	line += strings.Repeat(" ", max(0, indent+column-utf8.RuneCountInString(line)))
	w.words(line, indent+column, strings.Fields(text), "")
}

// words writes words after the text in "line". If a word does not fit into the width, it begins a
// new line with "indent" spaces, and the line before it ends with the text in "more".
func (w *writer) words(line string, indent int, words []string, more string) {
	empty := true
	for _, word := range words {
		space := ""
		if !empty {
			space = " "
		}
		if !empty && utf8.RuneCountInString(line+space+word+more) > w.width {
			w.b.WriteString(line + more + "\n")
			line, space = strings.Repeat(" ", indent), ""
		}
		line += space + word
		empty = false
	}
	w.b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// command writes a command line. If the command line is wider than the width, command breaks it
// into several lines. Each of these lines except the last ends with a backslash, so that a user can
// copy the lines to a shell.
func (w *writer) command(line string) {
	var words []string // a flag and its value are one word
	for word := range strings.FieldsSeq(line) {
		if n := len(words); n > 1 && strings.HasPrefix(words[n-1], "-") && !strings.HasPrefix(word, "-") {
			words[n-1] += " " + word
		} else {
			words = append(words, word)
		}
	}
	w.words("  ", 6, words, ` \`)
}

// commands writes the list of the commands of p that have a name.
func (w *writer) commands(p Program) {
	column := 0
	for _, c := range p.Commands {
		column = max(column, len(c.Name)+2)
	}
	if column <= 2 {
		return
	}
	w.title("Commands")
	for _, c := range p.Commands {
		if c.Name != "" {
			w.item(2, c.Name, column, c.Summary)
		}
	}
	w.wrap(2, p.Name+" COMMAND -h shows the flags of a command.")
}

// flag writes a flag: its name, its value and its variable in one line if they fit, and below them
// its text.
func (w *writer) flag(f Flag) {
	line := strings.TrimSuffix("  -"+f.Name+" "+f.Value, " ")
	if f.Env != "" {
		const column = 34
		n := utf8.RuneCountInString(line)
		if n+2 <= column && column+len(f.Env) <= w.width {
			line += strings.Repeat(" ", column-n) + f.Env
		} else if n+2+len(f.Env) <= w.width {
			line += "  " + f.Env
		} else {
			line += "\n      " + f.Env
		}
	}
	w.b.WriteString(line + "\n")
	w.wrap(6, f.Text+f.defaultText())
}

// defaultText returns the text that says the default of a flag.
func (f Flag) defaultText() string {
	if f.Default == "" {
		return ""
	}
	return " (default " + f.Default + ")"
}

// GroupFlags splits flags into groups. Each element of "names" lists the flags of the group with
// the same index in titles. A flag belongs to the first group that has its name, or to the last
// group, "other".
func GroupFlags(flags []Flag, titles []string, names [][]string) (groups []Group) {
	left := slices.Clone(flags)
	for i, title := range titles {
		g := Group{Title: title}
		for _, name := range names[i] {
			if j := slices.IndexFunc(left, func(f Flag) bool { return f.Name == name }); j >= 0 {
				g.Flags = append(g.Flags, left[j])
				left = slices.Delete(left, j, j+1)
			}
		}
		if g.Flags != nil {
			groups = append(groups, g)
		}
	}
	if len(left) > 0 {
		groups = append(groups, Group{Other, left})
	}
	return groups
}

// Other is the title of the flags that no group has.
const Other = "other"
