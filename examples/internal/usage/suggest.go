package usage

import "strings"

// Suggest returns the name in "known" that somebody who has typed word probably wanted, or "" if no
// name is similar. Up to two letters may be missing, wrong, exchanged or too many, and only one in a
// word of three to five letters. If there is no such name, the shortest name that begins with the
// word is similar to it.
func Suggest(word string, known []string) string {
	best, least := "", min(len(word)/3, 2)+1
	for _, name := range known {
		if d := distance(word, name, least); d < least {
			best, least = name, d
		}
	}
	if best != "" || len(word) < 3 {
		return best
	}
	for _, name := range known {
		if strings.HasPrefix(name, word) && (best == "" || len(name) < len(best)) {
			best = name
		}
	}
	return best
}

// DidYouMean returns the text "; did you mean NAME?" with the prefix before the suggested name, or ""
// if there is no suggestion.
func DidYouMean(prefix, word string, known []string) string {
	name := Suggest(word, known)
	if name == "" {
		return ""
	}
	return "; did you mean " + prefix + name + "?"
}

// distance returns the edit distance of two texts: the number of bytes to insert, delete, replace or
// exchange with the next byte. If the distance is at least "limit", distance returns limit.
func distance(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	// Each row has the distances between the first bytes of a and the beginnings of b.
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return min(row[len(b)], limit)
}
