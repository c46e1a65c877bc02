package agentcheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

func TestParse(t *testing.T) {
	for _, a := range append(answers(), newerAnswers()...) {
		t.Run(fmt.Sprintf("%.40q", a.line), func(t *testing.T) {
			got, err := agentcheck.Parse([]byte(a.line))
			require.Equal(t, a.want, got)
			var wrong []string
			for _, w := range wordErrors(err) {
				wrong = append(wrong, w.Word)
				require.Equal(t, w.Word, a.line[w.Offset:w.Offset+len(w.Word)], "Offset")
				shown := w.Word[:min(len(w.Word), 64)]
				require.Contains(t, err.Error(), fmt.Sprintf("%q", shown), "the error should name the word")
				require.True(t, strings.HasPrefix(w.Error(), "agentcheck: "))
				require.Less(t, len(w.Error()), 400)
			}
			require.Equal(t, a.wrong, wrong)
			switch {
			case a.err != nil:
				require.ErrorIs(t, err, a.err)
			case a.wrong == nil:
				require.NoError(t, err)
			}
		})
	}
}

func TestParseDoesNotKeepItsInput(t *testing.T) {
	line := []byte("up # fine\n")
	r, err := agentcheck.Parse(line)
	require.NoError(t, err)
	for i := range line {
		line[i] = '!'
	}
	require.Equal(t, "fine", r.Reason)

	line = []byte("bogus\n")
	_, err = agentcheck.Parse(line)
	line[0] = '!'
	require.ErrorContains(t, err, "bogus")
}

func TestUnmarshalText(t *testing.T) {
	var r agentcheck.Reply
	require.NoError(t, r.UnmarshalText([]byte("up ready 75%")), "a text needs no line end")
	require.Equal(t, reply{State: up, Admin: ready, Weight: percent(75)}, r)
	require.NoError(t, r.UnmarshalText([]byte("maint\n")))
	require.Equal(t, reply{Admin: maint}, r)

	for _, bad := range []string{"down bogus", "50%x", "up\x00", strings.Repeat(" ", agentcheck.MaxLine+1)} {
		require.Error(t, r.UnmarshalText([]byte(bad)), "%.20q", bad)
		require.Equal(t, reply{Admin: maint}, r, "an error should change nothing")
	}
}
