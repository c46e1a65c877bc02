package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
)

const declared = `routes:
- host: api.example.com
  path: /tracks
  exact: true
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http, weight: 0}
  check: {path: /healthz, host: x.example, interval: 1500ms, rise: 1, fall: 4}
  protocol: h2c
  limits: {requests: 10, connections: 20, source: {requests: 5}}
  timeouts: {server: 5s, tunnel: 2d}
  shift: true
- host: "*.example.com"
  backends:
  - {cluster: eu-1, namespace: media, service: web, port: "80", weight: 256}
  check: {}
`

func table(t testing.TB) routes.Table {
	t.Helper()
	table, problems := routes.Parse("routes.yaml", []byte(declared))
	require.Empty(t, problems)
	return table
}

func newHold(t testing.TB) *Hold {
	t.Helper()
	packed, err := Pack(table(t).Routes())
	require.NoError(t, err)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return &Hold{ID: "abc", Applied: at, Since: at.Add(time.Hour), By: "root@edge-1", Reason: "errors of eu-2", Routes: packed}
}

// TestHoldKeepsAllFieldsOfRoutes fails if a new field of a route does not survive Pack and Table.
func TestHoldKeepsAllFieldsOfRoutes(t *testing.T) {
	state := State{Hold: newHold(t)}
	text, err := state.AppendJSON(nil)
	require.NoError(t, err)
	again, err := Parse(text)
	require.NoError(t, err)
	got, problems, err := again.Hold.Table()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, table(t), got, "with the positions")
	require.True(t, state.Hold.Is(again.Hold))
	require.Equal(t, "held since 2026-05-01T13:00:00Z by root@edge-1 (errors of eu-2): the routes of 2026-05-01T12:00:00Z, configuration abc", again.Hold.String())
}

func TestHoldWithoutRoutesAndWithMany(t *testing.T) {
	packed, err := Pack(nil)
	require.NoError(t, err)
	got, problems, err := (&Hold{Routes: packed}).Table()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Empty(t, got.Routes())
}

func TestIs(t *testing.T) {
	var none *Hold
	a, b := newHold(t), newHold(t)
	require.True(t, a.Is(b))
	require.True(t, none.Is(nil))
	require.False(t, a.Is(none))
	require.False(t, none.Is(a))
	b.Since = b.Since.Add(time.Second)
	require.False(t, a.Is(b))
	require.Empty(t, none.String())
}

func TestStatesThatCannotBeUsed(t *testing.T) {
	for want, change := range map[string]func(*State){
		"hold.id: ":       func(s *State) { s.Hold.ID = "" },
		"hold.since, ":    func(s *State) { s.Hold.Since = time.Time{} },
		"hold.by: ":       func(s *State) { s.Hold.By = "a\nb" },
		"hold.reason: ":   func(s *State) { s.Hold.Reason = strings.Repeat("x", 1001) },
		"hold.routes: ":   func(s *State) { s.Hold.Routes = nil },
		"closePoints: -1": func(s *State) { s.Shifts = shift.State{ClosePoints: -1} },
	} {
		s := State{Hold: newHold(t)}
		change(&s)
		_, err := s.AppendJSON(nil)
		require.ErrorContains(t, err, want)
	}
	for text, want := range map[string]string{
		"{": "fleet: state: ", "[]": "fleet: state: ", `{"hold":{}}`: "hold.id", `{"shifts":{"closePoints":-1}}`: "closePoints",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want)
	}
	_, err := Parse(make([]byte, MaxBytes+1))
	require.ErrorContains(t, err, "more than")
	empty, err := Parse(nil)
	require.NoError(t, err)
	require.Equal(t, State{}, empty)
}

func TestRoutesThatCannotBeUnpacked(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("x"), newHold(t).Routes[:20]} {
		_, _, err := (&Hold{Routes: data}).Table()
		require.ErrorContains(t, err, "fleet: routes: ")
	}
	_, err := unpack(newHold(t).Routes, 10)
	require.ErrorContains(t, err, "more than 10 bytes")
	packed, err := Pack([]routes.Route{{Host: "10.0.0.1"}})
	require.NoError(t, err)
	table, problems, err := (&Hold{Routes: packed}).Table()
	require.NoError(t, err)
	require.Empty(t, table.Routes())
	require.NotEmpty(t, problems, "an unusable route does not end the hold of the others")
}

func FuzzParse(f *testing.F) {
	text, err := State{Hold: newHold(f)}.AppendJSON(nil)
	require.NoError(f, err)
	f.Add(text)
	text, err = State{Canary: newCanary(f).Try(Trial{Declarations: "b", Terminator: "edge-1", Since: noon}).Withdraw("bad", noon)}.AppendJSON(nil)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"shifts":{"closePoints":100,"shifts":[{"route":"a.example/","cluster":"eu-2","steps":[100],"hold":"5m0s","maxErrors":1,"minRequests":2,"status":"moving","step":-1,"since":"2026-05-01T12:00:00Z"}]}}`))
	f.Add([]byte(`{"shifts":{"shifts":[],"clusters":[{"cluster":"eu-2","from":"eu-1","steps":[100],"hold":"5m0s","for":"1h0m0s","status":"moving","step":0,"since":"2026-05-01T12:00:00Z","routes":["a.example/","b.example/"]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		first, err := s.AppendJSON(nil)
		require.NoError(t, err)
		again, err := Parse(first)
		require.NoError(t, err)
		second, err := again.AppendJSON(nil)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		if s.Hold != nil {
			_ = s.Hold.String()
			_, _ = unpack(s.Hold.Routes, 1<<20)
		}
	})
}
