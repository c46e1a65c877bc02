package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/inputfile"
)

// Foreign describes an HAProxy that loads files of somebody else, the foreign files, before the
// haproxy.cfg of a [Dir]. This haproxy.cfg is then a fragment: see haproxycfg.Config.Fragment. Set
// both Checker.Foreign and Reloader.Foreign to the same value.
//
// The package never writes the foreign files. A Foreign is a plain value, safe for concurrent use.
type Foreign struct {
	// Files are the foreign files, in the order of the options -f of HAProxy. As with -f, an element
	// may also be a directory: it stands for its files whose names end in ".cfg" and do not begin
	// with a dot, in the order of their names.
	Files []string
	// Fragment is the absolute path of the haproxy.cfg of the Dir, as HAProxy loads it.
	Fragment string
}

// ErrForeign is in an error of [Checker.Check] if HAProxy accepts the fragment, but cannot load it
// after the foreign files, see [Foreign]. So no route or certificate is the cause. A [Dir] then still
// makes the changes for which HAProxy need not load the files.
var ErrForeign = errors.New("the fault is not in the fragment")

// ErrNotLoaded is in the error of [Reloader.Reload] if the running HAProxy does not load the
// fragment, or loads it in another way than Reloader.Foreign says. HAProxy is not reloaded then: a
// person must change the command line of HAProxy and restart it.
var ErrNotLoaded = errors.New("HAProxy does not load the fragment after the foreign files")

// expand returns the foreign files, with the files of each directory in its place.
func (f *Foreign) expand() ([]string, error) {
	var all []string
	for _, name := range f.Files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			all = append(all, name)
			continue
		}
		entries, err := inputfile.ReadDir(name) // sorted by name
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			file := filepath.Join(name, e.Name())
			if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".cfg") || same(file, f.Fragment) {
				continue
			}
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				all = append(all, file)
			}
		}
	}
	return all, nil
}

// same reports whether two paths name the same file. A path of HAProxy may be relative to the
// working directory of HAProxy, which same does not know. So a relative path equals every path that
// ends with it.
func same(a, b string) bool {
	if a, b = filepath.Clean(a), filepath.Clean(b); a == b {
		return true
	}
	if !filepath.IsAbs(a) {
		return strings.HasSuffix(b, string(filepath.Separator)+a)
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// foreignLine is a line of a foreign file, in the section that begins with the line "head".
type foreignLine struct {
	file  string
	line  int // from 1
	head  []string
	words []string // without comments
}

func (l foreignLine) place() string { return l.file + ":" + strconv.Itoa(l.line) }

// isHead reports whether the line begins a section.
func (l foreignLine) isHead() bool { return len(l.words) > 0 && sectionWords[l.words[0]] }

// parseForeign cuts a haproxy.cfg into lines, and the lines into words. A word may be in quotes. It
// leaves out empty lines, comments and the directives that begin with a dot, such as ".if": the
// lines of all branches of an ".if" are in the result.
func parseForeign(file, text string) []foreignLine {
	var all []foreignLine
	var head []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := splitWords(line)
		if len(words) == 0 || strings.HasPrefix(words[0], ".") {
			continue
		}
		l := foreignLine{file: file, line: n, words: words}
		if l.isHead() {
			head = words
		}
		l.head = head
		all = append(all, l)
	}
	return all
}

// splitWords returns the words of a line of haproxy.cfg (manual, section 2.2). It removes quotes,
// backslashes before a byte, and the comment.
func splitWords(line string) []string {
	var words []string
	var word []byte
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			word = append(word, c)
		case c == '\\' && i+1 < len(line):
			i++
			word, inWord = append(word, line[i]), true
		case quote != 0:
			word = append(word, c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == '#':
			line = line[:i]
		case c <= ' ':
			if inWord {
				words, word, inWord = append(words, string(word)), nil, false
			}
		default:
			word, inWord = append(word, c), true
		}
	}
	if inWord {
		words = append(words, string(word))
	}
	return words
}

// read reads the foreign files.
func (f *Foreign) read() (files []string, lines []foreignLine, err error) {
	if files, err = f.expand(); err != nil {
		return nil, nil, err
	}
	for _, name := range files {
		text, err := inputfile.Read(name, maxFile)
		if err != nil {
			return nil, nil, err
		}
		lines = append(lines, parseForeign(name, string(text))...)
	}
	return files, lines, nil
}

