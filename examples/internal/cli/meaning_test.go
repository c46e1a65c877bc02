package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pageFlag is a row of a table in examples/FLAGS.md.
type pageFlag struct{ section, name, unit, meaning string }

// pageFlags returns all flags in the text of examples/FLAGS.md. A test of each binary holds that the
// page has all flags of the binary.
func pageFlags(page string) (flags []pageFlag) {
	cell := strings.NewReplacer(`\|`, "|")
	row := regexp.MustCompile("^\\| `-([a-z0-9-]+)` \\| (?:`(.*?)`)? \\| (?:`.*?`)? \\| .*? \\| (.*) \\|$")
	section := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if title := strings.TrimLeft(line, "#"); title != line {
			section = strings.TrimSpace(title)
		}
		if m := row.FindStringSubmatch(line); m != nil {
			flags = append(flags, pageFlag{section, m[1], cell.Replace(m[2]), cell.Replace(m[3])})
		}
	}
	return flags
}

// faultsOfMeaning returns the flags that have different units or meanings in two commands, and the
// entries of the table "meanings" that are not needed.
func faultsOfMeaning(flags []pageFlag) (faults []string) {
	byName := map[string][]pageFlag{}
	for _, f := range flags {
		byName[f.name] = append(byName[f.name], f)
	}
	for name, list := range byName {
		shared, inTable := meanings[name]
		shared = strings.ReplaceAll(shared, "`", "")
		for _, f := range list {
			first := list[0]
			switch {
			case f.unit != first.unit:
				faults = append(faults, "-"+name+" has the unit "+f.unit+" in "+f.section+", and "+first.unit+" in "+first.section)
			case inTable && f.meaning != shared && !strings.HasPrefix(f.meaning, shared+"; "):
				faults = append(faults, "-"+name+" of "+f.section+" must use cli.Meaning")
			case !inTable && f.meaning != first.meaning:
				faults = append(faults, "-"+name+" of "+f.section+" and "+first.section+" has two meanings, and none in the table of cli.Meaning")
			}
		}
	}
	for name := range meanings {
		if byName[name] == nil {
			faults = append(faults, "no command has the flag -"+name+" of the table")
		}
	}
	slices.Sort(faults)
	return faults
}

func TestFlagsHaveOneMeaning(t *testing.T) {
	page, err := os.ReadFile("../../FLAGS.md")
	require.NoError(t, err)
	flags := pageFlags(string(page))
	// Each row of a table of flags must have been read.
	require.Len(t, flags, strings.Count(string(page), "\n| `-"))
	require.Empty(t, faultsOfMeaning(flags))
}

func TestFaultsOfMeaning(t *testing.T) {
	page := "## a\n" +
		"| `-routes` | `file` |  | x | file of declarations; may be given several times |\n" +
		"| `-size` | `bytes` | `1` | x | size |\n" +
		"### a b\n" +
		"| `-routes` | `file` |  | x | another file |\n" +
		"| `-size` | `number` | `1` | x | size |\n" +
		"| `-mode` | `a\\|b` |  | x | mode |\n" +
		"## c\n" +
		"| `-routes` | `file` |  | x | file of declarations; may be given several times; needs -out |\n" +
		"| `-mode` | `a\\|b` |  | x | mode of c |\n"
	var own []string
	for _, fault := range faultsOfMeaning(pageFlags(page)) {
		if !strings.HasPrefix(fault, "no command has") {
			own = append(own, fault)
		}
	}
	require.Equal(t, []string{
		"-mode of c and a b has two meanings, and none in the table of cli.Meaning",
		"-routes of a b must use cli.Meaning",
		"-size has the unit number in a b, and bytes in a",
	}, own)
	require.Panics(t, func() { Meaning("nothing") })
}
