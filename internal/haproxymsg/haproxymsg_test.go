package haproxymsg

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Message{
		"[ALERT]    (17736) : config : parsing [bad.cfg:8] : unknown keyword 'bogus'\n": {Alert, "config : parsing [bad.cfg:8] : unknown keyword 'bogus'"},
		"[ALERT]    (9) : parsing [a.cfg:3] : 'bind' : missing port":                    {Alert, "parsing [a.cfg:3] : 'bind' : missing port"},
		"[WARNING] 324/211500 (9) : old\r\n":                                            {Warning, "old"},
		"[NOTICE]   (7) : New worker (20295) forked":                                    {Notice, "New worker (20295) forked"},
		"[DIAG/CHECK] (7):x": {Diag, "x"},
		"[ALERT] (1) : ":     {Alert, ""},
		// White space of Unicode is no text.
		"[ALERT] (1) : \u0085\u00a0x\u00a0": {Alert, "x"},
		"[ALERT] (1) : \u0085":              {Alert, ""},
	} {
		got, ok := Parse(line)
		require.True(t, ok, "%q", line)
		require.Equal(t, want, got, "%q", line)
	}
	for _, line := range []string{
		"", "[ALERT]", "[INFO] (1) : x", " [ALERT] (1) : x", "[ALERT] (1) x", "[ALERT](1) : x", "   | a further line",
		"127.0.0.1:1 [29/Nov/2026] web local/s1 200 [ALERT] (7) : x", "[ALERT] (1) : x\n[ALERT] (2) : y", "[ALERT]\u00a0(1) : x",
	} {
		_, ok := Parse(line)
		require.False(t, ok, "%q", line)
	}
	require.Equal(t, "parsing [a:1]", Message{Text: "config : parsing [a:1]"}.WithoutConfig())
	require.Equal(t, "parsing [a:1]", Message{Text: "parsing [a:1]"}.WithoutConfig())
}

// FuzzParse: the line contains the text of the parsed message, and this text neither begins nor
// ends with white space.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := Parse(line)
		if !ok {
			require.Zero(t, m)
			return
		}
		require.Contains(t, []string{Alert, Warning, Notice, Diag}, m.Severity)
		require.True(t, strings.HasPrefix(line, "["+m.Severity))
		require.Contains(t, line, m.Text)
		require.Equal(t, strings.TrimSpace(m.Text), m.Text)
		require.NotContains(t, m.Text, "\n")
		again, ok := Parse("[" + m.Severity + "]    (1) : " + m.Text)
		require.True(t, ok)
		require.Equal(t, m, again)
	})
}
