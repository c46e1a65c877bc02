package routes

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder turns the nodes of one file into routes. It walks only the fields
// that it knows, so its depth is bounded; its work is bounded by budget, since
// aliases may repeat a node far more often than the file is long.
type decoder struct {
	file    string
	budget  int
	limit   int // of routes
	report  func(line int, field, message string)
	entries []entry
}

// fields are the fields of one kind of mapping, in the order of its documentation.
type fields []struct {
	name string
	read func(n *yaml.Node, at string)
}

func (d *decoder) document(root *yaml.Node) {
	if root.Kind == yaml.SequenceNode {
		d.report(root.Line, "", `must be a mapping; put the list under "routes:"`)
		return
	}
	found := false
	d.mapping(root, "", fields{
		{"routes", func(n *yaml.Node, at string) {
			found = true
			d.routes(n, at)
		}},
	})
	if !found && deref(root).Kind == yaml.MappingNode {
		d.report(root.Line, "routes", "is missing; an intended empty table says routes: []")
	}
}

func (d *decoder) routes(list *yaml.Node, at string) {
	if deref(list).ShortTag() == "!!null" { // all entries commented out
		return
	}
	d.sequence(list, at, func(n *yaml.Node, at string) bool {
		if len(d.entries) == d.limit {
			d.report(n.Line, at, tooManyRoutes)
			return false
		}
		d.route(n, at)
		if d.budget <= 0 {
			d.report(n.Line, at, "the file's aliases repeat too much; this route and all after it are left out")
			return false
		}
		return true
	})
}

// route reads one route and keeps it if nothing is wrong with it.
func (d *decoder) route(n *yaml.Node, at string) {
	outer := d.report
	defer func() { d.report = outer }()
	var bad []string // the fields already reported
	d.report = func(line int, field, message string) {
		bad = append(bad, field)
		outer(line, field, message)
	}
	r := Route{Position: Position{d.file, n.Line}}
	if !d.mapping(n, at, fields{
		{"host", d.str(&r.Host)},
		{"path", d.str(&r.Path)},
		{"exact", d.boolean(&r.Exact)},
		{"backends", func(n *yaml.Node, at string) { r.Backends = d.backends(n, at) }},
		{"check", func(n *yaml.Node, at string) { r.Check = d.check(n, at) }},
		{"timeouts", func(n *yaml.Node, at string) {
			d.mapping(n, at, fields{
				{"server", d.duration(&r.Timeouts.Server)},
				{"tunnel", d.duration(&r.Timeouts.Tunnel)},
			})
		}},
	}) {
		return
	}
	normal := normalise(r, func(field, message string) {
		full := join(at, field)
		if !covered(bad, full) {
			d.report(lineOf(n, field), full, message)
		}
	})
	if len(bad) == 0 && d.budget > 0 { // with the budget spent, fields were skipped
		d.entries = append(d.entries, entry{normal, at})
	}
}

