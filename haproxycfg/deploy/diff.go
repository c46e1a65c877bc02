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

// Diff is the difference between two configurations: counts and names in the terms of HAProxy, and
// the full text.
type Diff struct {
	// Servers counts the servers of all backends.
	Servers ServerCounts
	// Backends are the backends that differ, sorted by name.
	Backends []BackendDiff
	// Maps are the maps whose entries differ, sorted by name. They hold the routes.
	Maps []MapDiff
	// Sections are the heads of all other sections that differ, such as "global", "defaults"
	// and "frontend https", sorted. The file name of a map changes with its entries; that alone
	// makes no section differ.
	Sections []string
	// Text is a unified diff of all files.
	Text string

	differs bool // any file differs; for a Diff without Text
}

// ServerCounts counts the servers that a change affects.
type ServerCounts struct {
	// Before and After count all servers of all backends.
	Before int `json:"before"`
	After  int `json:"after"`
	// A server is identified by its backend and its name. Added and Removed count the servers that
	// only one configuration has. Altered counts the servers whose lines differ.
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Altered int `json:"altered"`
}

// BackendDiff is a backend that differs. Lists of servers have the order of the configuration.
type BackendDiff struct {
	Name string
	// Added and Removed report that the whole backend is new or gone. All its servers are listed
	// then too.
	Added, Removed bool
	// Names of servers. Altered servers keep their name and have another line.
	ServersAdded, ServersRemoved, ServersAltered []string
	// Settings reports that other lines, or the order of the servers, differ.
	Settings bool
}

// MapDiff is a map whose entries differ. An entry is "key value". If the value of a key changes,
// the old entry is removed and the new one added. Entries have the order of the map.
type MapDiff struct {
	Name           string
	Added, Removed []string
}

// namedMap finds the file name of a map in a line of haproxy.cfg.
var namedMap = regexp.MustCompile(`\bmaps/([^/\s,()'"]+-[0-9a-f]{16}\.map)\b`)

// current reads haproxy.cfg and the maps that it names.
func (d *Dir) current() ([]haproxycfg.RenderedFile, error) {
	config, err := readOptional(d.file(configFile))
	if err != nil || config == nil {
		return nil, err
	}
	var files []haproxycfg.RenderedFile
	for _, name := range mapNames(config) {
		data, err := readOptional(d.file(name))
		if err != nil {
			return nil, err
		}
		if data != nil {
			files = append(files, haproxycfg.RenderedFile{Name: name, Data: data})
		}
	}
	return append(files, haproxycfg.RenderedFile{Name: configFile, Data: config}), nil
}

// mapNames returns the map files that haproxy.cfg names, sorted.
func mapNames(config []byte) []string {
	found := map[string]bool{}
	for line := range bytes.Lines(config) {
		if bytes.Contains(line, []byte(mapsDir+"/")) { // few lines; the regular expression is slow
			for _, m := range namedMap.FindAllSubmatch(line, -1) {
				found[mapsDir+"/"+string(m[1])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// DiffFiles compares two configurations as [haproxycfg.Config.Render] returns them. Nil stands for
// no configuration.
func DiffFiles(before, after []haproxycfg.RenderedFile) Diff {
	d, a, b := compareFiles(before, after)
	var text strings.Builder
	for _, name := range fileNames(a, b) {
		fa, fb := a[name], b[name]
		text.WriteString(textdiff.Unified(textdiff.File{Name: fa.Name, Text: string(fa.Data)}, textdiff.File{Name: fb.Name, Text: string(fb.Data)}))
	}
	d.Text = text.String()
	return d
}

// compareFiles returns a Diff without its Text. a and b are the files, indexed by byLogicalName.
func compareFiles(before, after []haproxycfg.RenderedFile) (d Diff, a, b map[string]haproxycfg.RenderedFile) {
	a, b = byLogicalName(before), byLogicalName(after)
	for _, name := range fileNames(a, b) {
		fa, fb := a[name], b[name]
		same := fa.Name == fb.Name && bytes.Equal(fa.Data, fb.Data)
		d.differs = d.differs || !same
		if name == configFile {
			d.compareConfigs(fa.Data, fb.Data)
		} else if !same {
			if m := compareMaps(name, string(fa.Data), string(fb.Data)); m.Added != nil || m.Removed != nil {
				d.Maps = append(d.Maps, m)
			}
		}
	}
	return d, a, b
}

func fileNames(a, b map[string]haproxycfg.RenderedFile) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	return slices.Sorted(maps.Keys(names))
}

// byLogicalName indexes files by "haproxy.cfg" or the name of a map without its hash.
func byLogicalName(files []haproxycfg.RenderedFile) map[string]haproxycfg.RenderedFile {
	out := make(map[string]haproxycfg.RenderedFile, len(files))
	for _, f := range files {
		name := f.Name
		if m := mapFileName.FindStringSubmatch(path.Base(name)); m != nil {
			name = m[1]
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

// ServerShare is the share of the servers before, from 0 to 1, that the change removes or alters.
// It is 0 if there were no servers before, because a first configuration disturbs nobody.
func (d Diff) ServerShare() float64 {
	if d.Servers.Before == 0 {
		return 0
	}
	return float64(d.Servers.Removed+d.Servers.Altered) / float64(d.Servers.Before)
}

// String returns the difference in words, one fact on each line, without Text.
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
