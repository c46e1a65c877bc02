package usage

import "strings"

// Suggest returns the most probable name in "known" for a mistyped word:
//
//   - the name with the smallest edit distance from word. This distance may be at most 2, or at
//     most 1 if word has three to five letters.
//   - without such a name, the shortest name that begins with word.
//
// Suggest returns "" if there is no such name either, or if word has only one or two letters.
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

// distance returns the edit distance of two texts: how many times one must insert, delete or
// replace a byte, or exchange two neighbouring bytes, to make b from a. If the edit distance is
// larger than the argument "limit", the result is limit.
func distance(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	// A row contains the edit distances between the first i bytes of a and the first 0, 1, 2 …
	// bytes of b. before, last and row are the rows of three consecutive values of i.
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
