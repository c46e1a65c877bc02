package certs

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// MaxFileBytes is the largest size of one file, in bytes. A certificate with its chain and key has
// a few thousand bytes.
const MaxFileBytes = 1 << 20

// File is a file with a certificate.
type File struct {
	Path string
	// Pair is the content of the file. It is set only if Err is nil.
	Pair Pair
	// Err says why HAProxy cannot use the file. It is nil if HAProxy can use the file. The text
	// does not contain Path.
	Err error
}

// Files are the certificate files of a directory, or one file, as they were at one moment.
type Files struct {
	// Files are sorted by path.
	Files []File
	// Err says why the source could not be read. The source is a directory or a single file. If Err
	// is not nil, Files is empty.
	Err error
}

// Equal reports whether f and other have the same paths, contents and texts of errors.
func (f Files) Equal(other Files) bool {
	return sameText(f.Err, other.Err) && slices.EqualFunc(f.Files, other.Files, func(a, b File) bool {
		return a.Path == b.Path && sameText(a.Err, b.Err) && bytes.Equal(a.Pair.PEM, b.Pair.PEM)
	})
}

// sameText reports whether both errors are nil or have the same text.
func sameText(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}

// Record describes a certificate in the list for HAProxy. The Records of the list in force are an
// argument of the next call of Choose (Input.Last). So a program stores them, for example as JSON.
type Record struct {
	// File is the file from which the certificate was read.
	File string `json:"file"`
	// Copy is the name of the file that HAProxy reads, the result of
	// [haproxycfg.Certificate.FileName].
	Copy string `json:"copy"`
	// Names are the hosts that the certificate covers.
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Kept is true if the certificate stays in the list although it is no longer in File: somebody
	// has removed File, or File now contains another certificate or a faulty one.
	Kept bool `json:"kept,omitempty"`
}

// Problem is a fault of one file.
type Problem struct {
	File    string // "" if no file is readable
	Message string
	// Warning is true if HAProxy uses the certificate in spite of the problem, for example because
	// the certificate has expired. It is false if HAProxy cannot use the certificate in the file.
	Warning bool
}

// Input is the input of Choose.
type Input struct {
	Files Files
	// Last are the Records that the last call of Choose returned: the certificates that HAProxy
	// uses now.
	Last []Record
	// Load returns the content of the file that the field Copy of a Record names. Choose calls Load
	// only with Records of the list Last.
	Load func(Record) ([]byte, error)
	// Hosts are the declared hosts in lower case, including wildcards such as "*.example.com".
	Hosts []string
	// Now contains the time for which Choose decides whether a certificate is valid.
	Now time.Time
}

// Choice is the list for HAProxy.
type Choice struct {
	// Certificates are in the order in which HAProxy prefers them: valid certificates come first.
	// Among valid certificates, and among all others, the certificate that expires last comes
	// first.
	Certificates []haproxycfg.Certificate
	// Records describe Certificates, in the same order.
	Records []Record
	// Problems are sorted by file.
	Problems []Problem
}

// Choose returns the list of certificates for HAProxy, by the rules of the package documentation.
// Choose itself reads no file. The same input gives the same list.
func Choose(in Input) Choice {
	c := chooser{in: in, covered: map[string]bool{}, listed: map[string]bool{}}
	faulty := map[string]bool{}
	present := map[string]bool{}
	for _, f := range in.Files.Files {
		present[f.Path] = true
		switch {
		case f.Err != nil:
			faulty[f.Path] = true
		case len(f.Pair.Names) == 0:
			c.problem(f.Path, false, "it is left out: the certificate covers no host")
		default:
			c.add(f.Pair, Record{File: f.Path})
		}
	}
	last := slices.SortedStableFunc(slices.Values(in.Last), func(a, b Record) int { return b.NotAfter.Compare(a.NotAfter) })
	kept := map[string]bool{}
	for _, r := range last {
		if faulty[r.File] && c.keep(r) {
			kept[r.File] = true
		}
	}
	for _, f := range in.Files.Files {
		switch {
		case kept[f.Path]:
			c.problem(f.Path, false, "%v; its last good certificate stays in use", f.Err)
		case f.Err != nil:
			c.problem(f.Path, false, "it is left out: %v", f.Err)
		}
	}
	if err := in.Files.Err; err != nil {
		c.problem("", false, "the certificates cannot be read, so those in use stay: %v", err)
		for _, r := range last {
			c.keep(r)
		}
	}
	needs := newNeeds(in.Hosts)
	for _, r := range last {
		host, needed := needs.host(r.Names, c.covered)
		if c.listed[r.Copy] || !needed || !c.keep(r) {
			continue
		}
		why := "the file is gone"
		if present[r.File] {
			why = "the file now has a certificate for other hosts"
		}
		c.problem(r.File, true, "%s; its old certificate stays in use, because the routes declare %s, which no other certificate covers", why, host)
	}
	return c.choice()
}

