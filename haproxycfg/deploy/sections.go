package deploy

import (
	"bytes"
	"slices"
	"strings"
)

// section is a section of haproxy.cfg. Sections with the same head, such as unnamed defaults,
// count as one.
type section struct {
	head    string // "backend b"
	text    []byte // with the head line
	servers int    // the number of server lines
}

// sectionWords begin a section (configuration manual, 2.1 and 3 to 12). Rendered configurations
// use few of them, but somebody may have written the file on disk by hand.
var sectionWords = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true,
	"peers": true, "resolvers": true, "userlist": true, "mailers": true, "cache": true,
	"program": true, "ring": true, "http-errors": true, "log-forward": true, "fcgi-app": true,
	"crt-store": true, "traces": true, "log-profile": true, "acme": true, "dynamic-update": true,
}

// cutSections cuts the text of haproxy.cfg into its sections by head. HAProxy ignores what
// precedes the first section, and so does cutSections.
func cutSections(text []byte) map[string]*section {
	all := map[string]*section{}
	var s *section
	start, at := 0, 0
	end := func() {
		switch {
		case s == nil:
		case s.text == nil:
			s.text = text[start:at:at] // capped, so that append copies
		default:
			s.text = append(s.text, text[start:at]...)
		}
		start = at
	}
	for line := range bytes.Lines(text) {
		switch word, rest := cutWord(line); {
		case string(word) == "server":
			if s != nil && len(rest) > 0 {
				s.servers++
			}
		case sectionWords[string(word)]:
			end()
			head := sectionHead(word, rest)
			if s = all[head]; s == nil {
				s = &section{head: head}
				all[head] = s
			}
		}
		at += len(line)
	}
	end()
	return all
}

// cutWord returns the first word of a line and what follows it, without blanks around them.
func cutWord(line []byte) (word, rest []byte) {
	line = bytes.TrimSpace(line)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		return line[:i], bytes.TrimSpace(line[i:])
	}
	return line, nil
}

// sectionHead returns "backend b" for a line that begins a section.
func sectionHead(word, rest []byte) string {
	return strings.TrimSpace(string(word) + " " + string(rest))
}

// sectionLines are the lines of a section without its head: servers by name, and all others.
type sectionLines struct {
	servers []string          // names, in order
	byName  map[string]string // the line of each server
	others  []string
}

// lines parses the section. A nil section has no lines.
func (s *section) lines() sectionLines {
	l := sectionLines{byName: map[string]string{}}
	if s == nil {
		return l
	}
	for line := range bytes.Lines(s.text) {
		word, rest := cutWord(line)
		switch line := string(bytes.TrimSpace(line)); {
		case len(word) == 0 || word[0] == '#' || sectionWords[string(word)]:
		case string(word) == "server" && len(rest) > 0:
			name, _ := cutWord(rest)
			l.servers = append(l.servers, string(name))
			l.byName[string(name)] = line
		default:
			// A map whose entries differ has another file name, and is listed in Diff.Maps.
			l.others = append(l.others, namedMap.ReplaceAllString(line, mapsDir+"/*"))
		}
	}
	return l
}

// compareConfigs sets the fields of d that come from haproxy.cfg: all except Maps and Text. It
// parses only sections whose text differs. In a large configuration few do.
func (d *Diff) compareConfigs(before, after []byte) {
	a, b := cutSections(before), cutSections(after)
	var heads []string
	for head, now := range b {
		was := a[head]
		d.Servers.After += now.servers
		if was == nil || !bytes.Equal(was.text, now.text) {
			heads = append(heads, head)
		}
	}
	for head, was := range a {
		d.Servers.Before += was.servers
		if b[head] == nil {
			heads = append(heads, head)
		}
	}
	slices.Sort(heads)
	for _, head := range heads {
		x := compareSections(a[head], b[head])
		d.Servers.Added += len(x.ServersAdded)
		d.Servers.Removed += len(x.ServersRemoved)
		d.Servers.Altered += len(x.ServersAltered)
		if !x.differs() {
			continue
		}
		if name, ok := strings.CutPrefix(head, "backend "); ok {
			x.Name = name
			d.Backends = append(d.Backends, x)
		} else {
			d.Sections = append(d.Sections, head)
		}
	}
}

// compareSections compares two sections with the same head. Either may be nil.
func compareSections(before, after *section) BackendDiff {
	a, b := before.lines(), after.lines()
	x := BackendDiff{Added: before == nil, Removed: after == nil}
	var keptA, keptB []string
	for _, name := range a.servers {
		line, kept := b.byName[name]
		switch {
		case !kept:
			x.ServersRemoved = append(x.ServersRemoved, name)
			continue
		case line != a.byName[name]:
			x.ServersAltered = append(x.ServersAltered, name)
		}
		keptA = append(keptA, name)
	}
	for _, name := range b.servers {
		if _, kept := a.byName[name]; kept {
			keptB = append(keptB, name)
		} else {
			x.ServersAdded = append(x.ServersAdded, name)
		}
	}
	x.Settings = !x.Added && !x.Removed && (!slices.Equal(a.others, b.others) || !slices.Equal(keptA, keptB))
	return x
}

func (x *BackendDiff) differs() bool {
	return x.Added || x.Removed || x.Settings ||
		len(x.ServersAdded)+len(x.ServersRemoved)+len(x.ServersAltered) > 0
}
