package certs_test

import (
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/certs"
)

// edge stores the certificates in use for the next call of Choose, as a program does.
type edge struct {
	t      *testing.T
	hosts  []string
	last   []certs.Record
	copies map[string][]byte
}

func newEdge(t *testing.T, hosts ...string) *edge {
	return &edge{t: t, hosts: hosts, copies: map[string][]byte{}}
}

// choose returns the names of the files whose certificates are in the list, in the order of the
// list, and all problems as text. If a certificate comes from an earlier content of its file, the
// name of the file gets the prefix "kept ".
func (e *edge) choose(files certs.Files) (list, problems []string) {
	e.t.Helper()
	c := certs.Choose(certs.Input{
		Files: files, Last: e.last, Hosts: e.hosts, Now: now,
		Load: func(r certs.Record) ([]byte, error) {
			text, ok := e.copies[r.Copy]
			if !ok {
				return nil, os.ErrNotExist
			}
			return text, nil
		},
	})
	require.Len(e.t, c.Records, len(c.Certificates))
	e.last = c.Records
	for i, r := range c.Records {
		require.Equal(e.t, r.Copy, c.Certificates[i].FileName())
		e.copies[r.Copy] = c.Certificates[i].PEM
		if r.Kept {
			r.File = "kept " + r.File
		}
		list = append(list, r.File)
	}
	for _, p := range c.Problems {
		kind := "problem: "
		if p.Warning {
			kind = "warning: "
		}
		problems = append(problems, kind+p.File+": "+p.Message)
	}
	return list, problems
}

func file(t *testing.T, path string, i issued) certs.File {
	t.Helper()
	p, err := certs.Parse(i.file(), nil)
	require.NoError(t, err)
	return certs.File{Path: path, Pair: p}
}

func faulty(path string) certs.File { return certs.File{Path: path, Err: errors.New("it is empty")} }

func of(files ...certs.File) certs.Files { return certs.Files{Files: files} }

func TestChooseKeepsTheLastGoodCertificate(t *testing.T) {
	e := newEdge(t)
	a, b, b2 := file(t, "a", issueFor(t, "a.example.com")), file(t, "b", issueFor(t, "b.example.com")), file(t, "b", issueFor(t, "b.example.com"))
	list, problems := e.choose(of(a, b, faulty("c")))
	require.ElementsMatch(t, []string{"a", "b"}, list)
	require.Equal(t, []string{"problem: c: it is left out: it is empty"}, problems)

	for range 2 { // in the second round, Choose keeps the kept certificate again
		list, problems = e.choose(of(a, faulty("b")))
		require.ElementsMatch(t, []string{"a", "kept b"}, list)
		require.Equal(t, []string{"problem: b: it is empty; its last good certificate stays in use"}, problems)
	}
	list, problems = e.choose(of(a, b2))
	require.ElementsMatch(t, []string{"a", "b"}, list)
	require.Empty(t, problems)

	unreadable := certs.Files{Err: errors.New("permission denied")}
	list, problems = e.choose(unreadable)
	require.ElementsMatch(t, []string{"kept a", "kept b"}, list)
	require.Equal(t, []string{"problem: : the certificates cannot be read, so those in use stay: permission denied"}, problems)

	clear(e.copies)
	list, problems = e.choose(of(a, faulty("b")))
	require.Equal(t, []string{"a"}, list)
	require.Equal(t, []string{
		"problem: b: the copy of its last good certificate cannot be used: file does not exist",
		"problem: b: it is left out: it is empty",
	}, problems)
}

func TestChooseRejectsAChangedCopy(t *testing.T) {
	e := newEdge(t)
	a := issueFor(t, "a.example.com")
	_, _ = e.choose(of(file(t, "a", a)))
	for name := range e.copies {
		e.copies[name] = issueFor(t, "a.example.com").file()
	}
	list, problems := e.choose(of(faulty("a")))
	require.Empty(t, list)
	require.Contains(t, problems[0], "has been changed")
}

