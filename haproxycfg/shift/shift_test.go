package shift_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/shift"
)

const route = "api.example.com/tracks"

func order(t *testing.T) shift.Order {
	o, err := shift.ParseOrder(route, "new:100")
	require.NoError(t, err)
	o.For = shift.Duration(time.Hour)
	return o
}

func TestAdvance(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := order(t)
	hold := time.Duration(o.Hold)
	window := func(target, rest shift.Counters) (w shift.Window) { w.Target, w.Rest = target, rest; return w }
	good := window(shift.Counters{Requests: 1000, Errors: 5}, shift.Counters{Requests: 9000})
	bad := window(shift.Counters{Requests: 1000, Errors: 11}, shift.Counters{Requests: 9000})
	for _, tt := range []struct {
		name   string
		step   int
		status shift.Status
		after  time.Duration
		window shift.Window
		want   int
		is     shift.Status
		reason string
	}{
		{"within the hold", 0, shift.Moving, hold - 1, good, 0, shift.Moving, ""},
		{"the hold is over", 0, shift.Moving, hold, good, 1, shift.Moving, ""},
		{"no requests", 2, shift.Moving, hold, shift.Window{}, 3, shift.Moving, ""},
		{"the last step", 4, shift.Moving, hold, good, 4, shift.Done, ""},
		{"errors", 2, shift.Moving, time.Second, bad, 1, shift.Paused, "at 25%, 1.10% of 1000 responses of new were 5xx, and 0.00% of 9000 responses of the other clusters"},
		{"errors in the first step", 0, shift.Moving, time.Second, bad, -1, shift.Paused, "at 1%, 1.10% of 1000 responses of new were 5xx, and 0.00% of 9000 responses of the other clusters"},
		{"errors at the end of a hold", 2, shift.Moving, hold, bad, 1, shift.Paused, "at 25%, 1.10% of 1000 responses of new were 5xx, and 0.00% of 9000 responses of the other clusters"},
		{"errors everywhere", 2, shift.Moving, time.Second, window(shift.Counters{Requests: 100, Errors: 50}, shift.Counters{Requests: 100, Errors: 50}), 2, shift.Moving, ""},
		{"too few requests", 2, shift.Moving, time.Second, window(shift.Counters{Requests: 49, Errors: 49}, shift.Counters{}), 2, shift.Moving, ""},
		{"paused", 1, shift.Paused, time.Hour, good, 1, shift.Paused, ""},
		{"done", 4, shift.Done, time.Hour, bad, 4, shift.Done, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := shift.Shift{Order: o, Status: tt.status, Step: tt.step, Since: start}
			next, changed := s.Advance(start.Add(tt.after), tt.window)
			require.Equal(t, tt.want, next.Step)
			require.Equal(t, tt.is, next.Status)
			require.Equal(t, tt.reason, next.Reason)
			require.Equal(t, changed, tt.want != tt.step || tt.is != tt.status)
		})
	}
	away := o.WithSteps(nil, 0)
	next, _ := shift.Shift{Order: away, Status: shift.Moving, Since: start}.Advance(start.Add(time.Second), bad)
	require.Equal(t, shift.Moving, next.Status, "the failing cluster still answers earlier requests")
	next, _ = next.Advance(start.Add(hold), bad)
	require.Equal(t, shift.Done, next.Status)
}

func TestWindowSurvivesAReload(t *testing.T) {
	var w shift.Window
	w.Add(shift.Counters{Requests: 1000, Errors: 10}, shift.Counters{Requests: 5})
	require.Zero(t, w.Target)
	w.Add(shift.Counters{Requests: 1100, Errors: 11}, shift.Counters{Requests: 6})
	w.Add(shift.Counters{Requests: 7, Errors: 0}, shift.Counters{Requests: 9}) // the target's counters began with 0
	require.Equal(t, shift.Counters{Requests: 107, Errors: 1}, w.Target)
	require.Equal(t, shift.Counters{Requests: 4}, w.Rest)
}

func TestParse(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "1%": 100, "2.5": 250, "0.01": 1, "2.50": 250, "007": 700, "100.00": shift.AllPoints, "100%": shift.AllPoints} {
		got, err := shift.ParsePercent(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "%", "-1", "101", "0.001", "NaN", "Inf", "1e9", "1e2", "0x1p2", "1_0", "+5", ".5", "5.", "1 0", "100.01", "x"} {
		_, err := shift.ParsePercent(text)
		require.Error(t, err, text)
	}
	for _, target := range []string{"", "new", ":5", "new:", "new:5:6", "a/b:5", "a b:5"} {
		_, err := shift.ParseOrder(route, target)
		require.Error(t, err, target)
	}
	o, err := shift.ParseOrder(route, "new:30")
	require.NoError(t, err)
	require.Equal(t, []int{100, 500, 2500, 3000}, o.Steps)
	o, err = shift.ParseOrder(route, "new:0")
	require.NoError(t, err)
	require.Equal(t, []int{0}, o.Steps)
	for _, steps := range []string{"", "5,1", "1,1", "1;5"} {
		_, err := shift.ParseSteps(steps)
		require.Error(t, err, steps)
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		o, err := shift.ParseQuery(q.Get("route"), q)
		if err != nil {
			return
		}
		again, err := shift.ParseQuery(o.Route, o.Query())
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		require.Equal(t, o, again)
	})
}

