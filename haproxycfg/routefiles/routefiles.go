// Package routefiles reads YAML files that declare routes (see package routes), and reads them
// again when they change.
//
//	files := &routefiles.Files{Names: []string{"routes.yaml"}}
//	declared, err := files.Read()
//	err = files.Follow(ctx, func(changed routefiles.Declarations) { … })
package routefiles

import (
	"bytes"
	"context"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/filewatch"
)

// Declarations are routes, and the problems that were found in their source.
type Declarations struct {
	Table    routes.Table
	Problems []routes.Problem
}

// Files reads YAML files in the format of package routes, and joins their routes. Its methods must
// not overlap.
//
// While Follow runs, a file that cannot be read or parsed keeps its earlier routes. A mistake in
// one entry of a file only removes this entry.
type Files struct {
	// Names are the paths of the files. Required.
	Names []string

	// Recheck is how often Follow looks for a change that the operating system has not reported.
	// 0 means 10 s.
	Recheck time.Duration

	files []routeFile
}

// routeFile is a file of routes.
type routeFile struct {
	name     string
	data     []byte // content that table was parsed from
	fault    string // why the present content cannot be read or parsed; "" if it is data
	table    routes.Table
	problems []routes.Problem
}

// Read returns the routes of all files. It returns an error if a file cannot be read or parsed.
func (f *Files) Read() (Declarations, error) {
	f.files = nil
	for _, name := range f.Names {
		data, err := os.ReadFile(name)
		if err != nil {
			return Declarations{}, err
		}
		table, problems := routes.Parse(name, data)
		if p, bad := wholeFault(table, problems); bad {
			return Declarations{}, p
		}
		f.files = append(f.files, routeFile{name: name, data: data, table: table, problems: problems})
	}
	return f.merged(), nil
}

// Follow calls publish after each change since Read, until ctx ends. It makes one call at a time.
// Its error is always nil.
func (f *Files) Follow(ctx context.Context, publish func(Declarations)) error {
	filewatch.Watcher{Paths: f.Names, Quiet: 100 * time.Millisecond, MaxWait: time.Second, Recheck: f.Recheck}.Run(ctx, func() error {
		changed := false
		var failed error
		for i := range f.files {
			fileChanged, err := f.files[i].reread()
			changed = changed || fileChanged
			if err != nil {
				failed = err
			}
		}
		if changed {
			publish(f.merged())
		}
		return failed
	})
	return nil
}

// merged returns the routes of all files, with their problems and the conflicts between them.
func (f *Files) merged() Declarations {
	var tables []routes.Table
	var problems []routes.Problem
	for i := range f.files {
		tables = append(tables, f.files[i].table)
		problems = append(problems, f.files[i].problems...)
	}
	table, conflicts := routes.Merge(tables...)
	return Declarations{table, append(problems, conflicts...)}
}

// reread reads the file again. It reports whether the routes or the problems have changed. The
// error is the one of the operating system, if it cannot read the file.
func (f *routeFile) reread() (changed bool, err error) {
	data, err := os.ReadFile(f.name)
	if err != nil {
		return f.keepOld(routes.Problem{File: f.name, Message: err.Error()}), err
	}
	if f.fault == "" && bytes.Equal(data, f.data) {
		return false, nil
	}
	table, problems := routes.Parse(f.name, data)
	if p, bad := wholeFault(table, problems); bad {
		return f.keepOld(p), nil
	}
	*f = routeFile{name: f.name, data: data, table: table, problems: problems}
	return true, nil
}

// keepOld replaces the problems of the file by p and keeps its routes. It reports whether p differs
// from the fault that was known.
func (f *routeFile) keepOld(p routes.Problem) (changed bool) {
	if f.fault == p.Error() {
		return false
	}
	f.fault = p.Error()
	p.Message += "; what the file declared before is kept"
	f.problems = []routes.Problem{p}
	return true
}

// wholeFault returns the problem of a file that could not be parsed. It returns false if the file
// has routes, or if its problems concern single entries only.
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
