package fairshare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type member struct{ entry Entry[*member] }

func (m *member) ShareEntry() *Entry[*member] { return &m.entry }
func (m *member) Idle() time.Duration         { return 0 }

// A source without connections takes no place in the Table, and its memory is used again.
func TestSourcesWithoutConnections(t *testing.T) {
	var tab Table[*member]
	a, b := new(member), new(member)
	_, err := tab.Add(a, 1, false)
	require.NoError(t, err)
	_, err = tab.Add(b, 1, false)
	require.NoError(t, err)
	tab.Remove(a)
	require.Len(t, tab.sources, 1)
	require.NoError(t, tab.Move(b, 2, false))
	require.Len(t, tab.sources, 1)
	tab.Remove(b)
	require.Empty(t, tab.sources)
	require.Empty(t, tab.byWeight.sources)
	require.Empty(t, tab.byWaiting.sources)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = tab.Add(a, 3, false)
		_, _ = tab.Serve(a)
		tab.Remove(a)
	}))
}