func FuzzParseState(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := shift.ParseState(data)
		if err != nil {
			return
		}
		for _, x := range s.Shifts {
			_ = x.String()
			x.Advance(time.Now(), shift.Window{})
			_, _ = x.Resume(time.Now())
		}
		text, err := s.AppendJSON(nil)
		require.NoError(t, err)
		again, err := shift.ParseState(text)
		require.NoError(t, err, string(text))
		once, err := again.AppendJSON(nil)
		require.NoError(t, err)
		require.Equal(t, string(text), string(once))
	})
}

// fakeControl is a Control without an HAProxy.
type fakeControl struct {
	mu    sync.Mutex
	state shift.State
	err   error
	set   int
	raced func() // called once, just before the next SetShifts
}

func (f *fakeControl) Shifts() (shift.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, nil
}

func (f *fakeControl) SetShifts(_ context.Context, last, next shift.State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.raced != nil {
		f.raced()
		f.raced = nil
	}
	if !last.Equal(f.state) {
		return shift.ErrConflict
	}
	if f.err == nil {
		f.state = next
		f.set++
	}
	return f.err
}

func (f *fakeControl) CheckShift(name, cluster string) error {
	if name != route || cluster == "gone" {
		return errors.New("no such route")
	}
	return nil
}

type fakeWorld struct {
	control      fakeControl
	target, rest shift.Counters
	err          error
	runner       *shift.Runner
	changed      []string
}

func newFakeWorld() *fakeWorld {
	w := &fakeWorld{}
	w.runner = &shift.Runner{
		Control: &w.control,
		Counters: func(context.Context, string, string) (shift.Counters, shift.Counters, error) {
			return w.target, w.rest, w.err
		},
		Changed: func(s shift.Shift) { w.changed = append(w.changed, s.String()) },
	}
	return w
}

// ticks calls Tick once a second.
func (w *fakeWorld) ticks(t *testing.T, n int) {
	for range n {
		time.Sleep(time.Second) // this test runs in a bubble of synctest
		err := w.runner.Tick(t.Context(), time.Now())
		if w.err == nil && w.control.err == nil {
			require.NoError(t, err)
		} else {
			require.Error(t, err)
		}
	}
}

func (w *fakeWorld) points(t *testing.T) int {
	s, ok := w.control.state.Find(route)
	require.True(t, ok)
	points, ok := s.Points()
	if !ok {
		return -1
	}
	return points
}

func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFakeWorld(), t.Context()
		o := order(t)
		o.Hold, o.MinRequests = shift.Duration(10*time.Second), 10
		require.ErrorIs(t, w.runner.Start(ctx, shift.Order{Route: route}), shift.ErrRefused)
		other := o
		other.Cluster = "gone"
		require.ErrorIs(t, w.runner.Start(ctx, other), shift.ErrRefused)
		require.NoError(t, w.runner.Start(ctx, o))
		require.Equal(t, 100, w.points(t), "the first step begins at once")

		w.ticks(t, 10)
		require.Equal(t, 100, w.points(t), "the first tick only begins the count of time")
		w.ticks(t, 1)
		require.Equal(t, 500, w.points(t))

		w.err = errors.New("no counters")
		w.ticks(t, 100)
		require.Equal(t, 500, w.points(t), "time without counters does not count")
		w.err = nil
		w.ticks(t, 11)
		require.Equal(t, 2500, w.points(t))

		w.ticks(t, 2)
		w.target = shift.Counters{Requests: 10, Errors: 10}
		w.ticks(t, 1)
		require.Equal(t, 500, w.points(t), "the last step that was held to its end")
		w.ticks(t, 100)
		require.Equal(t, 500, w.points(t))
		require.NoError(t, w.runner.Resume(ctx, route))
		require.ErrorIs(t, w.runner.Resume(ctx, route), shift.ErrRefused)
		require.Equal(t, 2500, w.points(t))
		w.ticks(t, 40)
		require.Equal(t, shift.AllPoints, w.points(t), "earlier errors do not count")
		s, _ := w.control.state.Find(route)
		require.Equal(t, shift.Done, s.Status)
		set := w.control.set
		w.ticks(t, 100)
		require.Equal(t, set, w.control.set)

		require.NoError(t, w.runner.Undo(ctx, route))
		require.Empty(t, w.control.state.Shifts)
		require.ErrorIs(t, w.runner.Undo(ctx, route), shift.ErrRefused)
		require.Len(t, w.changed, 6, "%q", w.changed)
	})
}