// clashes returns an error for each name in the foreign lines that begins with the prefix of the
// fragment. It also returns an error for each address on which both the fragment and the foreign
// files listen. The argument "own" is the text of the fragment.
//
// HAProxy itself finds only some of these faults. Two listeners on one address are no fault for
// HAProxy: the kernel then gives each of them a part of the connections.
func (f *Foreign) clashes(foreign []foreignLine, own []byte, prefix string) error {
	var faults []error
	binds := map[string]foreignLine{}
	for _, l := range foreign {
		if l.isHead() && len(l.words) > 1 && strings.HasPrefix(l.words[1], prefix) {
			faults = append(faults, fmt.Errorf("%s: %s %q begins with %q, the prefix of all names in %s", l.place(), l.words[0], l.words[1], prefix, f.Fragment))
		}
		for _, addr := range bindAddresses(l) {
			if _, ok := binds[addr]; !ok {
				binds[addr] = l
			}
		}
	}
	for _, l := range parseForeign(f.Fragment, string(own)) {
		for _, addr := range bindAddresses(l) {
			if other, ok := binds[addr]; ok {
				faults = append(faults, fmt.Errorf("%s: %s listens on %s, as %s does in %s", other.place(), strings.Join(other.head[:2], " "), addr, strings.Join(l.head[:2], " "), f.Fragment))
				break
			}
		}
	}
	return errors.Join(faults...)
}

// maxPortRange is the largest number of ports of one address for which bindAddresses returns each
// port.
const maxPortRange = 1024

// bindAddresses returns the addresses of a line "bind" in a normal form: "0.0.0.0:80" for all IPv4
// addresses, and "[::]:80" for all IPv6 addresses. It leaves out addresses with environment
// variables.
func bindAddresses(l foreignLine) []string {
	if len(l.words) < 2 || l.words[0] != "bind" || len(l.head) < 2 {
		return nil
	}
	both := slices.Contains(l.words[2:], "v4v6")
	var all []string
	for _, addr := range strings.Split(l.words[1], ",") {
		addr = strings.TrimPrefix(strings.TrimPrefix(addr, "ipv4@"), "ipv6@")
		colon := strings.LastIndexByte(addr, ':')
		if strings.Contains(addr, "$") || colon < 0 || strings.Contains(addr, "/") || strings.Contains(addr, "@") {
			continue
		}
		hosts := []string{strings.Trim(addr[:colon], "[]")}
		switch hosts[0] {
		case "", "*":
			hosts[0] = "0.0.0.0"
		case "::":
			if both {
				hosts = append(hosts, "0.0.0.0")
			}
		}
		from, to, isRange := strings.Cut(addr[colon+1:], "-")
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := first, error(nil)
		if isRange {
			last, err2 = strconv.ParseUint(to, 10, 16)
		}
		if err1 != nil || err2 != nil || last < first || last-first >= maxPortRange {
			continue
		}
		for _, host := range hosts {
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			for port := first; port <= last; port++ {
				all = append(all, host+":"+strconv.FormatUint(port, 10))
			}
		}
	}
	return all
}

// Unmet returns a warning for each requirement of a fragment that the foreign files do not meet:
// their section "global" does not have the setting, or has a value that does not suffice. See
// haproxycfg.Config.Requirements.
func (f *Foreign) Unmet(requirements []haproxycfg.Requirement) ([]Diagnostic, error) {
	files, lines, err := f.read()
	if err != nil {
		return nil, fmt.Errorf("deploy: foreign files: %w", err)
	}
	return unmet(files, lines, requirements), nil
}

func unmet(files []string, lines []foreignLine, requirements []haproxycfg.Requirement) []Diagnostic {
	set := map[string]foreignLine{} // the last line of each setting counts
	sockets := map[string]bool{}
	for _, l := range lines {
		if l.isHead() || len(l.words) < 2 || len(l.head) == 0 || l.head[0] != "global" {
			continue
		}
		set[l.words[0]] = l
		if l.words[0] == "stats" && l.words[1] == "socket" && len(l.words) > 2 && strings.Contains(strings.Join(l.words, " "), " level admin") {
			sockets[strings.TrimPrefix(l.words[2], "unix@")] = true
		}
	}
	var all []Diagnostic
	for _, r := range requirements {
		l, ok := set[r.Keyword]
		value := ""
		if ok {
			value = l.words[1]
		}
		if r.Met(value) || r.Keyword == "stats socket" && sockets[r.Value] {
			continue
		}
		d := Diagnostic{Severity: "WARNING", Text: fmt.Sprintf("the section global has no %s, and the fragment needs %s %s: %s", r.Keyword, r.Bound, r.Value, r.Reason)}
		if r.Keyword == "stats socket" {
			d.Text = fmt.Sprintf("the section global has no stats socket %s with level admin: %s", r.Value, r.Reason)
		}
		if ok {
			d.File, d.Line, d.Source = l.file, l.line, strings.Join(l.words, " ")
			d.Text = fmt.Sprintf("%s is %s, and the fragment needs %s %s: %s", r.Keyword, value, r.Bound, r.Value, r.Reason)
		} else if len(files) > 0 {
			d.File = files[0]
		}
		all = append(all, d)
	}
	return all
}

