// Package routefiles reads YAML files that declare routes (see package routes), and reads them
// again when they change.
//
//	files := &routefiles.Files{Names: []string{"routes.yaml"}}
//	declared, err := files.Read()
//	err = files.Follow(ctx, func(changed routefiles.Declarations) { … })
package routefiles

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// Declarations are the routes of one or several files, the regions of clients, and the problems of
// these files.
type Declarations struct {
	Table    routes.Table
	Regions  routes.Regions
	Problems []routes.Problem
	// Unread are the names of the files whose routes or regions are unknown, because each attempt
	// to read or parse them has failed.
	Unread []string
}

// Files reads YAML files in the format of package routes, and joins their routes. Only one of its
// methods may run at a time.
//
// While Follow runs, a file that cannot be read or parsed keeps its earlier routes, and a wrong
// entry of a file is left out.
type Files struct {
	// Names are the paths of the files. Required.
	Names []string
	// Regions is the path of a file of regions, see routes.ParseRegions. Empty means no such file. If
	// the file cannot be read or parsed while Follow runs, Files keeps the earlier regions.
	Regions string

	// Recheck is the time between two calls of stat for each file; 0 means 10 s. With stat, Follow
	// also finds changes that the operating system has not reported.
	Recheck time.Duration

	files   []routeFile
	regions regionFile
}

// file is a file that Files reads again and again.
type file struct {
	name     string
	data     []byte // the last content that Files could use; nil if the file was never usable
	fault    string // why Files cannot read or parse the present content; "" if the present content is data
	problems []routes.Problem
}

// routeFile is a file of routes.
type routeFile struct {
	file
	table  routes.Table  // of data
	parser routes.Parser // remembers the entries of data
}

// regionFile is a file of regions.
type regionFile struct {
	file
	regions routes.Regions // of data
}

// Read returns the routes of all files. If it cannot read or parse a file, it returns an error. The
// Declarations then contain the routes of the other files, and the error as a problem. Follow later
// publishes the routes of this file, when the file can be read and parsed.
func (f *Files) Read() (Declarations, error) {
	f.files = make([]routeFile, len(f.Names))
	var errs []error
	for i, name := range f.Names {
		f.files[i].name = name
		if _, err := f.files[i].reread(); err != nil {
			errs = append(errs, err)
		}
	}
	f.regions = regionFile{file: file{name: f.Regions}}
	if _, err := f.regions.reread(); err != nil {
		errs = append(errs, err)
	}
	return f.merged(), errors.Join(errs...)
}

// Follow calls "publish" after each change of a file, until ctx ends; the calls never overlap. If a
// file has changed since the last Read, the first call is immediate. The error is always nil.
func (f *Files) Follow(ctx context.Context, publish func(Declarations)) error {
	paths := slices.Clone(f.Names)
	if f.Regions != "" {
		paths = append(paths, f.Regions)
	}
	filewatch.Watcher{Paths: paths, Quiet: 100 * time.Millisecond, MaxWait: time.Second, Recheck: f.Recheck}.Run(ctx, func() error {
		changed := false
		var failed error
		note := func(fileChanged bool, err error) {
			changed = changed || fileChanged
			if _, parsed := errors.AsType[routes.Problem](err); !parsed { // it makes no sense to parse the same text again
				failed = cmp.Or(err, failed)
			}
		}
		for i := range f.files {
			note(f.files[i].reread())
		}
		note(f.regions.reread())
		if changed {
			publish(f.merged())
		}
		return failed
	})
	return nil
}

// merged returns the routes of all files together. It also returns the problems of each file, and
// the conflicts between files.
func (f *Files) merged() Declarations {
	var tables []routes.Table
	var problems []routes.Problem
	var unread []string
	for i := range f.files {
		if f.files[i].data == nil {
			unread = append(unread, f.files[i].name)
		}
		tables = append(tables, f.files[i].table)
		problems = append(problems, f.files[i].problems...)
	}
	if f.Regions != "" && f.regions.data == nil {
		unread = append(unread, f.Regions)
	}
	table, conflicts := routes.Merge(tables...)
	problems = append(append(problems, conflicts...), f.regions.problems...)
	return Declarations{table, f.regions.regions, problems, unread}
}

// reread reads the file of regions again, if there is one. changed reports whether its regions or
// problems have changed. If the file cannot be read or parsed, reread returns an error.
func (f *regionFile) reread() (changed bool, err error) {
	if f.name == "" {
		return false, nil
	}
	data, same, changed, err := f.read()
	if same || err != nil {
		return changed, err
	}
	regions, problems, ok := routes.ParseRegions(f.name, data)
	if !ok {
		p := problems[len(problems)-1]
		return f.keepOld(p), p
	}
	f.data, f.fault, f.regions, f.problems = data, "", regions, problems
	return true, nil
}

// read reads the file. same is true if the file has the content that Files uses. If the file cannot
// be read, read returns an error, and changed reports whether the problems of the file have changed.
func (f *file) read() (data []byte, same, changed bool, err error) {
	if data, err = inputfile.Read(f.name, routes.MaxFileBytes); err != nil {
		return nil, false, f.keepOld(routes.Problem{File: f.name, Message: err.Error()}), err
	}
	return data, f.fault == "" && f.data != nil && bytes.Equal(data, f.data), false, nil
}

// reread reads the file again. changed reports whether its routes or problems have changed. If the
// file cannot be read or parsed, reread returns an error.
func (f *routeFile) reread() (changed bool, err error) {
	data, same, changed, err := f.read()
	if same || err != nil {
		return changed, err
	}
	table, problems := f.parser.Parse(f.name, data)
	if p, bad := wholeFault(table, problems); bad {
		return f.keepOld(p), p
	}
	f.data, f.fault, f.table, f.problems = data, "", table, problems
	return true, nil
}

// The caller calls keepOld if it cannot use the present content of the file. keepOld keeps the
// routes or regions that Files last read from the file, and makes p the only problem of the file.
// The result "changed" is false if the file already had this problem.
func (f *file) keepOld(p routes.Problem) (changed bool) {
	if f.fault == p.Error() {
		return false
	}
	f.fault = p.Error()
	if f.data == nil {
		p.Message += "; the file counts as an empty file until it can be used"
	} else {
		p.Message += "; what the file declared before is kept"
	}
	f.problems = []routes.Problem{p}
	return true
}

// wholeFault returns the problem of a file that has no usable routes. The second result is false if
// the file has routes, or if its problems concern only single entries.
func wholeFault(table routes.Table, problems []routes.Problem) (routes.Problem, bool) {
	if len(table.Routes()) > 0 {
		return routes.Problem{}, false
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Field, "routes[") {
			return p, true
		}
	}
	return routes.Problem{}, false
}
