// Licences finds the licences of all modules that a Go module compiles, outside its tests.
//
// Usage:
//
//	licences -check PAGE MODULE...   compares the licences with the tables in PAGE, and with the allowed licences
//	licences -write PAGE MODULE...   writes the tables in PAGE
//	licences -texts FILE MODULE      writes all licence texts and notices of the module into one file, for a release
//
// MODULE is the directory of a module. PAGE has a heading "## MODULE" for each module, and after
// the heading a table.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed lists the permitted licences of modules: a program that contains such modules may be
// under the licence of headgate. MPL-2.0 requires that the source of each file under MPL-2.0 stays
// available; Go's module proxy keeps it available.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause-UC", "ISC", "MIT", "MPL-2.0"}

// minPercent is a minimum: at least this percentage of the text of a licence file must be the text
// of known licences. The rest of the file is names and titles.
const minPercent = 75

func main() {
	log.SetFlags(0)
	log.SetPrefix("licences: ")
	check := flag.String("check", "", "compare with the tables in this `page`")
	write := flag.String("write", "", "write the tables in this `page`")
	texts := flag.String("texts", "", "write all licence texts and notices to this `file`")
	work := flag.String("C", ".", "work in this `directory`")
	flag.Parse()
	if err := os.Chdir(*work); err != nil {
		log.Fatal(err)
	}
	if err := run(*check, *write, *texts, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(check, write, texts string, dirs []string) error {
	path := cmp.Or(check, write)
	var page []byte
	if path != "" {
		var err error
		if page, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	var failures []error
	for _, dir := range dirs {
		deps, err := compiled(dir)
		if err != nil {
			return err
		}
		if texts != "" {
			return os.WriteFile(texts, allTexts(deps), 0o644)
		}
		for _, d := range deps {
			if err := d.judge(); err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", dir, err))
			}
		}
		changed, err := replaceTable(page, dir, table(deps))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if check != "" && !bytes.Equal(page, changed) {
			failures = append(failures, fmt.Errorf("%s: the table of %s is out of date; make licences writes it", path, dir))
		}
		page = changed
	}
	if write != "" && len(failures) == 0 {
		return os.WriteFile(write, page, 0o644)
	}
	return errors.Join(failures...)
}

// dependency is a module that becomes a part of a program: at least one of its packages is
// compiled.
type dependency struct {
	path    string
	texts   map[string][]byte // from the path of a licence file, relative to the module, to its text
	notices map[string][]byte // the same for the files NOTICE
}

// compiled returns the modules whose packages become a part of the programs when somebody compiles
// the module in dir for Linux. The result for each module contains the licence files and the
// notices in the root of the module and in the directories of the compiled packages.
func compiled(dir string) ([]dependency, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Module,Standard", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: go list: %w", dir, err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	found := map[string]*dependency{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct {
				Path, Dir string
				Main      bool
				Replace   *struct{ Path, Dir string }
			}
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		name, root := "the standard library of Go", strings.TrimSpace(string(goroot))
		switch {
		case p.Standard:
			p.Dir = root
		case p.Module == nil:
			return nil, fmt.Errorf("%s: %s has no module", dir, p.Dir)
		case p.Module.Main || strings.HasPrefix(p.Module.Path, "github.com/headgate/headgate"):
			continue
		default:
			name, root = p.Module.Path, p.Module.Dir
		}
		d := found[name]
		if d == nil {
			d = &dependency{path: name, texts: map[string][]byte{}, notices: map[string][]byte{}}
			found[name] = d
		}
		if err := d.read(root, p.Dir); err != nil {
			return nil, err
		}
	}
	deps := make([]dependency, 0, len(found))
	for _, d := range found {
		deps = append(deps, *d)
	}
	slices.SortFunc(deps, func(a, b dependency) int { return strings.Compare(a.path, b.path) })
	return deps, nil
}

// isLicence matches the names of licence files. isNotice matches the names of files with notices
// that a copy of the module must contain (Apache-2.0, section 4(d)). Both patterns also match names
// of Go files, such as "license.go".
var (
	isLicence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-._](md|txt|[a-z0-9-]+))?$`)
	isNotice  = regexp.MustCompile(`(?i)^notices?([-._](md|txt|[a-z0-9-]+))?$`)
)

// read adds licence files to d.texts, and files with notices to d.notices. It reads the directory
// dir of a package and the directories above dir, up to the root of the module.
func (d *dependency) read(root, dir string) error {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			files := d.texts
			switch {
			case filepath.Ext(e.Name()) == ".go" || e.IsDir():
				continue
			case isLicence.MatchString(e.Name()):
			case isNotice.MatchString(e.Name()):
				files = d.notices
			default:
				continue
			}
			file := filepath.Join(dir, e.Name())
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			if files[name], err = os.ReadFile(file); err != nil {
				return err
			}
		}
		if dir == root || !strings.HasPrefix(dir, root) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// judge returns an error if the module has no licence file, or if one of its licence files contains
// a licence that is unknown or not allowed.
func (d dependency) judge() error {
	if len(d.texts) == 0 {
		return fmt.Errorf("%s has no licence file", d.path)
	}
	for _, name := range sortedNames(d.texts) {
		found := licensecheck.Scan(d.texts[name])
		if found.Percent < minPercent {
			return fmt.Errorf("%s: only %.0f%% of %s is the text of known licences", d.path, found.Percent, name)
		}
		for _, m := range found.Match {
			if !slices.Contains(allowed, m.ID) {
				return fmt.Errorf("%s: %s contains the licence %s, which is not allowed", d.path, name, m.ID)
			}
		}
	}
	return nil
}

func sortedNames(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }

// licences returns the names of all licences of the module.
func (d dependency) licences() string {
	var ids []string
	for _, text := range d.texts {
		for _, m := range licensecheck.Scan(text).Match {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), ", ")
}

func table(deps []dependency) string {
	var b strings.Builder
	b.WriteString("| module | licences |\n|---|---|\n")
	for _, d := range deps {
		fmt.Fprintf(&b, "| %s | %s |\n", d.path, d.licences())
	}
	return b.String()
}

// replaceTable returns the text of page after one change: in the section whose heading is the name
// of the module, the argument "table" replaces the old table.
func replaceTable(page []byte, module, table string) ([]byte, error) {
	heading := []byte("\n## `" + module + "`\n")
	before, after, ok := bytes.Cut(page, heading)
	if !ok {
		return nil, fmt.Errorf("no heading %q", bytes.TrimSpace(heading))
	}
	section, rest := after, []byte(nil)
	if i := bytes.Index(after, []byte("\n## ")); i >= 0 {
		section, rest = after[:i], after[i:]
	}
	text, _, _ := bytes.Cut(section, []byte("| module |"))
	text = append(bytes.TrimSpace(text), "\n\n"...)
	return slices.Concat(before, heading, []byte("\n"), text, []byte(table), rest), nil
}

// allTexts returns the licence texts and the notices of the modules, each below the path of its
// module and the name of its file.
func allTexts(deps []dependency) []byte {
	var b bytes.Buffer
	for _, d := range deps {
		for _, files := range []map[string][]byte{d.texts, d.notices} {
			for _, name := range sortedNames(files) {
				fmt.Fprintf(&b, "==== %s: %s ====\n\n%s\n", d.path, name, bytes.TrimSpace(files[name]))
				b.WriteByte('\n')
			}
		}
	}
	return b.Bytes()
}