// loadedFiles returns the names of the files that a worker of HAProxy has loaded, in their order.
func loadedFiles(ctx context.Context, worker runtimeapi.Socket) ([]string, error) {
	const name = "HAPROXY_CFGFILES" // management guide and configuration manual, section 2.3
	answer, err := worker.Do(ctx, "show env "+name)
	if err != nil {
		return nil, err
	}
	_, list, ok := strings.Cut(strings.TrimSpace(answer), name+"=")
	if !ok {
		return nil, fmt.Errorf("HAProxy answers %.200q to show env %s", answer, name)
	}
	return strings.Split(list, ";"), nil
}

// verify returns nil if two conditions are true: the last file that the worker has loaded is the
// fragment, and all files before it are foreign files. Otherwise it returns an error with
// ErrNotLoaded.
//
// A foreign file that the worker has not loaded yet is no fault: the next reload loads it, if it is
// in a directory that HAProxy loads.
func (f *Foreign) verify(ctx context.Context, worker runtimeapi.Socket) error {
	loaded, err := loadedFiles(ctx, worker)
	if err != nil {
		return err
	}
	foreign, err := f.expand()
	if err != nil {
		return fmt.Errorf("foreign files: %w: %w", ErrForeign, err)
	}
	fault := func(text string) error {
		return fmt.Errorf("%w: HAProxy has loaded %s, %s. Start HAProxy with -f %s -f %s", ErrNotLoaded,
			strings.Join(loaded, " "), text, strings.Join(f.Files, " -f "), f.Fragment)
	}
	at := slices.IndexFunc(loaded, func(name string) bool { return same(name, f.Fragment) })
	switch {
	case at < 0:
		return fault("and not " + f.Fragment)
	case at < len(loaded)-1:
		return fault("and the last one must be " + f.Fragment)
	}
	for _, name := range loaded[:at] {
		if !slices.ContainsFunc(foreign, func(known string) bool { return same(name, known) }) && exists(name) {
			return fault("and " + name + " is not one of the foreign files")
		}
	}
	return nil
}

// checkWithForeign lets HAProxy check the foreign files and the fragment together. The argument
// "files" contains the rendered files of the fragment in the directory dir. If HAProxy rejects the
// files, checkWithForeign finds the cause. If the cause is in the foreign files, HAProxy checks the
// fragment without them. The error has ErrForeign only if HAProxy accepts the fragment.
//
// If somebody changes the foreign files during the check, it is not certain which files HAProxy has
// rejected. checkWithForeign then also blames the foreign files, unless HAProxy rejects the fragment
// without them.
func (k Checker) checkWithForeign(ctx context.Context, config haproxycfg.Valid, dir string, files []haproxycfg.RenderedFile) error {
	fragment := filepath.Join(dir, configFile)
	foreign, lines, err := k.Foreign.read()
	if err == nil {
		err = k.Foreign.clashes(lines, files[len(files)-1].Data, config.Fragment())
	}
	quiet := k
	quiet.Warned = nil
	if err == nil {
		whole := k
		whole.Warned = func(warnings []Diagnostic) {
			warnings = slices.DeleteFunc(warnings, func(d Diagnostic) bool {
				// If the state file is missing, HAProxy warns once for each backend. unmet warns once.
				return d.File != k.Foreign.Fragment || strings.Contains(d.Text, "'server-state-file' is not set")
			})
			if warnings = append(warnings, unmet(foreign, lines, config.Requirements())...); len(warnings) > 0 && k.Warned != nil {
				k.Warned(warnings)
			}
		}
		rejected := whole.run(ctx, dir, files, append(slices.Clone(foreign), fragment)...)
		var alone, together *CheckError
		if !errors.As(rejected, &together) {
			return rejected
		}
		if errors.As(quiet.run(ctx, dir, nil, foreign...), &alone) && len(alone.Alerts()) > 0 {
			err = fmt.Errorf("haproxy rejects them:%s", joinDiagnostics(alone.Alerts()))
		} else if _, now, readErr := k.Foreign.read(); readErr != nil {
			err = readErr
		} else if !reflect.DeepEqual(lines, now) {
			err = fmt.Errorf("they have changed during this check, in which haproxy rejected:%s", joinDiagnostics(together.Alerts()))
		} else {
			return rejected // HAProxy accepts the foreign files without the fragment
		}
	}
	if rejected := quiet.run(ctx, dir, files, fragment); rejected != nil {
		return rejected
	}
	fault := fmt.Errorf("deploy: foreign files: %w: %w", ErrForeign, err)
	if k.Warned != nil {
		k.Warned([]Diagnostic{{Severity: "ALERT", Text: fault.Error()}})
	}
	return fault
}
