package nodeselect

import "bytes"

// scalar reads a scalar or an empty collection at pos that belongs to the block
// in column n: lines that continue it stand deeper.
func (p *fastYAML) scalar(n, pos int) bool {
	switch p.src[pos] {
	case '"', '\'':
		return p.quoted(n, pos)
	case '|':
		return p.literal(n, pos)
	case '{', '[':
		text := p.src[pos:p.end]
		if s := string(text); s != "{}" && s != "[]" {
			return false
		}
		p.out = append(p.out, text...)
		return p.advance()
	}
	return p.plain(n, pos)
}

// plain reads a scalar without quotes. Lines that continue it are joined with
// spaces.
func (p *fastYAML) plain(n, pos int) bool {
	text := p.src[pos:p.end]
	if !plainLine(text) || !p.advance() {
		return false
	}
	if !p.eof && p.indent > n {
		joined := bytes.Clone(text)
		for !p.eof && p.indent > n {
			line := p.src[p.start:p.end]
			if p.gap || !isWordByte(line[0]) || !plainLine(line) {
				return false
			}
			joined = append(append(joined, ' '), line...)
			if !p.advance() {
				return false
			}
		}
		text = joined
	}
	switch classify(text) {
	case scalarString:
		p.str(text)
	case scalarLiteral:
		p.out = append(p.out, text...)
	default:
		return false
	}
	return true
}

// plainLine is true if a line of a plain scalar goes to its end.
func plainLine(line []byte) bool {
	for i, c := range line {
		if c == ':' && isColon(line, i) || c == '#' && i > 0 && line[i-1] == ' ' {
			return false
		}
	}
	return true
}

// quoted reads a scalar in quotes, which must end its line. Lines are joined with
// spaces.
func (p *fastYAML) quoted(n, pos int) bool {
	quote := p.src[pos]
	first := pos + 1
	p.out = append(p.out, '"')
	for i := first; ; i++ {
		if i == p.end {
			if i == first || p.src[i-1] == ' ' || !p.continuation(n) {
				return false
			}
			p.out = append(p.out, ' ')
			i = p.start
		}
		c := p.src[i]
		switch {
		case c == quote && c == '\'' && i+1 < p.end && p.src[i+1] == '\'':
			i++
			p.out = append(p.out, '\'')
		case c == quote:
			p.out = append(p.out, '"')
			return i+1 == p.end && p.advance()
		case c == '\\' && quote == '"':
			if i++; i == p.end {
				return false
			}
			switch c := p.src[i]; c {
			case '"', '\\', 'n', 'r', 't':
				p.out = append(p.out, '\\', c)
			case ' ':
				p.out = append(p.out, ' ')
			default:
				return false
			}
		default:
			p.char(c)
		}
	}
}

// continuation goes to the very next line, which must not be blank and must
// stand deeper than column n.
func (p *fastYAML) continuation(n int) bool {
	if p.next >= len(p.src) {
		return false
	}
	line := p.next
	p.end, p.next = lineEnd(p.src, line)
	p.indent = p.spaces(line)
	p.start = line + p.indent
	return p.start < p.end && p.indent > n
}

// literal reads a block scalar "|" or "|-".
func (p *fastYAML) literal(n, pos int) bool {
	header := string(p.src[pos:p.end])
	if header != "|" && header != "|-" {
		return false
	}
	column := -1 // of the text
	breaks := 0  // that are due before more text
	p.out = append(p.out, '"')
	for p.next < len(p.src) {
		line := p.next
		end, next := lineEnd(p.src, line)
		indent := p.spaces(line)
		blank := line+indent == end
		if column < 0 {
			if blank || indent <= n {
				return false
			}
			column = indent
		}
		if blank && indent > column {
			return false // spaces that are text
		}
		if !blank && indent < column {
			break
		}
		if end == next {
			return false // no newline at the end of the file, so none in the text
		}
		p.next = next
		if blank {
			breaks++
			continue
		}
		for ; breaks > 0; breaks-- {
			p.out = append(p.out, '\\', 'n')
		}
		for _, c := range p.src[line+column : end] {
			p.char(c)
		}
		breaks = 1
	}
	if column < 0 {
		return false
	}
	if header == "|" {
		p.out = append(p.out, '\\', 'n')
	}
	p.out = append(p.out, '"')
	return p.advance()
}

// str writes a string.
func (p *fastYAML) str(s []byte) {
	p.out = append(p.out, '"')
	if bytes.IndexByte(s, '"') < 0 && bytes.IndexByte(s, '\\') < 0 {
		p.out = append(p.out, s...)
	} else {
		for _, c := range s {
			p.char(c)
		}
	}
	p.out = append(p.out, '"')
}

// char writes a character of a string.
func (p *fastYAML) char(c byte) {
	if c == '"' || c == '\\' {
		p.out = append(p.out, '\\')
	}
	p.out = append(p.out, c)
}

type scalarKind uint8

const (
	scalarUnclear scalarKind = iota
	scalarString
	scalarLiteral // as it stands, in JSON too: true, false, null, an integer
)

// classify says what a plain scalar is, if that can be said with certainty of
// the YAML 1.1 types as the full parser resolves them: it looks at the first
// character, and takes for numbers and times only what begins with a digit, a
// sign or a dot, and for words a fixed list. Times stay strings in JSON.
func classify(s []byte) scalarKind {
	if !isWordByte(s[0]) {
		switch {
		case s[0] == '/' || string(s) == ".":
			return scalarString
		case s[0] == '-' && len(s) > 1 && s[1] != '0' && isInteger(s[1:]):
			return scalarLiteral
		}
		return scalarUnclear
	}
	if s[0] < '0' || s[0] > '9' {
		return classifyWord(s)
	}
	if isInteger(s) {
		return scalarLiteral
	}
	return classifyDigits(s)
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// isInteger is true for a decimal number that has no other spelling, of a size
// that needs no care.
func isInteger(s []byte) bool {
	if len(s) == 0 || len(s) > 18 || s[0] == '0' && len(s) > 1 {
		return false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func classifyWord(s []byte) scalarKind {
	if len(s) > len("false") {
		return scalarString
	}
	switch string(s) {
	case "true", "false", "null":
		return scalarLiteral
	}
	switch string(bytes.ToLower(s)) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return scalarUnclear
	}
	return scalarString
}

// classifyDigits tells strings from numbers among what begins with a digit.
//
//	integer: digits and "_"; with 0x also a-f; with 0b, 0o those letters
//	float:   digits, one dot, "e", and one sign behind it
func classifyDigits(s []byte) scalarKind {
	dots, dashes, hex, x := 0, 0, 0, 0
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9':
		case c == '.':
			dots++
		case c == '-':
			dashes++
		case c == 'x' || c == 'X':
			x++
		case c == '_' || c == '+' || c == 'o' || c == 'O' || c|0x20 == 'b' || c|0x20 == 'e':
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			hex++
		default:
			return scalarString // no number has this character
		}
	}
	if dots > 1 || dashes > 1 || hex > 0 && x == 0 {
		return scalarString
	}
	return scalarUnclear
}