// TestChooseAfterRemoval removes a file. If no other certificate covers a declared host of its
// certificate, the certificate stays in use.
func TestChooseAfterRemoval(t *testing.T) {
	for name, tt := range map[string]struct {
		removed, rest []string // names of the certificates
		hosts         []string
		stays         bool
	}{
		"undeclared":                      {[]string{"a.test"}, []string{"b.test"}, []string{"b.test"}, false},
		"declared":                        {[]string{"a.test"}, []string{"b.test"}, []string{"a.test", "b.test"}, true},
		"the only one":                    {[]string{"a.test"}, nil, []string{"a.test"}, true},
		"covered by a wildcard":           {[]string{"a.b.test"}, []string{"*.b.test"}, []string{"a.b.test"}, false},
		"a wildcard covers one label":     {[]string{"a.b.test"}, []string{"*.test"}, []string{"a.b.test"}, true},
		"wildcard for a declared host":    {[]string{"*.b.test"}, []string{"b.test"}, []string{"a.b.test"}, true},
		"wildcard, all hosts covered":     {[]string{"*.b.test"}, []string{"a.b.test"}, []string{"a.b.test"}, false},
		"wildcard, some hosts covered":    {[]string{"*.b.test"}, []string{"a.b.test"}, []string{"a.b.test", "c.b.test"}, true},
		"wildcard for wildcard":           {[]string{"*.b.test"}, []string{"a.b.test"}, []string{"*.b.test"}, true},
		"host of a declared wildcard":     {[]string{"a.b.test"}, []string{"c.b.test"}, []string{"*.b.test"}, true},
		"second name":                     {[]string{"a.test", "z.test"}, []string{"a.test"}, []string{"a.test", "z.test"}, true},
		"second name, undeclared":         {[]string{"a.test", "z.test"}, []string{"a.test"}, []string{"a.test"}, false},
		"no host is declared":             {[]string{"a.test"}, nil, nil, false},
		"wildcard is no host of its name": {[]string{"*.b.test"}, nil, []string{"b.test"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, tt.hosts...)
			var rest []certs.File
			if tt.rest != nil {
				rest = append(rest, file(t, "rest", issueFor(t, tt.rest...)))
			}
			_, _ = e.choose(of(append(rest, file(t, "removed", issueFor(t, tt.removed...)))...))
			for range 2 {
				list, problems := e.choose(of(rest...))
				if !tt.stays {
					require.Len(t, list, len(rest))
					require.Empty(t, problems)
					continue
				}
				require.Contains(t, list, "kept removed")
				require.Len(t, problems, 1)
				require.Contains(t, problems[0], "warning: removed: the file is gone; its old certificate stays in use, because the routes declare ")
			}
			if tt.stays {
				e.hosts = nil // without the routes, Choose removes the certificate
				list, problems := e.choose(of(rest...))
				require.Len(t, list, len(rest))
				require.Empty(t, problems)
			}
		})
	}
}

// TestChooseAfterOverwriting replaces a certificate by one for another host in the same file.
func TestChooseAfterOverwriting(t *testing.T) {
	e := newEdge(t, "a.test", "b.test")
	_, _ = e.choose(of(file(t, "f", issueFor(t, "a.test"))))
	list, problems := e.choose(of(file(t, "f", issueFor(t, "b.test"))))
	require.ElementsMatch(t, []string{"f", "kept f"}, list)
	require.Equal(t, []string{
		"warning: f: the file now has a certificate for other hosts; its old certificate stays in use, because the routes declare a.test, which no other certificate covers",
	}, problems)

	renewed := file(t, "f", issueFor(t, "a.test", "b.test"))
	list, problems = e.choose(of(renewed))
	require.Equal(t, []string{"f"}, list)
	require.Empty(t, problems)

	renewed.Path = "renamed"
	list, problems = e.choose(of(renewed))
	require.Equal(t, []string{"renamed"}, list)
	require.Empty(t, problems)
}

// TestChooseOrder requires that valid certificates come before certificates that are not valid now,
// in any order of their file names. The list contains all of them.
func TestChooseOrder(t *testing.T) {
	valid := func(from, to time.Time) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
	}
	long, short := now.AddDate(0, 2, 0), now.AddDate(0, 0, 7)
	past, future := now.AddDate(0, 0, -1), now.AddDate(1, 0, 0)
	file := func(path string, from, to time.Time) certs.File {
		return file(t, path, issue(t, ecKey(t), nil, valid(from, to), "a.test"))
	}
	list, problems := newEdge(t).choose(of(
		file("1-expired", past.AddDate(0, -1, 0), past), file("2-short", past, short), file("3-future", future, future.AddDate(0, 1, 0)),
		file("4-long", past, long), file("5-long", past, long),
	))
	require.Equal(t, []string{"4-long", "5-long", "2-short", "3-future", "1-expired"}, list)
	require.Equal(t, []string{
		"warning: 1-expired: the certificate expired at 2026-04-30T00:00:00Z; it stays in use",
		"warning: 3-future: the certificate is not valid before 2027-05-01T00:00:00Z; it is in use already",
	}, problems)
}

func TestChooseLeavesOutCertificatesWithoutHosts(t *testing.T) {
	list, problems := newEdge(t).choose(of(file(t, "a", issueFor(t))))
	require.Empty(t, list)
	require.Equal(t, []string{"problem: a: it is left out: the certificate covers no host"}, problems)
}

func TestChanged(t *testing.T) {
	a, a2, b := certs.Record{File: "a", Copy: "1"}, certs.Record{File: "a", Copy: "2"}, certs.Record{File: "b", Copy: "3"}
	require.Equal(t, []string{"a", "b"}, certs.Changed([]certs.Record{a}, []certs.Record{a2, b}))
	require.Equal(t, []string{"b"}, certs.Changed([]certs.Record{a, b}, []certs.Record{a}))
	require.Empty(t, certs.Changed([]certs.Record{a, b}, []certs.Record{b, a}))
}
