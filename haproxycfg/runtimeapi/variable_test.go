package runtimeapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

func TestSetVariable(t *testing.T) {
	t.Parallel()
	var got string
	answer := "\nproc.n: type=sint value=<7>\n"
	s := runtimeapi.Socket{Path: haproxytest.FakeSocket(t, "unix", func(command string) string { got = command; return answer })}
	require.NoError(t, s.SetVariable(t.Context(), "n", 7))
	require.Equal(t, "experimental-mode on; set var proc.n int(7); get var proc.n", got)
	require.ErrorContains(t, s.SetVariable(t.Context(), "n", 70), "set var proc.n: HAProxy answers")
	for _, name := range []string{"a;b", "a b", "a)\n", "a)"} {
		require.ErrorIs(t, s.SetVariable(t.Context(), name, 1), runtimeapi.ErrCommand)
	}
	n, err := s.Variable(t.Context(), "n")
	require.NoError(t, err)
	require.Equal(t, 7, n)
	s.Worker = "@1"
	require.ErrorIs(t, s.SetVariable(t.Context(), "n", 1), runtimeapi.ErrCommand)
}

func TestVariableWithoutNumber(t *testing.T) {
	t.Parallel()
	answer := ""
	s := runtimeapi.Socket{Path: haproxytest.FakeSocket(t, "unix", func(string) string { return answer })}
	for _, answer = range []string{"", "Variable not found.\n", "proc.n: type=str value=<7>\n", "proc.n: type=sint value=<\n"} {
		_, err := s.Variable(t.Context(), "n")
		require.ErrorContains(t, err, "get var proc.n: HAProxy answers", answer)
	}
	_, err := s.Variable(t.Context(), "a;b")
	require.ErrorIs(t, err, runtimeapi.ErrCommand)
}
