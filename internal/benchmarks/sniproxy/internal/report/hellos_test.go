package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHellosMarkdown(t *testing.T) {
	all := Count{Sent: 2}
	h := Hellos{
		Command: "make bench-peers", Machine: "2 x Abacus",
		Clients: []HelloClient{{"curl", "7.88", 517, false}, {"Chromium", "156.0", 1924, true}},
		Ways:    []string{"1 segment", "2 segments", "2 records"},
		Routers: []HelloRouter{
			{Name: "good", Version: "1.2", Ways: []Count{all, all, all}, Handshakes: all},
			{Name: "mine", Ways: []Count{all, {2, []string{"Chromium"}}, {2, []string{"curl", "Chromium"}}}, Handshakes: Count{2, []string{"Chromium"}}},
			{Name: "broken", Version: "3", Problem: "exit status 1"},
		},
	}
	text := h.Markdown()
	for _, line := range []string{
		"`make bench-peers`",
		"| Chromium | 156.0 | 1,924 | yes |",
		"| curl | 7.88 | 517 | no |",
		"| router | 1 segment | 2 segments | 2 records | all ways | whole handshakes |",
		"| good 1.2 | 2 / 2 | 2 / 2 | 2 / 2 | 6 / 6 | 2 / 2 |",
		"| mine | 2 / 2 | **1 / 2** | **0 / 2** | **3 / 6** | **1 / 2** |",
		"- mine: 2 segments, whole handshakes: not Chromium",
		"- mine: 2 records: no client",
		"- broken 3 did not run: exit status 1",
	} {
		require.Equal(t, 1, strings.Count(text, line+"\n"), "%s\n%s", line, text)
	}
	require.NotContains(t, text, "- good")
	require.Equal(t, 4, h.Missed("mine"))
	require.Zero(t, h.Missed("good"))
}
