package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/textdiff"
)

// Diff is the difference between the configurations before and after a change. It contains the
// names of the changed parts, the numbers of changed servers, and a text with all differences.
type Diff struct {
	// Servers counts the servers of all backends.
	Servers ServerCounts
	// Backends are the backends that changed, sorted by name.
	Backends []BackendDiff
	// Maps are the maps whose entries changed, sorted by name. HAProxy finds the backend of a
	// request in these maps, so a changed route is a changed entry.
	Maps []MapDiff
	// Sections contains the sorted first lines of all changed sections other than backends, such as
	// "global" and "frontend https". It does not list a section that differs only in file names of
	// maps, which change with their entries.
	Sections []string
	// Text is a unified diff of all files.
	Text string

	differs bool // true if a file differs, even if Text is left out
}

// ServerCounts counts the servers before and after a change, and how many servers the change adds,
// removes and alters.
type ServerCounts struct {
	// Before is the number of servers in all backends before the change, and After is this number
	// after the change.
	Before int `json:"before"`
	After  int `json:"after"`
	// Added is the number of servers that exist only after the change. Removed is the number of
	// servers that exist only before it. Altered is the number of servers whose line in haproxy.cfg
	// differs. The names of the backend and the server identify a server.
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Altered int `json:"altered"`
}

// BackendDiff is a backend that changed. Its lists name servers in the order of the configuration.
type BackendDiff struct {
	Name string
	// Added and Removed are true if the whole backend is new or gone: then ServersAdded or
	// ServersRemoved lists all its servers.
	Added, Removed bool
	// ServersAdded, ServersRemoved and ServersAltered are names of servers. An altered server has
	// the same name but another line in haproxy.cfg.
	ServersAdded, ServersRemoved, ServersAltered []string
	// Settings is true if lines other than server lines differ, or if the order of the servers
	// differs.
	Settings bool
}

// MapDiff is a map whose entries changed. An entry is a text "key value". If the value of a key
// changed, Removed contains the old entry and Added the new one. Entries are in the order of the
// map.
type MapDiff struct {
	Name           string
	Added, Removed []string
}

// namedFile matches the names of maps and of certificate lists in a line of haproxy.cfg.
var namedFile = regexp.MustCompile(`\b(maps/[^/\s,()'"]+-[0-9a-f]{16}\.map|certs-in-use/[^/\s,()'"]+-[0-9a-f]{16}\.list)\b`)

// current returns haproxy.cfg in the directory, and the maps and certificate lists that haproxy.cfg
// names.
func (d *Dir) current() ([]haproxycfg.RenderedFile, error) {
	config, err := readOptional(d.file(configFile))
	if err != nil || config == nil {
		return nil, err
	}
	parsed := d.texts.parse(config)
	var files []haproxycfg.RenderedFile
	for _, name := range parsed.files {
		data, err := readOptional(d.file(name))
		if err != nil {
			return nil, err
		}
		if data != nil {
			files = append(files, haproxycfg.RenderedFile{Name: name, Data: data})
		}
	}
	return append(files, haproxycfg.RenderedFile{Name: configFile, Data: parsed.text}), nil
}

