package procfs

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 4711 4711 0 -1 4194560 2082 0 3 0 250 175 0 0 20 0 1 0 88 12 34"
	for name, test := range map[string]struct {
		data string
		want Stat
		err  string
	}{
		"plain":                  {data: "4712 (nginx)" + rest, want: Stat{PID: 4712, Command: "nginx", State: 'S', Group: 4711, User: 2500 * time.Millisecond, System: 1750 * time.Millisecond}},
		"spaces and parentheses": {data: "4712 (a) R 9 (b c)" + rest, want: Stat{PID: 4712, Command: "a) R 9 (b c", State: 'S', Group: 4711, User: 2500 * time.Millisecond, System: 1750 * time.Millisecond}},
		"no command":             {data: "4712 nginx" + rest, err: "without a command"},
		"no process":             {data: "x (nginx)" + rest, err: "invalid syntax"},
		"cut short":              {data: "4712 (nginx) S 1 4711 4711 0 -1 4194560 2082 0 3 0", err: "cut short"},
		"time is no number":      {data: "4712 (nginx)" + strings.Replace(rest, "175", "x", 1), err: "invalid syntax"},
		"group is no number":     {data: "4712 (nginx)" + strings.Replace(rest, "4711", "x", 1), err: "invalid syntax"},
		"empty":                  {err: "without a command"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseStat([]byte(test.data))
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestParseSmaps(t *testing.T) {
	const good = "55-7f ---p 00000000 00:00 0 [rollup]\nRss:                1672 kB\nPss:                 240 kB\nPss_Dirty:           112 kB\n"
	for name, test := range map[string]struct {
		data string
		want Memory
		err  string
	}{
		"good":       {data: good, want: Memory{RSS: 1672, PSS: 240}},
		"no Pss":     {data: strings.Replace(good, "Pss:", "X:", 1), err: "no Pss:"},
		"other unit": {data: strings.Replace(good, "1672 kB", "1672 MB", 1), err: "not in kB"},
		"no number":  {data: strings.Replace(good, "240", "-", 1), err: "invalid syntax"},
		"empty":      {err: "no Rss:"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSmaps([]byte(test.data))
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestParseBusy(t *testing.T) {
	const data = "cpu  316297 108 66650 306051 973 0 1930 1052 0 0\n" +
		"cpu1 100 10 20 5000 7000 1 2 3 900 900\n" +
		"cpu10 1 1 1 1 1 1 1 1 1 1\n" +
		"cpu2 1 x 1 1\nintr 5\n"
	for name, test := range map[string]struct {
		cpu  int
		want time.Duration
		err  string
	}{
		"without idle, disk and guests": {cpu: 1, want: 1360 * time.Millisecond},
		"by the whole name":             {cpu: 10, want: 60 * time.Millisecond},
		"no number":                     {cpu: 2, err: "invalid syntax"},
		"no such processor":             {cpu: 3, err: "no processor 3"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseBusy([]byte(data), test.cpu)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}
