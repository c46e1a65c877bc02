package agentcheck_test

import (
	"encoding"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

var (
	_ encoding.TextAppender    = agentcheck.Reply{}
	_ encoding.TextMarshaler   = agentcheck.Reply{}
	_ encoding.TextUnmarshaler = (*agentcheck.Reply)(nil)
)

func TestAppendLine(t *testing.T) {
	for _, c := range []struct {
		want  string
		reply agentcheck.Reply
	}{
		{"\n", reply{}},
		{"up\n", reply{State: up}},
		{"ready\n", reply{Admin: ready}},
		{"0%\n", reply{Weight: percent(0)}},
		{"weight:0\n", reply{Weight: absolute(0)}},
		{"maxconn:0\n", reply{MaxConn: limit(0)}},
		{"# why\n", reply{Reason: "why"}},
		{"drain 25600%\n", reply{Admin: drain, Weight: percent(1 << 30)}},
		{"0% maxconn:4294967295\n", reply{Weight: percent(-1), MaxConn: limit(1<<32 - 1)}},
		{"maxconn:4294967295\n", reply{MaxConn: limit(1 << 32)}},
		{"maxconn:1\n", reply{MaxConn: limit(-5)}}, // 0 would lift the limit
		{"weight:256\n", reply{Weight: absolute(257)}},
		{"up ready 75% maxconn:30 # reason\n", reply{up, ready, percent(75), limit(30), "reason"}},
		{"fail maint weight:7 # a b\n", reply{fail, maint, absolute(7), agentcheck.MaxConn{}, "a b"}},
		// No character in a reason ends the line, and no part of a reason becomes a word of the
		// answer.
		{"stopped # up ready 100%\n", reply{State: stopped, Reason: "\nup ready\r100%\r\n"}},
		{"down # #x\n", reply{State: down, Reason: "#x"}},
		{"down # a  b\n", reply{State: down, Reason: " \t a\x00\x1bb\u2029 "}},
		{"down # é � x\n", reply{State: down, Reason: "é \ufffd\xffx"}},
		{"down\n", reply{State: down, Reason: "\r\n\t \x00"}},
		{"\n", reply{Reason: "\n"}},
		{"# " + strings.Repeat("x", agentcheck.MaxReason) + "\n", reply{Reason: strings.Repeat("x", 2*agentcheck.MaxReason)}},
		{"# " + strings.Repeat("x", agentcheck.MaxReason-1) + "\n", reply{Reason: strings.Repeat("x", agentcheck.MaxReason-1) + "é"}},
		{"# " + strings.Repeat("x", agentcheck.MaxReason-1) + "\n", reply{Reason: strings.Repeat("x", agentcheck.MaxReason-1) + " y"}},
	} {
		t.Run(strings.TrimSpace(c.want[:min(len(c.want), 30)]), func(t *testing.T) {
			got, err := c.reply.AppendLine([]byte("before "))
			require.NoError(t, err)
			require.Equal(t, "before "+c.want, string(got))

			text := strings.TrimSuffix(c.want, "\n")
			require.Equal(t, text, c.reply.String())
			got, err = c.reply.AppendText([]byte("before "))
			require.NoError(t, err)
			require.Equal(t, "before "+text, string(got))
			got, err = c.reply.MarshalText()
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		})
	}
}

func TestValuesWithoutAWordAreErrors(t *testing.T) {
	for _, r := range []agentcheck.Reply{{State: 5}, {State: 255}, {Admin: 4}, {Admin: 255, State: up}} {
		for _, appendTo := range []func([]byte) ([]byte, error){r.AppendText, r.AppendLine} {
			got, err := appendTo([]byte("before"))
			require.Error(t, err)
			require.Equal(t, "before", string(got))
		}
		require.Contains(t, r.String(), "no words for")
	}
	_, err := agentcheck.State(5).MarshalText()
	require.ErrorContains(t, err, "State(5)")
	_, err = agentcheck.Admin(4).MarshalText()
	require.ErrorContains(t, err, "Admin(4)")
}

func TestZeroReplyChangesNothing(t *testing.T) {
	r, err := agentcheck.Parse([]byte(reply{}.String() + "\n"))
	require.NoError(t, err)
	require.Equal(t, reply{}, r)
	require.Empty(t, agentcheck.KeepState.String()+agentcheck.KeepAdmin.String()+agentcheck.Weight{}.String()+agentcheck.MaxConn{}.String())
	require.True(t, agentcheck.Weight{}.IsZero() && agentcheck.MaxConn{}.IsZero())
	require.False(t, percent(0).IsZero() || absolute(0).IsZero() || limit(0).IsZero())
}

// A Reply in a log or in JSON is one string without a line end.
func TestTextOfAReplyHasNoLineEnd(t *testing.T) {
	text, err := json.Marshal(map[string]any{"reply": full})
	require.NoError(t, err)
	require.JSONEq(t, `{"reply":"up ready 75% maxconn:30 # canary"}`, string(text))

	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "reply", full)
	require.Contains(t, out.String(), `reply="up ready 75% maxconn:30 # canary"`+"\n")
}

// If a value of each type is written as JSON and read again, the result is the same value.
func TestTextOfEachSetting(t *testing.T) {
	type document struct {
		Whole   agentcheck.Reply
		State   agentcheck.State
		Admin   agentcheck.Admin
		Weight  agentcheck.Weight
		MaxConn agentcheck.MaxConn
	}
	for _, d := range []document{
		{},
		{reply{down, drain, percent(5), limit(6), "why"}, fail, maint, percent(75), limit(30)},
		{reply{Weight: absolute(9)}, up, ready, absolute(3), limit(0)},
	} {
		text, err := json.Marshal(d)
		require.NoError(t, err)
		var back document
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, d, back)
	}
	for _, bad := range []string{
		`{"State":"ready"}`, `{"Admin":"up"}`, `{"Weight":"75"}`, `{"Weight":"7.5%"}`, `{"Weight":"weight:"}`,
		`{"MaxConn":"30"}`, `{"MaxConn":"maxconn:x"}`, `{"Whole":"bogus"}`,
	} {
		var d document
		require.Error(t, json.Unmarshal([]byte(bad), &d), bad)
		require.Equal(t, document{}, d)
	}
}

func TestEffectiveWeight(t *testing.T) {
	for _, c := range []struct {
		weight                 agentcheck.Weight
		initial, current, want int
	}{
		{agentcheck.Weight{}, 100, 42, 42},
		{percent(50), 100, 42, 50},
		{percent(50), 1, 1, 0},
		{percent(150), 1, 1, 1},
		{percent(99), 7, 7, 6},
		{percent(300), 100, 100, 256},
		{percent(25600), 1, 1, 256},
		{percent(25600), 256, 1, 256},
		{percent(50), 0, 0, 0},
		{absolute(50), 200, 1, 50},
	} {
		require.Equal(t, c.want, c.weight.Effective(c.initial, c.current), "%v of %d", c.weight, c.initial)
	}
}
