package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWriteTable(t *testing.T) {
	rows := []Row{
		{Scenario: "cordon", What: "no new request on the node", Took: 1234567 * time.Microsecond, Within: 3 * time.Second, Requests: 1200},
		{Scenario: "cordon", What: "back", Took: 4 * time.Second, Within: 3 * time.Second, Requests: 900},
		{Scenario: "weights", What: "moved", Took: 500 * time.Microsecond, Requests: 100, Failed: 1},
		{Scenario: "rbac", What: "refused", Err: errors.New("it was not")},
	}
	var b strings.Builder
	require.NoError(t, WriteTable(&b, rows))
	require.Equal(t, strings.TrimPrefix(`
scenario  what                        took   at most  requests  failed  ok
--------  ----                        ----   -------  --------  ------  --
cordon    no new request on the node  1.23s  3s       1200      0       ok
cordon    back                        4s     3s       900       0       FAILED
weights   moved                       1ms    -        100       1       FAILED
rbac      refused                     -      -        -         -       FAILED
`, "\n"), b.String())
	require.True(t, Failed(rows))
	require.False(t, Failed(rows[:1]))
	require.True(t, Failed(nil), "a test that shows nothing is not a success")
}

func named(names ...string) []Scenario[int] {
	var all []Scenario[int]
	for _, n := range names {
		all = append(all, Scenario[int]{Name: n})
	}
	return all
}

func TestSelect(t *testing.T) {
	all := named("a", "b", "c")
	for _, test := range []struct{ names, want string }{
		{"", "abc"}, {"b", "b"}, {"c,a", "ac"}, {" a , b ", "ab"},
	} {
		got, err := Select(all, test.names)
		require.NoError(t, err)
		var names string
		for _, s := range got {
			names += s.Name
		}
		require.Equal(t, test.want, names)
	}
	all[1].Long = true
	got, err := Select(all, "")
	require.NoError(t, err)
	require.Len(t, got, 2, "a long scenario runs only by name")
	got, err = Select(all, "b")
	require.NoError(t, err)
	require.Len(t, got, 1)
	for _, names := range []string{"d", "a,d", "a,", ","} {
		_, err := Select(all, names)
		require.Error(t, err, names)
	}
}

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var log strings.Builder
	logf := func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) }
	var died error
	scenarios := []Scenario[int]{
		{Name: "good", Run: func(_ context.Context, env int, r *Report) error {
			require.Equal(t, 7, env)
			r.Add(Row{What: "works"})
			r.Add(Row{What: "late", Took: 4 * time.Second, Within: 3 * time.Second})
			r.Add(Row{What: "too late", Took: 7 * time.Second, Within: 3 * time.Second})
			return nil
		}},
		{Name: "bad", Run: func(context.Context, int, *Report) error { return errors.New("broken") }},
		{Name: "bounded", Within: time.Hour, Run: func(ctx context.Context, _ int, _ *Report) error {
			_, has := ctx.Deadline()
			require.True(t, has)
			died = errors.New("etcd ended")
			return nil
		}},
		{Name: "interrupted", Run: func(context.Context, int, *Report) error {
			died = nil
			cancel(errors.New("Ctrl-C"))
			return nil
		}},
		{Name: "late", Run: func(context.Context, int, *Report) error { panic("must not run") }},
	}
	watched := 0
	twice := func(context.Context) (func() float64, func()) {
		watched++
		return func() float64 { return 2 }, func() { watched-- }
	}
	rows := Run(ctx, 7, scenarios, func() error { return died }, twice, logf)
	require.Zero(t, watched)
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r.Scenario, ": ", r.What, ": ", r.OK(), " ", r.Err))
	}
	require.Equal(t, []string{
		"good: works: true <nil>",
		"good: late: true <nil>",
		"good: too late: false <nil>",
		"bad: ran to its end: false broken",
		"bounded: nothing ended by itself: false etcd ended",
		"late: not run: false Ctrl-C",
	}, got)
	require.Contains(t, log.String(), "bad: broken")
}
