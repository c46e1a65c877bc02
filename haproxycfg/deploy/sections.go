package deploy

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// section is a section of a configuration's text.
type section struct {
	head    string // "backend b"
	body    []string
	servers []string          // names, in order
	lines   map[string]string // name of a server to its line
}

// namedMap finds the file of a map within a line.
var namedMap = regexp.MustCompile(`\bmaps/([^/\s,()'"]+-[0-9a-f]{16}\.map)\b`)

// sectionWords are the words that begin a section (manual, 2.1 and 3 to 12).
// Rendered configurations have few of them, but the one on disk may be
// somebody's own.
var sectionWords = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true,
	"peers": true, "resolvers": true, "userlist": true, "mailers": true, "cache": true,
	"program": true, "ring": true, "http-errors": true, "log-forward": true, "fcgi-app": true,
	"crt-store": true, "traces": true, "log-profile": true, "acme": true, "dynamic-update": true,
}

// readSections cuts a text into its sections by head. Sections of one head, such
// as unnamed defaults, count as one.
func readSections(text string) map[string]*section {
	all := map[string]*section{}
	var s *section
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word := line[:wordEnd(line)]
		switch {
		case line == "" || line[0] == '#':
		case sectionWords[word]:
			head, _ := sectionHead(line)
			if s = all[head]; s == nil {
				s = &section{head: head}
				all[head] = s
			}
		case s == nil: // before the first section there is nothing to HAProxy
		case word == "server":
			s.addServer(line)
		case strings.Contains(line, mapsDir+"/"):
			s.body = append(s.body, namedMap.ReplaceAllString(line, mapsDir+"/*"))
		default:
			s.body = append(s.body, line)
		}
	}
	return all
}

func (s *section) addServer(line string) {
	name := strings.TrimSpace(strings.TrimPrefix(line, "server"))
	if name == "" {
		s.body = append(s.body, line)
		return
	}
	if i := strings.IndexFunc(name, unicode.IsSpace); i >= 0 {
		name = name[:i]
	}
	if s.lines == nil {
		s.lines = map[string]string{}
	}
	s.servers = append(s.servers, name)
	s.lines[name] = line
}

// compareConfigs fills all of d but its maps and text. Sections that read the same
// are not looked into: in a large configuration these are nearly all.
func (d *Diff) compareConfigs(before, after []byte) {
	a, b := cutSections(before), cutSections(after)
	heads := make([]string, 0, max(len(a), len(b)))
	for head, now := range b {
		was, ok := a[head]
		if ok && bytes.Equal(was.text, now.text) {
			d.Servers.Before += now.servers
			d.Servers.After += now.servers
			continue
		}
		heads = append(heads, head)
	}
	for head := range a {
		if _, ok := b[head]; !ok {
			heads = append(heads, head)
		}
	}
	slices.Sort(heads)
	for _, head := range heads {
		a, b := readSections(string(a[head].text))[head], readSections(string(b[head].text))[head]
		x := compareServers(a, b)
		d.Servers.add(a, b, x)
		if name, ok := strings.CutPrefix(head, "backend "); ok {
			if x.differs() {
				x.Name = name
				d.Backends = append(d.Backends, x)
			}
		} else if x.differs() {
			d.Sections = append(d.Sections, head)
		}
	}
}

// cut is the text of a section, head and all, and how many servers readSections finds
// there.
type cut struct {
	text    []byte
	servers int
}

// cutSections gives each section by its head, as readSections finds them.
func cutSections(text []byte) map[string]cut {
	all := map[string]cut{}
	head, start, servers := "", 0, 0
	end := func(at int) {
		if head != "" {
			c := all[head]
			if c.text == nil {
				c.text = text[start:at:at]
			} else { // a copy, since what follows in text is another section
				c.text = append(c.text, text[start:at]...)
			}
			c.servers += servers
			all[head] = c
		}
		start, servers = at, 0
	}
	for at, next := 0, 0; at < len(text); at = next {
		next = len(text)
		if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
			next = at + n + 1
		}
		line := text[at:next]
		if isServer(line) {
			servers++
		} else if h, ok := sectionHead(bytes.TrimSpace(line)); ok {
			end(at)
			head = h
		}
	}
	end(len(text))
	return all
}

// isServer tells whether readSections takes a line for a server.
func isServer(line []byte) bool {
	const rendered = "    server " // and then a name: nearly every line
	if n := len(rendered); len(line) > n && string(line[:n]) == rendered && ' ' < line[n] && line[n] < 0x80 {
		return true
	}
	line = bytes.TrimSpace(line)
	end := wordEnd(line)
	return string(line[:end]) == "server" && len(line) > end
}

// wordEnd is where the first word of a trimmed line ends.
func wordEnd[T string | []byte](line T) int {
	end := 0
	for end < len(line) && line[end] != ' ' && line[end] != '\t' {
		end++
	}
	return end
}

// sectionHead tells whether a trimmed line begins a section.
func sectionHead[T string | []byte](line T) (head string, ok bool) {
	end := wordEnd(line)
	if !sectionWords[string(line[:end])] {
		return "", false
	}
	return strings.TrimSpace(string(line[:end]) + " " + strings.TrimSpace(string(line[end:]))), true
}

// compareServers compares two sections of one head, either of which may be nil.
func compareServers(a, b *section) BackendDiff {
	x := BackendDiff{Added: a == nil, Removed: b == nil}
	if a == nil {
		x.ServersAdded = slices.Clone(b.servers)
		return x
	}
	if b == nil {
		x.ServersRemoved = slices.Clone(a.servers)
		return x
	}
	var keptA, keptB []string
	for _, name := range a.servers {
		line, kept := b.lines[name]
		switch {
		case !kept:
			x.ServersRemoved = append(x.ServersRemoved, name)
			continue
		case line != a.lines[name]:
			x.ServersAltered = append(x.ServersAltered, name)
		}
		keptA = append(keptA, name)
	}
	for _, name := range b.servers {
		if _, kept := a.lines[name]; kept {
			keptB = append(keptB, name)
		} else {
			x.ServersAdded = append(x.ServersAdded, name)
		}
	}
	x.Settings = !slices.Equal(a.body, b.body) || !slices.Equal(keptA, keptB)
	return x
}

func (x *BackendDiff) differs() bool {
	return x.Added || x.Removed || x.Settings ||
		len(x.ServersAdded)+len(x.ServersRemoved)+len(x.ServersAltered) > 0
}

func (n *ServerCounts) add(a, b *section, x BackendDiff) {
	if a != nil {
		n.Before += len(a.servers)
	}
	if b != nil {
		n.After += len(b.servers)
	}
	n.Added += len(x.ServersAdded)
	n.Removed += len(x.ServersRemoved)
	n.Altered += len(x.ServersAltered)
}
