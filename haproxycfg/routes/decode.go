package routes

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder reads routes from the YAML nodes of one file. It reads only known fields, so its
// recursion is not deep. With aliases, a short file can stand for very many nodes, so
// decoder.budget limits the number of nodes.
type decoder struct {
	file         string
	top          string                // the field in problems about the document
	budget       int                   // the number of nodes that the decoder may still read
	limit        int                   // the largest number of routes
	listed       bool                  // true if a document has had a list of routes
	faults       map[*yaml.Node]string // the entries that the parser could not read, and the reasons
	report       func(line int, field, message string)
	declarations []declaration
}

// fields are the known fields of a mapping, in the order of the package documentation. The function
// "read" stores the value of a field: n is the YAML node of this value, and the argument "at" is
// the path of the field for error messages.
type fields []struct {
	name string
	read func(n *yaml.Node, at string)
}

func (d *decoder) document(root *yaml.Node) {
	if root.Kind == yaml.SequenceNode {
		if d.listed { // a line "---" in the middle of the list has ended the document
			d.report(root.Line, "routes", `the "---" above ends the list; the entries after it are used too`)
			d.routes(root, "routes")
			return
		}
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
	if deref(list).ShortTag() == "!!null" { // all routes of the file are comments
		return
	}
	d.listed = true
	d.sequence(list, at, func(n *yaml.Node, at string) bool {
		if len(d.declarations) == d.limit {
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

// route reads one route, and keeps it if the route has no problem.
func (d *decoder) route(n *yaml.Node, at string) {
	if fault, ok := d.faults[n]; ok {
		d.report(n.Line, at, fault+"; this entry is left out")
		return
	}
	outer := d.report
	defer func() { d.report = outer }()
	var bad []string // the fields with a problem
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
		{"protocol", d.str((*string)(&r.Protocol))},
		{"limits", func(n *yaml.Node, at string) {
			limit := func(l *Limit) fields {
				return fields{{"requests", d.limited(&l.Requests)}, {"connections", d.limited(&l.Connections)}}
			}
			d.mapping(n, at, append(limit(&r.Limits.Limit), fields{{"source", func(n *yaml.Node, at string) {
				d.mapping(n, at, limit(&r.Limits.Source))
			}}}...))
		}},
		{"timeouts", func(n *yaml.Node, at string) {
			d.mapping(n, at, fields{
				{"server", d.duration(&r.Timeouts.Server)},
				{"tunnel", d.duration(&r.Timeouts.Tunnel)},
			})
		}},
		{"shift", d.boolean(&r.Shift)},
		{"prefer", func(n *yaml.Node, at string) { r.Prefer = d.preferences(n, at) }},
	}) {
		return
	}
	normal := normalRoute(r, func(field, message string) {
		full := join(at, field)
		if !covered(bad, full) {
			d.report(lineOf(n, field), full, message)
		}
	})
	if len(bad) == 0 && d.budget > 0 { // Without budget left, mapping skips fields.
		d.declarations = append(d.declarations, declaration{normal, at})
	}
}

// covered reports whether the list "bad" contains the path of a field, or of a value that contains
// the field: with "check" in the list, it is true for "check.path". The decoder has already
// reported the values in the list. So it must not also report that their fields are missing.
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

func (d *decoder) preferences(list *yaml.Node, at string) (ps []Preference) {
	d.sequence(list, at, func(n *yaml.Node, at string) bool {
		var p Preference
		d.mapping(n, at, fields{
			{"region", d.str(&p.Region)},
			{"clusters", func(n *yaml.Node, at string) { p.Clusters = d.strings(n, at, MaxPreferred) }},
			{"quorum", d.positive(&p.Quorum, maxQuorum, errQuorum)},
		})
		ps = append(ps, p)
		return len(ps) <= MaxPreferences
	})
	return ps
}

// strings reads a list of strings. If the list has more than "most" strings, the result has the
// first most+1 strings, so that the caller can report the fault.
func (d *decoder) strings(list *yaml.Node, at string, most int) (all []string) {
	d.sequence(list, at, func(n *yaml.Node, at string) bool {
		var s string
		d.str(&s)(n, at)
		all = append(all, s)
		return len(all) <= most
	})
	return all
}

func (d *decoder) check(n *yaml.Node, at string) *Check {
	var c Check
	d.mapping(n, at, fields{
		{"path", d.str(&c.Path)},
		{"host", d.str(&c.Host)},
		{"grpc", d.boolean(&c.GRPC)},
		{"interval", d.duration(&c.Interval)},
		{"rise", d.count(&c.Rise)},
		{"fall", d.count(&c.Fall)},
	})
	return &c
}

// mapping reads the known fields of a mapping, and reports unknown fields. It returns false if n is
// not a mapping.
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
		if key := deref(k); key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null" {
			d.report(k.Line, cmp.Or(at, d.top), "has a key that must be the name of a field, not "+kind(key))
			continue
		}
		if j < 0 {
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

// sequence calls a function for every item of a list, in order. It stops when the function returns
// false.
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

// integer returns a function that reads an integer in plain decimal digits. YAML also accepts 0x10,
// 0b1, 010 and 1_000. In a declaration, such numbers are usually mistakes, so the function reports
// them.
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

// count returns a function that reads an integer from 1 to maxCount.
func (d *decoder) count(to *int) func(*yaml.Node, string) { return d.positive(to, maxCount, errCount) }

// limited returns a function that reads an integer from 1 to maxLimit.
func (d *decoder) limited(to *int) func(*yaml.Node, string) {
	return d.positive(to, maxLimit, errLimit)
}

// positive returns a function that reads an integer from 1 to "most", and reports "fault" for other
// numbers. It refuses 0, because 0 in a Route means that the field is missing.
func (d *decoder) positive(to *int, most int, fault error) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		v := 1
		d.integer(&v)(n, at)
		if v < 1 || v > most {
			d.report(n.Line, at, fault.Error())
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

// If n is an alias, deref returns the node to which n refers, which is never an alias itself.
// Otherwise deref returns n.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// kind describes a node for a message.
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

// lineOf returns the line of a field, such as "backends[0].port", in the route n. If the field is
// missing, lineOf returns the line of the value that should contain it.
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

func (fs fields) index(name string) int {
	for i, f := range fs {
		if f.name == name {
			return i
		}
	}
	return -1
}

// unknown returns the message about a key that is not a known field.
func (fs fields) unknown(key *yaml.Node) string {
	if key.ShortTag() == "!!merge" {
		return "merge keys are not supported; repeat the fields, or alias whole values"
	}
	if near := fs.nearest(key.Value); near != "" {
		return "unknown field, did you mean " + near + "?"
	}
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return "unknown field; known here: " + strings.Join(names, ", ")
}

// nearest returns the field that a misspelled name probably means, or "" if no field is similar.
func (fs fields) nearest(name string) string {
	if len(name) < 2 || len(name) > 32 {
		return ""
	}
	name = strings.ToLower(name)
	best, least := "", 3
	for _, f := range fs {
		d := distance(name, f.name)
		if strings.HasPrefix(name, f.name) || strings.HasPrefix(f.name, name) {
			d = min(d, 2)
		}
		if d < least && d < len(f.name)-1 {
			best, least = f.name, d
		}
	}
	return best
}

// distance returns the Levenshtein distance: the smallest number of steps that turn a into b. A
// step inserts, deletes or replaces one byte.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// fieldName returns a key as part of the path of a field. It quotes a key that does not look like
// the name of a field.
func fieldName(s string) string {
	for i := range len(s) {
		if c := s[i] | 0x20; !isLowerAlnum(c) && s[i] != '-' && s[i] != '_' {
			return quote(s)
		}
	}
	if s == "" || len(s) > 64 {
		return quote(s)
	}
	return s
}
