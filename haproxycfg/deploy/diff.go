package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/textdiff"
)

// Diff is the difference between two configurations: a summary in the terms of
// HAProxy, and the whole of it as text.
type Diff struct {
	// Servers counts the servers of all backends.
	Servers ServerCounts
	// Backends are those that are added, removed or altered, by name.
	Backends []BackendDiff
	// Maps are those whose entries differ, by name: the routes.
	Maps []MapDiff
	// Sections are the other sections that differ, as they are headed:
	// "global", "defaults", "frontend https". That a section names the file
	// of a map whose entries differ does not count.
	Sections []string
	// Text is a unified diff of all files.
	Text string

	differs bool // for a Diff without Text
}

// ServerCounts says how many servers a change affects.
type ServerCounts struct {
	// Before and After are all servers of all backends.
	Before int `json:"before"`
	After  int `json:"after"`
	// Added and Removed are servers by backend and name. Altered are those
	// of the same name whose line reads differently.
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Altered int `json:"altered"`
}

// BackendDiff is a backend that differs. Server lists are in the order of the
// configuration.
type BackendDiff struct {
	Name string
	// Added and Removed tell that the backend as a whole is new or gone; its
	// servers are listed all the same.
	Added, Removed bool
	// Names of servers. Altered are those whose line reads differently.
	ServersAdded, ServersRemoved, ServersAltered []string
	// Settings tells that other lines, or the order of servers, differ.
	Settings bool
}

// MapDiff is a map whose entries differ. An entry is "key value"; one whose
// value changes is removed and added. Entries are in the order of the map.
type MapDiff struct {
	Name           string
	Added, Removed []string
}

// Diff compares what the directory holds with c, and changes nothing. An empty
// directory, or one that does not exist, holds nothing.
func (d *Dir) Diff(c *haproxycfg.Config) (Diff, error) {
	after, err := d.render(c)
	if err != nil {
		return Diff{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, err := d.current()
	if err != nil {
		return Diff{}, fmt.Errorf("deploy: diff: %w", err)
	}
	return DiffFiles(before, after), nil
}

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

// mapNames finds the map files that a configuration's text names, sorted.
func mapNames(config []byte) []string {
	found := map[string]bool{}
	for line := range bytes.Lines(config) {
		if bytes.Contains(line, []byte(mapsDir+"/")) { // few lines, and regular expressions are slow
			for _, m := range namedMap.FindAllSubmatch(line, -1) {
				found[mapsDir+"/"+string(m[1])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// DiffFiles compares two configurations as [Config.Render] gives them. Either
// may be nil: no configuration.
func DiffFiles(before, after []haproxycfg.RenderedFile) Diff {
	d, a, b := diffFiles(before, after)
	var text strings.Builder
	for _, name := range fileNames(a, b) {
		fa, fb := a[name], b[name]
		textdiff.AppendUnified(&text, fa.Name, fb.Name, string(fa.Data), string(fb.Data))
	}
	d.Text = text.String()
	return d
}

// diffFiles gives all but the text of a Diff, and the files by name.
func diffFiles(before, after []haproxycfg.RenderedFile) (d Diff, a, b map[string]haproxycfg.RenderedFile) {
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

// byLogicalName maps "haproxy.cfg", or the name of a map without its hash.
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

// Empty tells whether there is no difference.
func (d Diff) Empty() bool { return d.Text == "" && !d.differs }

// ServerShare is the share of the servers in force, from 0 to 1, that the
// change removes or alters. It is 0 if there were none: a first configuration
// disturbs nobody.
func (d Diff) ServerShare() float64 {
	if d.Servers.Before == 0 {
		return 0
	}
	return float64(d.Servers.Removed+d.Servers.Altered) / float64(d.Servers.Before)
}

// String is the summary in words, one fact a line, without Text.
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
		list(&b, "  - server ", x.ServersRemoved)
		list(&b, "  + server ", x.ServersAdded)
		list(&b, "  ~ server ", x.ServersAltered)
		if x.Settings {
			b.WriteString("  ~ settings\n")
		}
	}
	for _, m := range d.Maps {
		fmt.Fprintf(&b, "~ map %s: %d added, %d removed\n", m.Name, len(m.Added), len(m.Removed))
		list(&b, "  - ", m.Removed)
		list(&b, "  + ", m.Added)
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

func list(b *strings.Builder, prefix string, items []string) {
	for _, s := range items {
		b.WriteString(prefix)
		b.WriteString(s)
		b.WriteByte('\n')
	}
}
