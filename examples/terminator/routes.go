package main

import (
	"bytes"
	"os"
	"strings"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// routeFiles are files of declarations as they were read last. A file that cannot be
// read at all keeps what it declared before: to go on without would take all of it
// out of service.
type routeFiles struct {
	files []routeFile
}

type routeFile struct {
	name     string
	data     []byte
	problem  string // why it could not be read; it is told apart by that
	table    routes.Table
	problems []routes.Problem
}

// readRoutes reads files for the first time, when there is nothing to fall back on.
func readRoutes(names []string) (*routeFiles, error) {
	f := &routeFiles{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		table, problems := routes.Parse(name, data)
		if p, lost := wholeFault(table, problems); lost {
			return nil, p
		}
		f.files = append(f.files, routeFile{name: name, data: data, table: table, problems: problems})
	}
	return f, nil
}

// merged returns the table of all files.
func (f *routeFiles) merged() (routes.Table, []routes.Problem) {
	var tables []routes.Table
	var problems []routes.Problem
	for i := range f.files {
		tables = append(tables, f.files[i].table)
		problems = append(problems, f.files[i].problems...)
	}
	table, found := routes.Merge(tables...)
	return table, append(problems, found...)
}

// reread reads what has changed, and tells whether anything has.
func (f *routeFiles) reread() (changed bool) {
	for i := range f.files {
		if f.files[i].reread() {
			changed = true
		}
	}
	return changed
}

func (f *routeFile) reread() (changed bool) {
	data, err := os.ReadFile(f.name)
	if err != nil {
		return f.keep(routes.Problem{File: f.name, Message: err.Error()})
	}
	if f.problem == "" && bytes.Equal(data, f.data) {
		return false
	}
	table, problems := routes.Parse(f.name, data)
	if p, lost := wholeFault(table, problems); lost {
		return f.keep(p)
	}
	*f = routeFile{name: f.name, data: data, table: table, problems: problems}
	return true
}

// keep notes that the file cannot be read, and why.
func (f *routeFile) keep(p routes.Problem) (changed bool) {
	if f.problem == p.Error() {
		return false
	}
	f.problem = p.Error()
	p.Message += "; what the file declared before is kept"
	f.problems = []routes.Problem{p}
	return true
}

// wholeFault returns the problem for which a file gives no routes at all, if it is
// one of the file and not of its entries. That is a file that cannot be read; one
// whose only entry is bad is not.
func wholeFault(table routes.Table, problems []routes.Problem) (routes.Problem, bool) {
	if len(table.Routes) > 0 {
		return routes.Problem{}, false
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Field, "routes[") {
			return p, true
		}
	}
	return routes.Problem{}, false
}