// TestRunnerContinues starts a shift that continues an earlier one, and pauses it.
func TestRunnerContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFakeWorld(), t.Context()
		o := order(t)
		o.Hold, o.Steps = shift.Duration(time.Second), []int{2500}
		require.NoError(t, w.runner.Start(ctx, o))
		w.ticks(t, 3)
		o.Steps = []int{100, 500, 2500, 5000, 10000}
		require.NoError(t, w.runner.Start(ctx, o))
		require.Equal(t, 5000, w.points(t))
		w.ticks(t, 1)
		w.target = shift.Counters{Requests: 100, Errors: 100}
		w.ticks(t, 1)
		require.Equal(t, 2500, w.points(t), "it falls back to the share before")
		o.Steps = []int{1000}
		require.NoError(t, w.runner.Start(ctx, o))
		require.Equal(t, 1000, w.points(t), "a lower target is one step")
		o.Cluster = "third"
		require.ErrorIs(t, w.runner.Start(ctx, o), shift.ErrRefused)
	})
}

// TestNoStateThatCannotBeRead: an order with 100 steps that continues a shift would have 101.
func TestNoStateThatCannotBeRead(t *testing.T) {
	w, ctx := newFakeWorld(), t.Context()
	o := order(t)
	o.Hold, o.Steps = shift.Duration(time.Second), []int{1}
	require.NoError(t, w.runner.Start(ctx, o))
	o.Steps = nil
	for points := 2; points <= 101; points++ {
		o.Steps = append(o.Steps, points)
	}
	require.ErrorIs(t, w.runner.Start(ctx, o), shift.ErrRefused)
	require.Equal(t, 1, w.control.set)
	o.Steps = o.Steps[:99]
	require.NoError(t, w.runner.Start(ctx, o))
	text, err := w.control.state.AppendJSON(nil)
	require.NoError(t, err)
	_, err = shift.ParseState(text)
	require.NoError(t, err)

	var large shift.State
	o.Steps = []int{1}
	for i := range 64 {
		o.Route = fmt.Sprintf("%05d.example.com/", i)
		large.Shifts = append(large.Shifts, shift.Shift{Order: o, Status: shift.Moving, Reason: strings.Repeat("r", 1<<20)})
	}
	_, err = large.AppendJSON(nil)
	require.ErrorContains(t, err, "64 routes")
}

// TestRunnerAfterARestart makes a second Runner in the middle of a step. The second Runner holds
// the step for its whole time again.
func TestRunnerAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld()
		o := order(t)
		o.Hold = shift.Duration(10 * time.Second)
		require.NoError(t, w.runner.Start(t.Context(), o))
		w.ticks(t, 9)
		after := newFakeWorld()
		text, err := w.control.state.AppendJSON(nil)
		require.NoError(t, err)
		after.control.state, err = shift.ParseState(text)
		require.NoError(t, err)
		after.ticks(t, 10)
		require.Equal(t, 100, after.points(t))
		after.ticks(t, 1)
		require.Equal(t, 500, after.points(t))
	})
}

func TestHandler(t *testing.T) {
	w := newFakeWorld()
	h := w.runner.Handler(func(name string) (string, error) {
		if name == "?" {
			return "", errors.New("no name")
		}
		return name, nil
	})
	do := func(method, target string) (int, shift.State) {
		r := httptest.NewRecorder()
		h.ServeHTTP(r, httptest.NewRequest(method, target, nil))
		var s shift.State
		if r.Code == http.StatusOK {
			require.NoError(t, json.Unmarshal(r.Body.Bytes(), &s))
		}
		return r.Code, s
	}
	code, state := do("POST", "/shift?"+order(t).Query().Encode())
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, order(t), state.Shifts[0].Order)
	_, state = do("GET", "/shifts")
	require.Len(t, state.Shifts, 1)
	_, state = do("POST", "/shift/close?percent=2.5")
	require.Equal(t, 250, state.ClosePoints)
	_, state = do("POST", "/shift/undo?route="+route)
	require.Empty(t, state.Shifts)
	for target, want := range map[string]int{
		"/shift?route=?&to=new:5": 400, "/shift?route=" + route: 400, "/shift?route=x&to=new:5": 400, "/shift?route=x&to=new:5&for=1h": 409,
		"/shift?to=new:5&for=1h": 400, "/shift?cluster=a&to=new:5&for=1h": 409, "/shift?route=x&to=new:5&for=73h": 400, "/shift?route=x&to=new:5&for=1m": 400, "/shift?route=x&to=new:5&for=1h&hold=5": 400, "/shift?route=x&to=new:5&for=1h&steps=9,8": 400,
		"/shift?route=x&to=new:5&for=1h&max-errors=x": 400, "/shift?route=x&to=new:5&for=1h&min-requests=x": 400,
		"/shift/undo": 409, "/shift/resume?route=x": 409, "/shift/close?percent=x": 400,
	} {
		code, _ := do("POST", target)
		require.Equal(t, want, code, target)
	}
	code, _ = do("GET", "/shift?route=x")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	w.control.err = errors.New("HAProxy does not answer")
	code, _ = do("POST", "/shift/close?percent=1")
	require.Equal(t, http.StatusBadGateway, code)
}

