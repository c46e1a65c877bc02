package usage

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSuggest(t *testing.T) {
	known := []string{"allow", "deny", "f", "o", "to", "max-connections", "max-connections-per-host", "drain-delay", "http", "https"}
	for word, want := range map[string]string{
		"alow":             "allow",
		"allwo":            "allow",
		"dney":             "deny",
		"drian-dealy":      "drain-delay",
		"http2":            "http",
		"htps":             "https",
		"max-conn":         "max-connections",
		"max-connectoins":  "max-connections",
		"max":              "max-connections",
		"x":                "",
		"ot":               "",
		"":                 "",
		"listen":           "",
		"drain-delay-more": "",
	} {
		require.Equal(t, want, Suggest(word, known), word)
	}
	require.Equal(t, "; did you mean -allow?", DidYouMean("-", "alow", known))
	require.Empty(t, DidYouMean("-", "listen", known))
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "xbc", 1},
		{"abc", "ab", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3},
		{"abcdef", "badcfe", 3},
		{"abc", "abcdefghijklm", 9},
	} {
		require.Equal(t, tt.want, distance(tt.a, tt.b, 9), "%s %s", tt.a, tt.b)
		require.Equal(t, tt.want, distance(tt.b, tt.a, 9), "%s %s", tt.b, tt.a)
	}
}

func FuzzSuggest(f *testing.F) {
	f.Add("alow", "allow")
	f.Fuzz(func(t *testing.T, word, name string) {
		d := distance(word, name, 100)
		if d != distance(name, word, 100) || (d == 0) != (word == name) {
			t.Errorf("distance %d", d)
		}
		if s := Suggest(word, []string{name}); s != "" && s != name {
			t.Errorf("suggestion %q", s)
		}
	})
}
