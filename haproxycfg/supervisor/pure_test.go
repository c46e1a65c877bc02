package supervisor

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	b := backoff{minDelay: 100 * ms, maxDelay: time.Second, stable: time.Minute}
	for i, step := range []struct {
		ran    time.Duration
		random float64
		want   time.Duration
	}{
		{0, 0.5, 100 * ms},
		{0, 0.5, 200 * ms},
		{time.Minute - 1, 0.5, 400 * ms},
		{0, 0.5, 800 * ms},
		{0, 0.5, time.Second},
		{0, 0, 800 * ms},
		{0, 1, 1200 * ms},
		{time.Minute, 0.5, 100 * ms},
		{0, 0.5, 200 * ms},
	} {
		require.InDelta(t, step.want, b.failed(step.ran, step.random), float64(time.Microsecond), "step %d", i)
	}
	for range 4 {
		b.failed(0, 0)
	}
	for range 100 { // no overflow
		require.Equal(t, time.Duration(800*ms), b.failed(0, 0))
	}
}

func split(parts ...string) []string {
	var got []string
	l := lines{call: func(line string) { got = append(got, line) }}
	for _, part := range parts {
		_, _ = l.Write([]byte(part))
	}
	l.flush()
	return got
}

func TestLines(t *testing.T) {
	require.Equal(t, []string{"one", "two", "three"}, split("on", "e\r\n\ntw", "o\n", "three"))
	long := strings.Repeat("x", maxLine)
	require.Equal(t, []string{long, "y"}, split(long+"\ny\n"))
	require.Equal(t, []string{long, "y"}, split(long, "\ny\n"))
	require.Equal(t, []string{long, "xy"}, split(long+"xy\n"))
}

func FuzzLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string, cut uint) {
		text = strings.ReplaceAll(text, "\r", "")
		i := int(cut % uint(len(text)+1))
		got := split(text[:i], text[i:])
		if want := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }); len(text) < maxLine {
			require.Equal(t, strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	})
}

func TestMessage(t *testing.T) {
	for line, want := range map[string]slog.Level{
		"[WARNING]  (7) : Server a/s0 is DOWN, reason: Layer4 connection problem":                      slog.LevelInfo,
		"[WARNING]  (7) : Backup Server a/s0 is UP/READY (leaving forced maintenance).":                slog.LevelInfo,
		"[WARNING] 324/211500 (7) : Health check for server a/s0 failed, reason: Layer4 timeout":       slog.LevelInfo,
		"[WARNING]  (7) : a/s1 changed its IP from 10.0.0.1 to 10.0.0.2 by stats socket command.":      slog.LevelInfo,
		"[NOTICE]   (7) : New worker (20295) forked":                                                   slog.LevelDebug,
		"[NOTICE]   (7) : Server a/s0 was UP":                                                          slog.LevelDebug,
		"[ALERT]    (7) : backend 'a' has no server available!":                                        slog.LevelWarn,
		"[ALERT]    (7) : [/usr/sbin/haproxy.main()] Cannot raise FD limit to 2240, limit is 600.":     slog.LevelWarn,
		"[WARNING]  (7) : config : 'server a/s0' : no default weight":                                  slog.LevelWarn,
		"[WARNING]  (7) : [/usr/sbin/haproxy.main()] HAProxy was started as root without any 'chroot'": slog.LevelWarn,
	} {
		level, text, ok := Message(line)
		require.True(t, ok, line)
		require.Equal(t, want, level, line)
		require.True(t, strings.HasSuffix(line, ") : "+text), text)
	}
	_, _, ok := Message("127.0.0.1:1 [29/Nov/2026] web local/s1 200 [ALERT] (7) : x")
	require.False(t, ok)
}

func TestMaxConnections(t *testing.T) {
	for limits, want := range map[string]int{
		"Limit Soft Hard\nMax open files            1024                 20000                files\n": 7952,
		"Max open files            1024                 1024                 files\n":                  384,
		"Max open files            1024                 unlimited            files\n":                  0,
		"": 0,
	} {
		n, ok := maxConnections([]byte(limits))
		require.Equal(t, want, n, limits)
		require.Equal(t, want > 0, ok)
	}
	_, _ = MaxConnections()
}

func TestNewRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		"required":       {Config: "x"},
		"RunDir":         {RunDir: "x"},
		"has at most 85": {Config: "x", RunDir: "/" + strings.Repeat("d", 86)},
	} {
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
}

func TestStateString(t *testing.T) {
	for want, s := range map[string]State{
		"running":                   {Phase: Running},
		"waiting: haproxy ended: x": {Phase: Waiting, Err: errText("haproxy ended: x")},
		"running with the last good configuration: x": {Phase: Running, OnLastGood: true, Err: errText("x")},
		"phase 9": {Phase: 9},
	} {
		require.Equal(t, want, s.String())
	}
}

type errText string

func (e errText) Error() string { return string(e) }
