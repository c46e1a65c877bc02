package routes

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

func (fs fields) index(name string) int {
	for i, f := range fs {
		if f.name == name {
			return i
		}
	}
	return -1
}

// unknown words the report of a key that is none of fs.
func (fs fields) unknown(key *yaml.Node) string {
	if key.ShortTag() == "!!merge" {
		return "merge keys are not supported; repeat the fields, or alias whole values"
	}
	if near := fs.nearest(key.Value); near != "" {
		return "unknown field, did you mean " + near + "?"
	}
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return "unknown field; known here: " + strings.Join(names, ", ")
}

// nearest returns the field that name probably means, or "".
func (fs fields) nearest(name string) string {
	if len(name) < 2 || len(name) > 32 {
		return ""
	}
	name = strings.ToLower(name)
	best, least := "", 3
	for _, f := range fs {
		d := distance(name, f.name)
		if strings.HasPrefix(name, f.name) || strings.HasPrefix(f.name, name) {
			d = min(d, 2)
		}
		if d < least && d < len(f.name)-1 {
			best, least = f.name, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes that turn
// a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// fieldName shows a key within the path of a field: as it is, if it looks like
// a field.
func fieldName(s string) string {
	for i := range len(s) {
		if c := s[i] | 0x20; !isLowerAlnum(c) && s[i] != '-' && s[i] != '_' {
			return quote(s)
		}
	}
	if s == "" || len(s) > 64 {
		return quote(s)
	}
	return s
}
