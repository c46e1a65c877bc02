package nodeselect

import "bytes"

// The scanners below find where JSON values begin and end. They check nothing:
// they are right on valid JSON, and never go beyond the text on any other.

func skipSpace(data []byte, pos int) int {
	for pos < len(data) {
		switch data[pos] {
		case ' ', '\t', '\r', '\n':
			pos++
		default:
			return pos
		}
	}
	return pos
}

// skipString returns the position behind the string that begins at pos, or -1.
func skipString(data []byte, pos int) int {
	for i := pos + 1; i < len(data); i++ {
		switch data[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// skipValue returns the position behind the value that begins at pos, or -1.
func skipValue(data []byte, pos int) int {
	if pos >= len(data) {
		return -1
	}
	switch data[pos] {
	case '"':
		return skipString(data, pos)
	case '{', '[':
		depth := 0
		for i := pos; i < len(data); i++ {
			switch data[i] {
			case '"':
				if i = skipString(data, i) - 1; i < 0 {
					return -1
				}
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	}
	if i := bytes.IndexAny(data[pos:], ",]} \t\r\n"); i > 0 {
		return pos + i
	} else if i == 0 {
		return -1
	}
	return len(data)
}

type span struct{ start, end int }

// elements returns the elements of the JSON array, and the offset of array in
// data if it is a part of it, else 0.
func elements(data, array []byte) (items []span, base int, ok bool) {
	if len(array) == 0 || array[0] != '[' {
		return nil, 0, false
	}
	if n := cap(data) - cap(array); n >= 0 && n < len(data) && &data[n] == &array[0] {
		base = n
	}
	for pos := skipSpace(array, 1); pos < len(array) && array[pos] != ']'; pos = skipSpace(array, pos) {
		end := skipValue(array, pos)
		if end < 0 {
			return nil, 0, false
		}
		items = append(items, span{pos, end})
		pos = skipSpace(array, end)
		if pos < len(array) && array[pos] == ',' {
			pos++
		}
	}
	return items, base, true
}
