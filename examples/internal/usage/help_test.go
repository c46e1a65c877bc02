package usage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var tool = Program{
	Name: "tool", Summary: "Makes things of some size.",
	Commands: []Command{
		{
			Example: "tool -size 3\ntool -file /a/long/path/to/a/file -size 12 -other /another/long/path/to/a/file -json",
			Groups: GroupFlags([]Flag{
				{Name: "config", Value: "file", Text: "file of settings", Env: "TOOL_CONFIG"},
				{Name: "json", Text: "print JSON", Default: "false", Env: "TOOL_JSON"},
				{Name: "mode", Value: "text", Text: "way of working: fast or slow", Default: "fast"},
				{Name: "a-flag-with-a-name-that-is-long", Value: "directory", Text: "directory | place", Env: "TOOL_A_FLAG_WITH_A_NAME_THAT_IS_LONG"},
				{Name: "size", Value: "number", Text: strings.Repeat("word ", 20) + "end", Default: "20", Env: "TOOL_SIZE"},
			}, []string{"input", "output"}, [][]string{{"size", "gone"}, {"json", "size", "mode", "a-flag-with-a-name-that-is-long"}}),
			Exits: []Exit{{0, "success"}, {3, strings.Repeat("more ", 20)}},
		},
		{Name: "show", Args: "THING …", Summary: "Shows things.", Exits: []Exit{{0, "success"}}},
		{Name: "change-all", Summary: "Changes things."},
	},
}

func TestHelp(t *testing.T) {
	const want = `Example:
  tool -size 3
  tool -file /a/long/path/to/a/file -size 12 \
      -other /another/long/path/to/a/file -json

Makes things of some size.

Commands:
  show        Shows things.
  change-all  Changes things.
  tool COMMAND -h shows the flags of a command.

input:
  -size number                    TOOL_SIZE
      word word word word word word word word word word word
      word word word word word word word word word end
      (default 20)

output:
  -json                           TOOL_JSON
      print JSON (default false)
  -mode text
      way of working: fast or slow (default fast)
  -a-flag-with-a-name-that-is-long directory
      TOOL_A_FLAG_WITH_A_NAME_THAT_IS_LONG
      directory | place

other:
  -config file                    TOOL_CONFIG
      file of settings

Exit status:
  0  success
  3  more more more more more more more more more more more
     more more more more more more more more more
`
	require.Equal(t, want, Help(tool, tool.Commands[0], 60))
	require.Equal(t, "Example:\n  tool show\n\nShows things.\n\nUsage:\n  tool show [FLAG …] THING …\n\nExit status:\n  0  success\n", Help(tool, tool.Commands[1], 0))
}

// No line is wider than the width, except a single word.
func TestHelpFitsTheWidth(t *testing.T) {
	for width, longest := range map[int]int{45: 45, 0: 80, 80: 80, 300: MaxWidth} {
		for line := range strings.Lines(Help(tool, tool.Commands[0], width)) {
			line = strings.TrimRight(line, "\n")
			if strings.Count(strings.TrimSpace(line), " ") > 1 {
				require.LessOrEqual(t, len(line), longest, "%q", line)
			}
		}
	}
}
