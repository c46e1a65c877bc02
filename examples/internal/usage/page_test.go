package usage

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPage(t *testing.T) {
	config := Flag{Name: "config", Value: "file", Text: "a | b"}
	p := Program{Name: "tool", Summary: "Makes things.", Commands: []Command{
		{Example: "tool -config f", Groups: []Group{{"general", []Flag{config}}}, Exits: []Exit{{0, "success"}}},
		{Name: "show", Args: "THING", Summary: "Shows a thing.", Example: "tool show x", Groups: []Group{
			{"output", []Flag{{Name: "json", Text: "print JSON", Default: "false"}}}, {"general", []Flag{config}},
		}, Exits: []Exit{{0, "success"}, {3, "no such thing"}}},
	}}
	const want = "## tool\n\nMakes things.\n\n```sh\ntool -config f\n```\n\n" +
		"| flag | value | default | purpose | meaning |\n|---|---|---|---|---|\n| `-config` | `file` |  | general | a \\| b |\n\n" +
		"| exit code | meaning |\n|---|---|\n| 0 | success |\n" +
		"\n### tool show THING\n\nShows a thing.\n\n```sh\ntool show x\n```\n\n" +
		"| flag | value | default | purpose | meaning |\n|---|---|---|---|---|\n| `-json` |  | `false` | output | print JSON |\n\n" +
		"As for `tool`: `-config`.\n\n" +
		"| exit code | meaning |\n|---|---|\n| 0 | success |\n| 3 | no such thing |\n"
	require.Equal(t, want, Page(p))
}
