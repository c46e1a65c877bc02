package controller

import (
	"bytes"
	"context"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/internal/filewatch"
)

// RouteFiles is a RouteSource that reads YAML files in the format of package routes.
//
// While Follow runs, a file that cannot be read or parsed keeps its earlier routes. A mistake in
// one entry of a file only removes this entry.
type RouteFiles struct {
	// Names are the paths of the files. Required.
	Names []string

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

// Read implements RouteSource. It returns an error if a file cannot be read or parsed.
func (f *RouteFiles) Read() (Declarations, error) {
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

// Follow implements RouteSource.
func (f *RouteFiles) Follow(ctx context.Context, publish func(Declarations)) error {
	filewatch.Watcher{Paths: f.Names, Quiet: 100 * time.Millisecond, MaxWait: time.Second}.Run(ctx, func() error {
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
func (f *RouteFiles) merged() Declarations {
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
