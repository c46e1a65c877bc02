package nodeselect

import "bytes"

const (
	fastDepth = 64   // nesting that fastYAML follows
	fastKeys  = 512  // keys of one mapping that it compares with each other
	fastKey   = 1000 // length of a key; YAML has a limit of 1,024 for them
)

// fastYAML turns block mappings, block sequences, "{}", "[]", and the scalars
// that need no second look into JSON: in ASCII without control characters, tabs,
// trailing spaces, comments behind a value, anchors, tags and directives. Its
// methods give false for anything else, valid or not.
type fastYAML struct {
	src  []byte
	out  []byte
	trim bool   // leave out what no object that Parse reads has a use for
	top  []span // keys of the outermost mapping
	keys []span // keys of the mappings that are open, the innermost last

	// The line to be read next. Blank lines and comments are skipped.
	eof        bool
	gap        bool // some were skipped before this line
	indent     int  // column of the first character that is not yet read
	start, end int  // from that character to the end of the line
	next       int  // beginning of the line after it
}

func (p *fastYAML) reset(src []byte, trim bool) {
	*p = fastYAML{src: src, trim: trim, out: p.out[:0], top: p.top[:0], keys: p.keys[:0]}
}

// document reads a mapping that begins in the first column and is all there is.
func (p *fastYAML) document() bool {
	return p.plainText() && p.advance() && !p.eof && p.indent == 0 && !p.dash() &&
		p.mapping(0, 1, nil) && p.eof
}

// item reads a sequence of one mapping. The JSON is that of the mapping.
func (p *fastYAML) item() bool {
	if !p.plainText() || !p.advance() || p.eof || !p.dash() || !p.enter() {
		return false
	}
	_, _, ok := p.key(p.start)
	return ok && p.mapping(p.indent, 1, nil) && p.eof
}

// plainText is true for printable ASCII and newlines.
func (p *fastYAML) plainText() bool {
	for _, c := range p.src {
		if (c < ' ' || c > '~') && c != '\n' {
			return false
		}
	}
	return true
}

// advance goes to the next line that has something on it.
func (p *fastYAML) advance() bool {
	p.gap = false
	for p.next < len(p.src) {
		line := p.next
		p.end, p.next = lineEnd(p.src, line)
		p.start = line + p.spaces(line)
		p.indent = p.start - line
		if p.start < p.end && p.src[p.start] != '#' {
			return p.src[p.end-1] != ' '
		}
		p.gap = true
	}
	p.eof = true
	return true
}

// spaces counts the spaces at pos.
func (p *fastYAML) spaces(pos int) int {
	n := 0
	for pos+n < len(p.src) && p.src[pos+n] == ' ' {
		n++
	}
	return n
}

// dash is true at the beginning of a sequence's element.
func (p *fastYAML) dash() bool {
	return p.src[p.start] == '-' && (p.start+1 == p.end || p.src[p.start+1] == ' ')
}

// enter goes behind a dash, to what begins on the same line.
func (p *fastYAML) enter() bool {
	if p.start+2 >= p.end || p.src[p.start+2] == ' ' {
		return false
	}
	p.start += 2
	p.indent += 2
	return true
}

// mapping reads the mapping whose keys stand in column n. depth is 1 for an
// object, and parent the key that the mapping stands under.
func (p *fastYAML) mapping(n, depth int, parent []byte) bool {
	if depth > fastDepth {
		return false
	}
	frame := len(p.keys)
	begin := len(p.out)
	for !p.eof && p.indent == n && !p.dash() {
		key, after, ok := p.key(p.start)
		name := p.src[key.start:key.end]
		if !ok || p.seen(frame, name) {
			return false
		}
		p.keys = append(p.keys, key)
		if depth == 1 {
			p.top = append(p.top, key)
		}
		before := len(p.out)
		p.out = append(p.out, ',')
		p.str(name)
		p.out = append(p.out, ':')
		if !p.value(n, after, depth, name) {
			return false
		}
		if p.trim && depth == 2 && unprinted(parent, name) {
			p.out = p.out[:before]
		}
	}
	p.keys = p.keys[:frame]
	return p.closed(n) && p.wrap(begin, '{', '}')
}

// seen is true if the mapping whose keys begin at frame has the key, or so many
// that looking is not worth it.
func (p *fastYAML) seen(frame int, name []byte) bool {
	for _, k := range p.keys[frame:] {
		if bytes.Equal(p.src[k.start:k.end], name) {
			return true
		}
	}
	return len(p.keys)-frame >= fastKeys
}

// value reads what belongs to a key in column n, behind whose colon is pos.
func (p *fastYAML) value(n, pos, depth int, key []byte) bool {
	if pos < p.end {
		return p.scalar(n, pos+p.spaces(pos))
	}
	if !p.advance() {
		return false
	}
	switch {
	case p.eof || p.indent < n || p.indent == n && !p.dash():
		p.out = append(p.out, "null"...)
		return true
	case p.dash():
		return p.sequence(p.indent, depth+1)
	}
	return p.mapping(p.indent, depth+1, key)
}

// sequence reads the sequence whose dashes stand in column n.
func (p *fastYAML) sequence(n, depth int) bool {
	if depth > fastDepth {
		return false
	}
	begin := len(p.out)
	for !p.eof && p.indent == n && p.dash() {
		p.out = append(p.out, ',')
		if !p.enter() {
			return false
		}
		ok := false
		if p.dash() {
			ok = p.sequence(p.indent, depth+1)
		} else if _, _, isKey := p.key(p.start); isKey {
			// Keys here are no top-level ones: depth is 2 at least.
			ok = p.mapping(p.indent, depth+1, nil)
		} else {
			ok = p.scalar(n, p.start)
		}
		if !ok {
			return false
		}
	}
	return p.closed(n) && p.wrap(begin, '[', ']')
}

// closed is true if the line does not stand deeper than column n, where it would
// belong to a value that is complete.
func (p *fastYAML) closed(n int) bool { return p.eof || p.indent <= n }

// wrap puts brackets around what was written since begin, in place of the comma
// there. Nothing written makes an empty pair.
func (p *fastYAML) wrap(begin int, open, close byte) bool {
	if begin == len(p.out) {
		p.out = append(p.out, open)
	}
	p.out[begin] = open
	p.out = append(p.out, close)
	return true
}

// key finds the key at pos, and the position behind its colon. It is false if
// there is none on this line, or one that might not be a string.
func (p *fastYAML) key(pos int) (key span, after int, ok bool) {
	line := p.src[pos:p.end]
	if c := line[0]; c == '"' || c == '\'' {
		i := bytes.IndexByte(line[1:], c) + 1
		if i == 0 || i > fastKey || bytes.IndexByte(line[:i], '\\') >= 0 {
			return key, 0, false
		}
		return span{pos + 1, pos + i}, pos + i + 2, isColon(line, i+1)
	}
	for i, c := range line {
		switch {
		case c == ':' && isColon(line, i):
			key = span{pos, pos + i}
			return key, pos + i + 1, i > 0 && i <= fastKey && line[i-1] != ' ' && classify(line[:i]) == scalarString
		case c == '#' && i > 0 && line[i-1] == ' ':
			return key, 0, false
		}
	}
	return key, 0, false
}

// isColon is true for a colon that ends a key.
func isColon(line []byte, i int) bool {
	return i < len(line) && line[i] == ':' && (i+1 == len(line) || line[i+1] == ' ')
}