// TestClient follows shifts that another process moves.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld()
		h := w.runner.Handler(nil)
		client := &shift.Client{Interval: time.Second, Do: func(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
			r := httptest.NewRecorder()
			h.ServeHTTP(r, httptest.NewRequestWithContext(ctx, method, path+"?"+query.Encode(), nil))
			if r.Code != http.StatusOK {
				return nil, errors.New(r.Body.String())
			}
			return r.Body.Bytes(), nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		// follow returns the lines of a shift while the function "during" runs.
		follow := func(begun shift.State, during func()) (lines []string, last shift.Status, err error) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				last, err = client.Follow(ctx, begun, route, "", func(s shift.Shift) { lines = append(lines, s.String()) })
			}()
			during()
			<-ended
			return lines, last, err
		}

		o := order(t).WithSteps([]int{500}, 5000)
		o.Hold = shift.Duration(5 * time.Second)
		begun, _, err := client.Start(ctx, o)
		require.NoError(t, err)
		lines, last, err := follow(begun, func() { w.ticks(t, 15) })
		require.NoError(t, err)
		require.Equal(t, shift.Done, last)
		require.Equal(t, []string{
			route + ": 5% to new, moving to 50% (until 2000-01-01T01:00:00Z)",
			route + ": 50% to new, moving to 50% (until 2000-01-01T01:00:00Z)",
			route + ": 50% to new, done (until 2000-01-01T01:00:00Z)",
		}, lines)

		begun, _, err = client.Start(ctx, order(t))
		require.NoError(t, err)
		_, _, err = follow(begun, func() {
			time.Sleep(time.Second)
			_, _, err := client.Start(ctx, order(t).WithSteps(nil, 200))
			require.NoError(t, err)
		})
		require.ErrorContains(t, err, "somebody has changed the shift: "+route)

		begun, _, err = client.Start(ctx, order(t))
		require.NoError(t, err)
		_, _, err = follow(begun, func() {
			time.Sleep(time.Second)
			_, err := client.Undo(ctx, route, "")
			require.NoError(t, err)
		})
		require.ErrorContains(t, err, "undone")
		_, err = client.Resume(ctx, route, "")
		require.ErrorContains(t, err, route)
		state, err := client.Close(ctx, 250)
		require.NoError(t, err)
		require.Equal(t, 250, state.ClosePoints)

		begun, _, err = client.Start(ctx, order(t))
		require.NoError(t, err)
		_, _, err = follow(begun, cancel)
		require.ErrorIs(t, err, context.Canceled)
		client.Do = func(context.Context, string, string, url.Values) ([]byte, error) { return []byte("x"), nil }
		_, err = client.State(t.Context())
		require.Error(t, err)
	})
}

// TestRunnerWithAnotherRunner: another Runner changes the state between a read and a write.
func TestRunnerWithAnotherRunner(t *testing.T) {
	w := newFakeWorld()
	order, err := shift.ParseOrder(route, "eu-2:100")
	require.NoError(t, err)
	order.For = shift.Duration(time.Hour)
	order.Hold = 0 // each Tick begins a step
	w.control.raced = func() { w.control.state.ClosePoints = 5 }
	require.NoError(t, w.runner.Start(t.Context(), order))
	require.Equal(t, 5, w.control.state.ClosePoints, "the other change stays")
	require.Len(t, w.control.state.Shifts, 1)

	// Another Runner changes the state at the same time. So this Runner cannot begin a step in this
	// Tick, and reports none.
	now := time.Now()
	w.control.raced = func() { w.control.state.ClosePoints = 6 }
	require.NoError(t, w.runner.Tick(t.Context(), now))
	require.Empty(t, w.changed)
	require.NoError(t, w.runner.Tick(t.Context(), now))
	require.Len(t, w.changed, 1)
}
