package routes

import (
	"fmt"
	"slices"
)

// MaxFileBytes bounds one declaration file.
const MaxFileBytes = 16 << 20

const (
	// aliasBudget is how many nodes a file may gain by its aliases.
	aliasBudget = 1 << 20
	// maxProblems bounds the report of one file.
	maxProblems = 10_000
)

// Parse reads one declaration file, YAML or JSON; file is its name in reports.
//
// A route with a problem is left out whole and the others stay. Of a file that
// is not well-formed, is larger than MaxFileBytes or has no "routes" nothing is
// kept. Problems come in the order of their lines, each with File, Line and,
// but for those of the file as a whole, Field. There are at most 10,000 of
// them; the last one then says so.
func Parse(file string, data []byte) (Table, []Problem) {
	whole := func(line int, message string) (Table, []Problem) {
		return Table{}, []Problem{{File: file, Line: line, Message: message + "; nothing of this file is used"}}
	}
	if len(data) > MaxFileBytes {
		return whole(1, fmt.Sprintf("the file has %d bytes, more than %d", len(data), MaxFileBytes))
	}
	roots, syntax := documents(data)
	if syntax != nil {
		return whole(syntax.line, syntax.message)
	}
	if len(roots) == 0 {
		return whole(1, "the file is empty; an intended empty table says routes: []")
	}
	var problems []Problem
	d := decoder{
		file:   file,
		budget: len(data) + aliasBudget,
		limit:  MaxRoutes,
		report: func(line int, field, message string) {
			if len(problems) <= maxProblems {
				problems = append(problems, Problem{file, max(line, 1), field, message})
			}
		},
	}
	for _, root := range roots {
		d.document(root)
	}
	t, conflicts := build(d.entries)
	problems = append(problems, conflicts...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	if len(problems) > maxProblems {
		problems = problems[:maxProblems]
		problems[maxProblems-1] = Problem{file, problems[maxProblems-1].Line, "routes", "there are further problems, which are not listed"}
	}
	return t, problems
}