// chooser collects the list.
type chooser struct {
	in       Input
	pairs    []listed
	covered  map[string]bool // names of the certificates in the list
	listed   map[string]bool // the records in the list, by Record.Copy
	problems []Problem
}

type listed struct {
	Pair
	Record
}

func (c *chooser) problem(file string, warning bool, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: file, Message: fmt.Sprintf(format, args...), Warning: warning})
}

// add adds a certificate to the list.
func (c *chooser) add(p Pair, r Record) {
	r.Copy, r.Names, r.NotBefore, r.NotAfter = p.FileName(), p.Names, p.NotBefore, p.NotAfter
	c.listed[r.Copy] = true
	for _, name := range p.Names {
		c.covered[name] = true
	}
	const layout = time.RFC3339
	switch {
	case p.NotAfter.Before(c.in.Now):
		c.problem(r.File, true, "the certificate expired at %s; it stays in use", p.NotAfter.Format(layout))
	case p.NotBefore.After(c.in.Now):
		c.problem(r.File, true, "the certificate is not valid before %s; it is in use already", p.NotBefore.Format(layout))
	}
	c.pairs = append(c.pairs, listed{p, r})
}

// keep adds to the new list a certificate that HAProxy uses at present, and whose file is gone or
// has changed. It reads the certificate from the file r.Copy; r is its Record in the present list.
// If it cannot use this file, it reports the reason and returns false.
func (c *chooser) keep(r Record) bool {
	if c.listed[r.Copy] {
		return true
	}
	text, err := c.in.Load(r)
	var p Pair
	if err == nil {
		p, err = Parse(text, nil)
	}
	if err == nil && p.FileName() != path.Clean(r.Copy) {
		err = fmt.Errorf("%s has been changed", r.Copy)
	}
	if err != nil {
		c.problem(r.File, false, "the copy of its last good certificate cannot be used: %v", err)
		return false
	}
	c.add(p, Record{File: r.File, Kept: true})
	return true
}

// choice sorts the usable certificates and returns the result. A valid certificate comes before a
// certificate that has expired or is not yet valid. Within each of these two groups, the
// certificate that expires last comes first.
func (c *chooser) choice() Choice {
	valid := func(p Pair) int {
		if p.NotAfter.Before(c.in.Now) || p.NotBefore.After(c.in.Now) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(c.pairs, func(a, b listed) int {
		return cmp.Or(cmp.Compare(valid(a.Pair), valid(b.Pair)), b.Pair.NotAfter.Compare(a.Pair.NotAfter), strings.Compare(a.File, b.File))
	})
	out := Choice{Problems: c.problems}
	for _, p := range c.pairs {
		out.Certificates = append(out.Certificates, p.Certificate)
		out.Records = append(out.Records, p.Record)
	}
	slices.SortStableFunc(out.Problems, func(a, b Problem) int { return strings.Compare(a.File, b.File) })
	return out
}

// needs are the declared hosts.
type needs struct {
	hosts map[string]bool
	below map[string][]string // declared hosts without a wildcard, by the text after their first dot
}

func newNeeds(hosts []string) needs {
	n := needs{hosts: make(map[string]bool, len(hosts)), below: map[string][]string{}}
	for _, h := range hosts {
		n.hosts[h] = true
		if _, parent, ok := strings.Cut(h, "."); ok && !strings.HasPrefix(h, "*.") {
			n.below[parent] = append(n.below[parent], h)
		}
	}
	return n
}

// host returns a declared host that the certificate with these names covers, such as
// "a.example.com" for the name "*.example.com". It skips a host that is covered already: then the
// map "covered" has the key "a.example.com" or "*.example.com". Below a declared wildcard, each DNS
// name counts as a declared host.
func (n needs) host(names []string, covered map[string]bool) (host string, ok bool) {
	free := func(host string) bool {
		_, parent, _ := strings.Cut(host, ".")
		return !covered[host] && !covered["*."+parent]
	}
	for _, name := range names {
		_, parent, _ := strings.Cut(name, ".")
		if (n.hosts[name] || n.hosts["*."+parent]) && free(name) {
			return name, true
		}
		if !strings.HasPrefix(name, "*.") {
			continue
		}
		for _, h := range n.below[parent] {
			if free(h) {
				return h, true
			}
		}
	}
	return "", false
}

// Changed returns the files whose certificates differ between the lists before and after a change.
// The result is sorted.
func Changed(before, after []Record) []string {
	files := map[string]bool{}
	for _, pair := range [][2][]Record{{before, after}, {after, before}} {
		known := map[[2]string]bool{}
		for _, r := range pair[0] {
			known[[2]string{r.File, r.Copy}] = true
		}
		for _, r := range pair[1] {
			if !known[[2]string{r.File, r.Copy}] {
				files[r.File] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(files))
}
