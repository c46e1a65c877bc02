package deploy

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// section is a section of haproxy.cfg.
type section struct {
	text    []byte // the text of the section, with its head line
	servers int    // the number of server lines, without free spare servers
}

// sectionWords are the words that begin a section (configuration manual, 2.1 and 3 to 12). Render
// writes only a few of them, but somebody may have written the file on disk by hand.
var sectionWords = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true,
	"peers": true, "resolvers": true, "userlist": true, "mailers": true, "cache": true,
	"program": true, "ring": true, "http-errors": true, "log-forward": true, "fcgi-app": true,
	"crt-store": true, "traces": true, "log-profile": true, "acme": true, "dynamic-update": true,
}

// cutSections cuts the text of haproxy.cfg into sections, by their first lines, such as "backend
// b". Sections with the same first line, such as unnamed defaults, become one. Like HAProxy, it
// ignores the text before the first section.
func cutSections(text []byte) map[string]section {
	all := map[string]section{}
	head, start, at, servers := "", 0, 0, 0
	end := func() {
		if head != "" {
			s, repeated := all[head]
			if repeated {
				s.text = append(s.text, text[start:at]...)
			} else {
				s.text = text[start:at:at] // the capacity makes append copy
			}
			s.servers += servers
			all[head] = s
		}
		start, servers = at, 0
	}
	for line := range bytes.Lines(text) {
		switch word, rest := cutWord(line); {
		case string(word) == "server":
			if bytes.ContainsFunc(rest, isWordRune) && !isFreeSpare(rest) {
				servers++
			}
		case sectionWords[string(word)]:
			end()
			head = strings.TrimSpace(string(word) + " " + string(bytes.TrimSpace(rest)))
		}
		at += len(line)
	}
	end()
	return all
}

func isWordRune(r rune) bool { return r > ' ' }

// cutWord returns the first word of a line, and the text after it. A word ends at a blank, a line
// end or any other control character.
func cutWord[T string | []byte](line T) (word, rest T) {
	from := 0
	for from < len(line) && line[from] <= ' ' {
		from++
	}
	to := from
	for to < len(line) && line[to] > ' ' {
		to++
	}
	return line[from:to], line[to:]
}

// sectionLines are the lines of a section below its first line. A line that begins with "server" is
// in byName, under the name of the server. All other lines are in others.
type sectionLines struct {
	servers []string          // names, in order
	byName  map[string]string // the line of each server
	others  []string
}

// lines parses the section.
func (s section) lines() sectionLines {
	l := sectionLines{byName: make(map[string]string, s.servers)}
	for line := range strings.Lines(string(s.text)) {
		line = strings.TrimSpace(line)
		word, rest := cutWord(line)
		name, _ := cutWord(rest)
		switch {
		case word == "" || word[0] == '#' || sectionWords[word]:
		case word == "server" && name != "":
			l.servers = append(l.servers, name)
			l.byName[name] = line
		case namesFiles([]byte(line)):
			// Ignore the hash in the file name of a map or certificate list: Diff.Maps lists the
			// maps whose entries changed.
			l.others = append(l.others, namedFile.ReplaceAllString(line, "*"))
		default:
			l.others = append(l.others, line)
		}
	}
	return l
}

// texts remembers what Dir has read from the last two texts of haproxy.cfg. Most changes of routes
// change only maps, so that the text before the change, the text after it and the remembered text
// are the same. With 10,000 routes to 20,000 servers, this saves about 9 ms of the 50 ms of
// processor time from a changed file of routes to HAProxy (BenchmarkStagesOfAChange in package
// controller). The zero texts is empty. Several goroutines may use texts.
type texts struct {
	mu   sync.Mutex
	last []*parsedText // at most 2, the last one that somebody used comes first
}

// parsedText is a text of haproxy.cfg with its sections, and with the names of the maps and
// certificate lists in it. Nobody changes the values in it.
type parsedText struct {
	text     []byte
	sections map[string]section
	files    []string
}

// parse returns what Dir reads from a text. The caller must not change the text afterwards.
func (t *texts) parse(text []byte) *parsedText {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.last, func(p *parsedText) bool { return bytes.Equal(p.text, text) })
	p := &parsedText{text: text}
	if i < 0 {
		p.sections, p.files = cutSections(text), namedFiles(text)
		i = min(len(t.last), 1)
	} else {
		p = t.last[i]
	}
	t.last = slices.Insert(slices.Delete(t.last, i, min(i+1, len(t.last))), 0, p)
	return p
}

// sections returns the sections of a text. The caller must not change the text afterwards.
func (t *texts) sections(text []byte) map[string]section { return t.parse(text).sections }

// compareConfigs compares the sections of two configurations, and sets all fields of d except Maps
// and Text. It parses only sections whose text has changed. In a large configuration, these are few.
func (d *Diff) compareConfigs(a, b map[string]section) {
	var heads []string
	for head, now := range b {
		d.Servers.After += now.servers
		if was, ok := a[head]; !ok || !bytes.Equal(was.text, now.text) {
			heads = append(heads, head)
		}
	}
	for head, was := range a {
		d.Servers.Before += was.servers
		if _, ok := b[head]; !ok {
			heads = append(heads, head)
		}
	}
	slices.Sort(heads)
	for _, head := range heads {
		d.addSection(head, compareSections(head, a, b))
	}
}

// addSection adds a change of one section to d. head is the first line of the section, and x is the
// change.
func (d *Diff) addSection(head string, x BackendDiff) {
	d.Servers.Added += len(x.ServersAdded)
	d.Servers.Removed += len(x.ServersRemoved)
	d.Servers.Altered += len(x.ServersAltered)
	if !x.differs() {
		return
	}
	if name, ok := strings.CutPrefix(head, "backend "); ok {
		x.Name = name
		d.Backends = append(d.Backends, x)
	} else {
		d.Sections = append(d.Sections, head)
	}
}

// compareSections compares one section in the configurations before and after a change. head is the
// first line of the section. One of the two configurations may lack the section.
func compareSections(head string, before, after map[string]section) BackendDiff {
	was, ok := before[head]
	now, stays := after[head]
	a, b := was.lines(), now.lines()
	x := BackendDiff{Added: !ok, Removed: !stays}
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
	x.Settings = ok && stays && (!slices.Equal(a.others, b.others) || !slices.Equal(keptA, keptB))
	return x
}

func (x *BackendDiff) differs() bool {
	return x.Added || x.Removed || x.Settings ||
		len(x.ServersAdded)+len(x.ServersRemoved)+len(x.ServersAltered) > 0
}
