package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

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

// MapDiff is a map whose entries, texts "key value", changed. If the value of a key changed,
// Removed contains the old entry and Added the new one. Entries are in the order of the map.
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