// covered tells whether a field, or something that holds it, was reported: what
// could not be read is not missing as well.
func covered(bad []string, field string) bool {
	for _, b := range bad {
		if rest, ok := strings.CutPrefix(field, b); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

func (d *decoder) backends(list *yaml.Node, at string) (bs []Backend) {
	d.sequence(list, at, func(n *yaml.Node, at string) bool {
		b := Backend{Weight: DefaultWeight}
		d.mapping(n, at, fields{
			{"cluster", d.str(&b.Cluster)},
			{"namespace", d.str(&b.Namespace)},
			{"service", d.str(&b.Service)},
			{"port", d.port(&b.Port)},
			{"weight", d.integer(&b.Weight)},
		})
		bs = append(bs, b)
		return len(bs) <= MaxBackends
	})
	return bs
}

func (d *decoder) check(n *yaml.Node, at string) *Check {
	var c Check
	d.mapping(n, at, fields{
		{"path", d.str(&c.Path)},
		{"host", d.str(&c.Host)},
		{"interval", d.duration(&c.Interval)},
		{"rise", d.count(&c.Rise)},
		{"fall", d.count(&c.Fall)},
	})
	return &c
}

// mapping reads the known fields of a mapping and reports the others. It tells
// whether n is a mapping at all.
func (d *decoder) mapping(n *yaml.Node, at string, known fields) bool {
	m := deref(n)
	if m.Kind != yaml.MappingNode {
		d.report(n.Line, at, "must be a mapping, not "+kind(m))
		return false
	}
	var seen uint64
	for i := 0; i+1 < len(m.Content) && d.budget > 0; i += 2 {
		d.budget--
		k, v := m.Content[i], m.Content[i+1]
		name := deref(k).Value
		j := known.index(name)
		if deref(k).Kind != yaml.ScalarNode || j < 0 {
			if at != "" || !strings.HasPrefix(name, "x-") {
				d.report(k.Line, join(at, fieldName(name)), known.unknown(deref(k)))
			}
			continue
		}
		if seen&(1<<j) != 0 {
			d.report(k.Line, join(at, name), "is given twice")
			continue
		}
		seen |= 1 << j
		known[j].read(v, join(at, name))
	}
	return true
}

// sequence calls each for the items of a list until it returns false.
func (d *decoder) sequence(n *yaml.Node, at string, each func(n *yaml.Node, at string) bool) {
	s := deref(n)
	if s.Kind != yaml.SequenceNode {
		d.report(n.Line, at, "must be a list, not "+kind(s))
		return
	}
	for i, item := range s.Content {
		d.budget--
		if !each(item, at+"["+strconv.Itoa(i)+"]") {
			return
		}
	}
}

func (d *decoder) str(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		s := deref(n)
		switch {
		case s.ShortTag() == "!!str" && s.Value == "":
			d.report(n.Line, at, "is empty")
		case s.ShortTag() == "!!str":
			*to = s.Value
		case s.Kind == yaml.ScalarNode && s.ShortTag() != "!!null":
			d.report(n.Line, at, "must be a string, not "+kind(s)+"; put quotes around it")
		default:
			d.report(n.Line, at, "must be a string, not "+kind(s))
		}
	}
}

func (d *decoder) port(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		if s := deref(n); s.ShortTag() == "!!int" && isDigits(s.Value) {
			*to = s.Value
			return
		} else if s.ShortTag() != "!!str" {
			d.report(n.Line, at, "must be the name or the number of a service port, not "+kind(s))
			return
		}
		d.str(to)(n, at)
	}
}

func (d *decoder) boolean(to *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		s := deref(n)
		v, err := strconv.ParseBool(strings.ToLower(s.Value))
		if s.ShortTag() != "!!bool" || err != nil {
			d.report(n.Line, at, "must be true or false, not "+kind(s))
			return
		}
		*to = v
	}
}

// integer takes plain decimal digits: 0x10, 0b1, 010 and 1_000, which YAML
// reads too, are slips more often than meant.
func (d *decoder) integer(to *int) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		s := deref(n)
		v, err := strconv.Atoi(s.Value)
		if s.ShortTag() != "!!int" || err != nil || strconv.Itoa(v) != s.Value {
			d.report(n.Line, at, "must be a whole number, not "+kind(s))
			return
		}
		*to = v
	}
}

// count is an integer of at least 1; the zero value means that none was given.
func (d *decoder) count(to *int) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		v := 1
		d.integer(&v)(n, at)
		if v < 1 || v > maxCount {
			d.report(n.Line, at, errCount.Error())
			return
		}
		*to = v
	}
}

func (d *decoder) duration(to *time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		s := deref(n)
		if s.Kind != yaml.ScalarNode || s.ShortTag() == "!!null" {
			d.report(n.Line, at, "must be a duration, not "+kind(s))
			return
		}
		v, err := parseDuration(s.Value)
		switch {
		case err != nil:
			d.report(n.Line, at, quote(s.Value)+" "+err.Error())
		case v == 0:
			d.report(n.Line, at, quote(s.Value)+" must be more than nothing; without the field the default holds")
		default:
			*to = v
		}
	}
}

// deref follows an alias to what it stands for, which is never an alias.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// kind names what a node is, for a message.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return "the string " + quote(n.Value)
	case "!!bool":
		return "the truth value " + quote(n.Value)
	case "!!int", "!!float":
		return "the number " + quote(n.Value)
	}
	return quote(n.Value) + " of type " + quote(n.ShortTag())
}

// lineOf finds the line of a field, as normalise names it, below a route. A
// missing field stands at the line of what should hold it.
func lineOf(n *yaml.Node, field string) int {
	line := n.Line
	for _, part := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n = child(deref(n), part); n == nil {
			break
		}
		line = n.Line
	}
	return line
}

func child(n *yaml.Node, part string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(part); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == part {
			return n.Content[i+1]
		}
	}
	return nil
}
