package usage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// completed is a program with all kinds of flags and commands that Completion distinguishes.
var completed = Program{Name: "the-tool", Commands: []Command{
	{Groups: []Group{{"general", []Flag{
		{Name: "config", Value: "file", Text: "file of settings; none if empty"},
		{Name: "size", Value: "number", Text: "size of all [things]: 'a' or \"b\""},
		{Name: "since", Value: "duration", Text: `text with \ in it. Second sentence`},
		{Name: "version", Text: "print the version, and exit"},
	}}}},
	{Name: "show", Summary: "Shows a thing: it's $HOME `here`.", Groups: []Group{{"general", []Flag{
		{Name: "only-show", Value: "directory", Text: "directory to show"}, {Name: "json", Text: "print JSON"},
	}}}},
	{Name: "shift", Summary: "Shifts things."},
	{Name: "completion", Summary: "Prints a script.", Groups: []Group{{"general", []Flag{{Name: "version", Text: "print the version, and exit"}}}}},
}}

// If the environment variable UPDATE_COMPLETION is set, the test writes the expected scripts.
func TestCompletion(t *testing.T) {
	for _, shell := range Shells {
		script, err := Completion(completed, shell)
		require.NoError(t, err)
		file := filepath.Join("testdata", "TestCompletion", shell)
		if os.Getenv("UPDATE_COMPLETION") != "" {
			require.NoError(t, os.WriteFile(file, []byte(script), 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), script, shell)
	}
	_, err := Completion(completed, "ksh")
	require.EqualError(t, err, "want one of the shells bash, zsh, fish")
}