// namedFiles returns the sorted names of the maps and certificate lists that haproxy.cfg refers to.
func namedFiles(config []byte) []string {
	found := map[string]bool{}
	for line := range bytes.Lines(config) {
		if namesFiles(line) { // true only for few lines, so the slow regular expression runs rarely
			for _, name := range namedFile.FindAll(line, -1) {
				found[string(name)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func namesFiles(line []byte) bool {
	return bytes.Contains(line, []byte(mapsDir+"/")) || bytes.Contains(line, []byte(certsDir+"/"))
}

// DiffFiles compares two configurations, lists of files from [haproxycfg.Config.Render]; nil means
// no configuration. It does not compare private files. But their names contain a hash of their
// content, so a changed file has another name in the certificate list.
func DiffFiles(before, after []haproxycfg.RenderedFile) Diff {
	a, b := byLogicalName(before), byLogicalName(after)
	d := compareFiles(a, b, cutSections)
	var text strings.Builder
	for _, name := range fileNames(a, b) {
		fa, fb := a[name], b[name]
		text.WriteString(textdiff.Unified(textdiff.File{Name: fa.Name, Text: string(fa.Data)}, textdiff.File{Name: fb.Name, Text: string(fb.Data)}))
	}
	d.Text = text.String()
	return d
}

// compareFiles returns the Diff between two lists of files, without the Text of the Diff. The
// arguments a and b are the results of byLogicalName for the files before and after a change. cut is
// cutSections, or a function that returns the same.
func compareFiles(a, b map[string]haproxycfg.RenderedFile, cut func([]byte) map[string]section) (d Diff) {
	for _, name := range fileNames(a, b) {
		fa, fb := a[name], b[name]
		same := fa.Name == fb.Name && bytes.Equal(fa.Data, fb.Data)
		d.differs = d.differs || !same
		if name == configFile {
			d.compareConfigs(cut(fa.Data), cut(fb.Data))
		} else if !same && !strings.HasPrefix(name, certsDir+"/") {
			linesA, linesB := differentLines(fa.Data, fb.Data)
			if m := compareMaps(name, string(linesA), string(linesB)); m.Added != nil || m.Removed != nil {
				d.Maps = append(d.Maps, m)
			}
		}
	}
	return d
}

func fileNames(a, b map[string]haproxycfg.RenderedFile) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	return slices.Sorted(maps.Keys(names))
}

// byLogicalName indexes files by a name that does not change with their content. The name is
// "haproxy.cfg", the name of a map without its hash, or "certs-in-use/" and the name of a
// certificate list. byLogicalName leaves out private files.
func byLogicalName(files []haproxycfg.RenderedFile) map[string]haproxycfg.RenderedFile {
	out := make(map[string]haproxycfg.RenderedFile, len(files))
	for _, f := range files {
		if f.Private {
			continue
		}
		name := f.Name
		if m := mapFileName.FindStringSubmatch(path.Base(name)); m != nil {
			name = m[1]
		} else if m := listFileName.FindStringSubmatch(path.Base(name)); m != nil {
			name = certsDir + "/" + m[1]
		}
		out[name] = f
	}
	return out
}

func compareMaps(name, before, after string) MapDiff {
	a, b := textdiff.Lines(before), textdiff.Lines(after)
	d := MapDiff{Name: name}
	for _, c := range textdiff.Changes(a, b) {
		d.Removed = append(d.Removed, a[c.A0:c.A1]...)
		d.Added = append(d.Added, b[c.B0:c.B1]...)
	}
	return d
}

// Empty reports whether the configurations are the same.
func (d Diff) Empty() bool { return d.Text == "" && !d.differs }

// ServerShare is the number of servers that the change removes or alters, divided by the number of
// servers in the old configuration. It is 0 if the old configuration has no servers.
func (d Diff) ServerShare() float64 {
	if d.Servers.Before == 0 {
		return 0
	}
	return float64(d.Servers.Removed+d.Servers.Altered) / float64(d.Servers.Before)
}

// String describes the difference in words, one fact on each line. It leaves out Text.
func (d Diff) String() string {
	if d.Empty() {
		return "no change\n"
	}
	var b strings.Builder
	n := d.Servers
	fmt.Fprintf(&b, "servers: %d before, %d after: %d added, %d removed, %d altered (%.1f%% of those before)\n",
		n.Before, n.After, n.Added, n.Removed, n.Altered, 100*d.ServerShare())
	for _, s := range d.Sections {
		fmt.Fprintf(&b, "~ %s\n", s)
	}
	for _, x := range d.Backends {
		fmt.Fprintf(&b, "%s backend %s\n", x.mark(), x.Name)
		appendList(&b, "  - server ", x.ServersRemoved)
		appendList(&b, "  + server ", x.ServersAdded)
		appendList(&b, "  ~ server ", x.ServersAltered)
		if x.Settings {
			b.WriteString("  ~ settings\n")
		}
	}
	for _, m := range d.Maps {
		fmt.Fprintf(&b, "~ map %s: %d added, %d removed\n", m.Name, len(m.Added), len(m.Removed))
		appendList(&b, "  - ", m.Removed)
		appendList(&b, "  + ", m.Added)
	}
	return b.String()
}

func (x BackendDiff) mark() string {
	switch {
	case x.Added:
		return "+"
	case x.Removed:
		return "-"
	}
	return "~"
}

func appendList(b *strings.Builder, prefix string, items []string) {
	for _, s := range items {
		b.WriteString(prefix)
		b.WriteString(s)
		b.WriteByte('\n')
	}
}

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
// change only maps, so haproxy.cfg stays the same, and Dir need not read it again. With 10,000 routes
// to 20,000 servers, this saves about 9 ms of processor time for each change of a file of routes.
// Without such savings, a change needs 50 ms (BenchmarkStagesOfAChange in package controller).
//
// The zero texts is empty. Several goroutines may use texts.
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
