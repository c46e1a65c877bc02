package configtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitWords(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{"  a\tb ", []string{"a", "b"}},
		{"a # b", []string{"a"}},
		{`a\#b \  c`, []string{"a#b", " ", "c"}},
		{`'a b'c'' ''`, []string{"a bc", ""}},
		{`'it'\''s'\n`, []string{"it's\n"}},
		{`\x41\x0a`, []string{"A\n"}},
		{`'\n $HOME "#'`, []string{`\n $HOME "#`}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			words, err := splitWords(tt.line)
			require.NoError(t, err)
			require.Equal(t, tt.want, words)
		})
	}
	for _, line := range []string{"'", `"a"`, `\`, `\x4`, "a\rb", "a\x00"} {
		_, err := splitWords(line)
		require.Error(t, err, "%q", line)
	}
}
