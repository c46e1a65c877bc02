package configtest

import (
	"fmt"
	"strconv"
	"strings"
)

// Section is a section of a configuration as HAProxy reads it: the words of its first line, and the
// words of each line below it.
type Section struct {
	Head  []string
	Lines [][]string
}

// sectionKeywords are the words that begin a section (configuration manual, sections 3 and 4, and
// the chapters about other sections).
var sectionKeywords = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true, "userlist": true, "peers": true,
	"mailers": true, "program": true, "http-errors": true, "ring": true, "log-forward": true, "resolvers": true, "cache": true, "fcgi-app": true,
}

// Parse reads a configuration by the rules of the configuration manual, section 2.2. It shares no
// code with package haproxycfg, so it finds faults in the quoting of that package.
func Parse(text string) ([]Section, error) {
	if !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("no line end at the end of the file")
	}
	var sections []Section
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words, err := splitWords(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		switch {
		case len(words) == 0:
		case len(words) > 64:
			return nil, fmt.Errorf("line %d has %d words", n+1, len(words))
		case sectionKeywords[words[0]]:
			sections = append(sections, Section{Head: words})
		case len(sections) == 0:
			return nil, fmt.Errorf("line %d is outside of any section", n+1)
		default:
			s := &sections[len(sections)-1]
			s.Lines = append(s.Lines, words)
		}
	}
	return sections, nil
}

func splitWords(line string) (words []string, err error) {
	if i := strings.IndexAny(line, "\r\x00"); i >= 0 {
		return nil, fmt.Errorf("byte %#x", line[i])
	}
	var word strings.Builder
	inWord := false
	end := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			end()
		case '#':
			end()
			return words, nil
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, fmt.Errorf("a single quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+n])
			inWord = true
			i += n + 1
		case '"':
			return nil, fmt.Errorf("a double quote, in which variables would be expanded")
		case '\\':
			if i++; i == len(line) {
				return nil, fmt.Errorf("a backslash at the end")
			}
			inWord = true
			switch line[i] {
			case 'n':
				word.WriteByte('\n')
			case 'r':
				word.WriteByte('\r')
			case 't':
				word.WriteByte('\t')
			case 'x':
				if i+2 >= len(line) {
					return nil, fmt.Errorf("a short escape")
				}
				b, err := strconv.ParseUint(line[i+1:i+3], 16, 8)
				if err != nil {
					return nil, err
				}
				word.WriteByte(byte(b))
				i += 2
			default:
				word.WriteByte(line[i])
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	end()
	return words, nil
}
