package gate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

func TestPicture(t *testing.T) {
	in := input()
	in.Applied = append(in.Applied, applied(map[string]string{"m/tracks": "abd", "m/users": "ef"}))
	in.Nodes[5].Away = "cordoned"
	in.Grants = []gate.Grant{{Node: "d", Holder: "one", Taken: now, TTL: time.Hour}}
	p := newGate(t, in).Picture("eu-1", 0)
	require.Equal(t, "eu-1", p.Title)
	require.Equal(t, []string{"d", "f"}, p.Away)
	require.Equal(t, []string{"c"}, p.Wave, "the second configuration blocks a, b and e")
	require.Len(t, p.Nodes, 6)
	require.Len(t, p.Subsets["m/tracks"], 4, "the nodes of both configurations")
	require.Len(t, p.Blocked, 2)
	require.Len(t, in.Applied[0].Subsets["m/tracks"], 3, "the input has changed")
}
